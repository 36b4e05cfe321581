"""Which columns a finished run's network looks at: `python src/explain.py run=outputs/wine/<date_time>`."""

import hydra
from omegaconf import DictConfig

from mlplab.cli import job, whole_process
from mlplab.config.tools import Explain

SHOWN = 20


@hydra.main(version_base="1.3", config_path="../conf", config_name="explain")
def main(values: DictConfig) -> None:
    with job():
        from mlplab.compose import to_own

        chosen = to_own(values, Explain)
        from mlplab.explain import explain
        from mlplab.reports.tables import show_table

        explained = explain(chosen)
        rows = [(one.name, one.mean, one.deviation) for one in explained.importances[:SHOWN]]
        show_table(explained.title, (explained.what, "importance", "spread"), rows)
        if (left := len(explained.importances) - SHOWN) > 0:
            print(f"and {left} more in {explained.files[0]}")
        for file in explained.files:
            print(f"-> {file}")


if __name__ == "__main__":
    with whole_process(Explain.model_fields):
        main()
