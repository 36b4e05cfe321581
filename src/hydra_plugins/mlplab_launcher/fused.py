"""Hydra's door to mlplab.sweeps: a launcher that hands all jobs of a sweep to one function.

This module is executed at every start of every Hydra program that sees the package, before it is in sys.modules: no
heavy import here, and no `from __future__ import annotations` with dataclasses.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import Container, DictConfig, OmegaConf, open_dict

log = logging.getLogger(__name__)


@dataclass
class SlurmConf:
    """What Slurm is asked for; see mlplab.config.launching."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    mem: str | None = None
    timeout_min: int = 60
    setup: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class FusedLauncherConf:
    """Settings of hydra/launcher=fused and its like; mlplab.config.launching says what each is and may be."""

    _target_: str = "hydra_plugins.mlplab_launcher.fused.FusedLauncher"
    engine: Any = "local"
    max_jobs: Any = "auto"
    workers: Any = "auto"
    jobs_per_task: Any = "auto"
    cpus_per_task: Any = "auto"
    gpus_per_task: Any = 0
    ray_address: str | None = None
    cluster: Any = "slurm"
    slurm: SlurmConf = field(default_factory=SlurmConf)


for name, engine, cluster in (
    ("fused", "local", "slurm"),
    ("joblib", "joblib", "slurm"),
    ("ray", "ray", "slurm"),
    ("submitit_slurm", "submitit", "slurm"),
    ("submitit_local", "submitit", "local"),
):
    node = FusedLauncherConf(engine=engine, cluster=cluster)
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=node, provider="mlplab")


class FusedLauncher(Launcher):
    """Runs a program's jobs through its batch function, or one by one where it has none; here, or on an engine.

    A program offers one by an attribute of its task function, `task.batch_function = "package.module.function"`:
    (checked configs, folders, max_jobs) -> outcome of each job, a result or an exception.

    Args:
        settings: those of FusedLauncherConf.
    """

    def __init__(self, **settings: Any) -> None:
        self.given = settings
        self.halving: Any = None  # set by a search, for the batch function
        self.config: DictConfig | None = None
        self.task_function: TaskFunction | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Check the settings and find the engine, before any job is composed."""
        from mlplab.config.launching import check_launching
        from mlplab.runs import discard_if_empty
        from mlplab.sweeps.engines import engine_for

        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function
        self.batch_function: str | None = getattr(task_function, "batch_function", None)
        self.checks_jobs = self.batch_function is not None and not config.hydra.job.chdir
        try:
            self.settings = check_launching(_plain(self.given))
            self.engine = engine_for(self.settings)
        except ValueError:
            discard_if_empty(Path(str(config.hydra.sweep.dir)))
            raise

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        assert self.config is not None
        assert self.hydra_context is not None
        assert self.task_function is not None
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        sweep_dir = Path(str(self.config.hydra.sweep.dir))
        sweep_dir.mkdir(parents=True, exist_ok=True)
        jobs = [list(overrides) for overrides in job_overrides]
        if self.checks_jobs:
            from hydra_plugins.mlplab_launcher._batch import launch_batch

            return launch_batch(self, jobs, initial_job_idx)
        if self.engine is None:
            return [self._one(overrides, initial_job_idx + i) for i, overrides in enumerate(jobs)]
        from hydra_plugins.mlplab_launcher._jobs import launch_jobs

        return launch_jobs(self, self.engine, jobs, initial_job_idx)

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


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {k: OmegaConf.to_container(v) if isinstance(v, Container) else v for k, v in settings.items()}
