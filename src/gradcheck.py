"""Compare a network's gradients with finite differences: `python src/gradcheck.py model=numpy_mlp activation=elu`."""

import hydra
from omegaconf import DictConfig

from mlplab.cli import job, whole_process
from mlplab.config.tools import GradientCheck


@hydra.main(version_base="1.3", config_path="../conf", config_name="gradcheck")
def main(values: DictConfig) -> None:
    with job():
        from mlplab.compose import to_tool

        how, config = to_tool(values, GradientCheck)
        import torch

        from mlplab.data.prepared import prepare
        from mlplab.reports.tables import show_table
        from mlplab.training.gradients import Checked, check_gradients

        checked = check_gradients(config, prepare(config.data, torch.float64), how)
        show_table(f"Gradients of {config.name}, the worst parameter first", Checked._fields, checked, words=2)
    wrong = [c.parameter for c in checked if not c.error <= how.tolerance]
    print(f"wrong: {', '.join(wrong)}" if wrong else f"right to {how.tolerance:g}")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    with whole_process(GradientCheck.model_fields):
        main()
