"""Jobs of a program without a batch function on an engine: each is a task of its own, run by Hydra's own code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from mlplab.signals import Interrupted, interruptible
from mlplab.sweeps.engines import Engine, Task
from mlplab.sweeps.engines.worker import travelling

log = logging.getLogger(__name__)


def launch_jobs(launcher: Any, engine: Engine, job_overrides: list[list[str]], first: int) -> list[JobReturn]:
    """Run every job as a task; one that fails or dies takes no other with it."""
    engine.start()
    common = launcher.hydra_context, launcher.task_function, launcher.config, Singleton.get_state(), engine.threads
    tasks = []
    for i, overrides in enumerate(job_overrides):
        log.info("\t#%d : %s", first + i, " ".join(filter_overrides(overrides)))
        tasks.append(Task(one_job, (*common, overrides, first + i)))
    returns = [_failed(overrides, RuntimeError("not run")) for overrides in job_overrides]
    try:
        sweep = Path(str(launcher.config.hydra.sweep.dir))
        with interruptible(), closing(engine.run(tasks, sweep)) as ended:
            for i, found in ended:
                returns[i] = _failed(job_overrides[i], found) if isinstance(found, Exception) else found
    except Interrupted as told:
        told.leave()
    configure_log(launcher.config.hydra.hydra_logging, launcher.config.hydra.verbose)
    for i, (done, overrides) in enumerate(zip(returns, job_overrides, strict=True)):
        if done.status == JobStatus.FAILED:
            error = done._return_value
            what = " ".join(filter_overrides(overrides))
            print(f"job {first + i} ({what}) failed: {type(error).__name__}: {error}", file=sys.stderr)
    return returns


def _failed(overrides: list[str], error: Exception) -> JobReturn:
    return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=error)


def one_job(
    hydra_context: HydraContext,
    task_function: TaskFunction,
    config: DictConfig,
    singletons: Mapping[Any, Any],
    threads: int,
    overrides: list[str],
    number: int,
) -> JobReturn:
    """A job in a process of an engine, as Hydra would have run it in the first one."""
    setup_globals()
    Singleton.set_state(dict(singletons))
    composed = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = number
    HydraConfig.instance().set_config(composed)
    done = run_job(
        hydra_context=hydra_context,
        task_function=task_function,
        config=composed,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    done._return_value = travelling(done._return_value)
    return done
