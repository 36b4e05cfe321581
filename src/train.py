"""Train a network: `python src/train.py optimizer=adam model.hidden=64`; `-m` sweeps; `--help` lists the options."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mlplab.cli import job, plain_errors


def train(values: DictConfig) -> float | None:
    with job():
        from mlplab.compose import to_config
        from mlplab.experiment import run
        from mlplab.reports.summary import show

        hydra_values = HydraConfig.get()
        in_sweep = hydra_values.mode == RunMode.MULTIRUN
        result = run(to_config(values), Path(hydra_values.runtime.output_dir), progress=True, in_sweep=in_sweep)
        show(result)
        if result.status != "completed" and not in_sweep:
            raise SystemExit(1)
    return result.objective


train.batch_function = "mlplab.sweeps.run.run_batch"  # type: ignore[attr-defined]  # read by hydra/launcher=fused

if __name__ == "__main__":
    with plain_errors():
        hydra.main(version_base="1.3", config_path="../conf", config_name="train")(train)()
