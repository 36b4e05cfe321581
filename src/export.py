"""One file that runs without mlplab, checked against the run: `python src/export.py run=outputs/wine/<date_time>`."""

import hydra
from omegaconf import DictConfig

from mlplab.cli import job, whole_process
from mlplab.config.tools import Export


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
def main(values: DictConfig) -> None:
    with job():
        from mlplab.compose import to_own

        chosen = to_own(values, Export)
        from mlplab.export import export

        exported = export(chosen)
        print(f"{exported.rows} rows differ from the checkpoint by at most {exported.difference:.1e}")
        if exported.note:
            print(exported.note)
        print(f"-> {exported.file}\n-> {exported.about}")


if __name__ == "__main__":
    with whole_process(Export.model_fields):
        main()
