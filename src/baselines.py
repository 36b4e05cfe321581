"""Traditional methods on the same rows: `python src/baselines.py data=iris`, or `run=outputs/wine/<date_time>`."""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mlplab.cli import job, whole_process
from mlplab.config.tools import Baselines


@hydra.main(version_base="1.3", config_path="../conf", config_name="baselines")
def main(values: DictConfig) -> None:
    with job():
        from mlplab.compose import to_tool

        chosen, config = to_tool(values, Baselines)
        from mlplab.baselines import compare, table
        from mlplab.reports.tables import show_table

        data_given = any(text.startswith(("data", "experiment")) for text in HydraConfig.get().overrides.task)
        compared = compare(chosen, config, data_given)
        show_table(compared.title, *table(compared.scored))
        for one in compared.scored:
            if one.note:
                print(f"{one.method}: {one.note}")
        if compared.file:
            print(f"-> {compared.file}")


if __name__ == "__main__":
    with whole_process(Baselines.model_fields):
        main()
