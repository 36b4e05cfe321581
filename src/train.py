"""Train a network: `python src/train.py optimizer=adam model.hidden=64`; `-m` sweeps; `--help` lists the options."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mlplab.cli import job, plain_errors


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(values: DictConfig) -> float | None:
    with job():
        from mlplab.compose import to_config
        from mlplab.experiment import run
        from mlplab.reports.summary import show

        result = run(to_config(values), Path(HydraConfig.get().runtime.output_dir), progress=True)
        show(result)
    return result.objective


if __name__ == "__main__":
    with plain_errors():
        main()
