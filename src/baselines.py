"""Traditional methods on the same rows: `python src/baselines.py data=iris`, or `run=outputs/wine/<date_time>`."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mlplab.cli import job, plain_errors


@hydra.main(version_base="1.3", config_path="../conf", config_name="baselines")
def main(values: DictConfig) -> None:
    with job():
        from mlplab.compose import to_tool
        from mlplab.config.tools import Baselines

        chosen, config = to_tool(values, Baselines)
        from mlplab.baselines import Scored, check_file, of_run, score_methods, table, write
        from mlplab.data.prepared import prepare
        from mlplab.reports.tables import show_table

        scored: list[Scored] = []
        file = Path(chosen.file) if chosen.file else None
        if file:
            check_file(file)
        if chosen.run is None:
            prepared, seed, title = prepare(config.data), config.seed, config.data.name
        else:
            named = any(text.startswith(("data", "experiment")) for text in HydraConfig.get().overrides.task)
            first, prepared, seed = of_run(Path(chosen.run), prepare(config.data) if named else None)
            scored, title = [first], chosen.run
            file = file or Path(chosen.run) / "baselines.json"
        scored += score_methods(prepared, chosen.methods, seed, chosen.svm_rows)
        header, rows = table(scored)
        show_table(f"{title}: test part, {len(prepared.parts['test'])} rows", header, rows)
        for one in scored:
            if one.note:
                print(f"{one.method}: {one.note}")
        if file:
            write(file, scored, prepared.fingerprint)
            print(f"-> {file}")


if __name__ == "__main__":
    with plain_errors():
        main()
