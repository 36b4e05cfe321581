"""Score a finished run again from its folder alone: `python src/evaluate.py run=outputs/wine/<date_time>`."""

import hydra
from omegaconf import DictConfig

from mlplab.cli import job, setting, whole_process


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
def main(values: DictConfig) -> None:
    with job():
        folder = setting(values, "run", "run=outputs/wine/<date_time>")
        from mlplab.evaluate import evaluate
        from mlplab.reports.summary import show_scores

        result = evaluate(folder, list(values.allow_targets))
        show_scores(result.title, result.metrics, result.rows)


if __name__ == "__main__":
    with whole_process():
        main()
