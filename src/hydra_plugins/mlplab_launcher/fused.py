"""Hydra's door to mlplab.sweeps: a launcher that hands all jobs of a sweep to one function.

This module is executed at every start of every Hydra program that sees the package, before it is in sys.modules: no
heavy import here, and no `from __future__ import annotations` with dataclasses.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

log = logging.getLogger(__name__)


@dataclass
class FusedLauncherConf:
    """Settings of hydra/launcher=fused."""

    _target_: str = "hydra_plugins.mlplab_launcher.fused.FusedLauncher"
    max_jobs: Any = "auto"
    workers: int = 1


ConfigStore.instance().store(group="hydra/launcher", name="fused", node=FusedLauncherConf, provider="mlplab")


class FusedLauncher(Launcher):
    """Runs a program's jobs through its batch function, or one by one where it has none.

    A program offers one by an attribute of its task function, `task.batch_function = "package.module.function"`:
    (checked configs, folders, max_jobs, workers) -> outcome of each job, a result or an exception.

    Args:
        max_jobs: at most so many jobs at once; `auto` leaves it to the batch function.
        workers: processes.
    """

    def __init__(self, max_jobs: Any = "auto", workers: int = 1) -> None:
        self.max_jobs, self.workers = max_jobs, workers
        self.halving: Any = None  # set by a search, for the batch function
        self.config: DictConfig | None = None
        self.task_function: TaskFunction | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function
        self.batch_function: str | None = getattr(task_function, "batch_function", None)
        self.checks_jobs = self.batch_function is not None and not config.hydra.job.chdir

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        assert self.config is not None
        assert self.hydra_context is not None
        assert self.task_function is not None
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        sweep_dir = Path(str(self.config.hydra.sweep.dir))
        sweep_dir.mkdir(parents=True, exist_ok=True)
        if not self.checks_jobs:
            return [self._one(list(o), initial_job_idx + i) for i, o in enumerate(job_overrides)]
        from hydra_plugins.mlplab_launcher._batch import launch_batch

        return launch_batch(self, [list(o) for o in job_overrides], initial_job_idx)

    def _one(self, overrides: list[str], number: int) -> JobReturn:
        assert self.config is not None
        assert self.hydra_context is not None
        assert self.task_function is not None
        log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides)))
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        done = run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return done
