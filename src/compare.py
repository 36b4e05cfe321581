"""Many runs set side by side: `python src/compare.py runs=outputs/wine/sweep_<date_time>`."""

import hydra
from omegaconf import DictConfig

from mlplab.cli import job, whole_process
from mlplab.config.tools import Compare


@hydra.main(version_base="1.3", config_path="../conf/compare", config_name="compare")
def main(values: DictConfig) -> None:
    with job():
        from mlplab.compose import to_own

        chosen = to_own(values, Compare)
        from mlplab.compare import answer

        answer(chosen)


if __name__ == "__main__":
    with whole_process(Compare.model_fields):
        main()
