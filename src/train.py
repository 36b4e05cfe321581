"""Train a network: `python src/train.py optimizer=adam model.hidden=64`; `-m` sweeps; `--help` lists the options.

`python src/train.py resume=<run folder>` goes on with a run that was killed or interrupted.
"""

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mlplab.cli import finish, job, whole_process
from mlplab.resume import resume, wanted


def train(values: DictConfig) -> float | None:
    with job():
        from mlplab.compose import to_config
        from mlplab.experiment import run
        from mlplab.lock import locked

        hydra_values = HydraConfig.get()
        in_sweep, folder = hydra_values.mode == RunMode.MULTIRUN, Path(hydra_values.runtime.output_dir)
        with locked(folder):
            result = run(to_config(values), folder, progress=True, in_sweep=in_sweep)
        finish(result, in_sweep)
    return result.objective


train.batch_function = "mlplab.sweeps.run.run_batch"  # type: ignore[attr-defined]  # read by hydra/launcher=fused

if __name__ == "__main__":
    with whole_process(own=["resume"]):
        if wanted(sys.argv[1:]):
            finish(resume(sys.argv[1:]))
        else:
            hydra.main(version_base="1.3", config_path="../conf", config_name="train")(train)()
