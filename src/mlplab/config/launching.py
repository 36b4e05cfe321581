"""Settings of hydra/launcher=fused and its like: where the jobs of a sweep run; their defaults are in the launcher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt, ValidationError

from mlplab.config.base import SettingError, Settings
from mlplab.config.messages import explain


class Slurm(Settings):
    """What Slurm is asked for; null leaves it to the cluster."""

    partition: str | None
    """Partition, as sbatch's --partition."""
    account: str | None
    """Account to charge."""
    qos: str | None
    """Quality of service."""
    constraint: str | None
    """Features that a node must have."""
    mem: str | None
    """Memory of a task, such as 8GB."""
    timeout_min: PositiveInt
    """Minutes after which a task is ended."""
    setup: list[str]
    """Shell lines before Python starts, such as `module load cuda`."""
    more: dict[str, Any]
    """Any other option of sbatch, such as {exclude: node7}."""


class Launching(Settings):
    """Where the jobs of a sweep run."""

    engine: Literal["local", "joblib", "ray", "submitit"]
    """What starts and watches the processes: mlplab itself, joblib's pool, a Ray cluster, or submitit."""
    max_jobs: Literal["auto"] | PositiveInt
    """Networks that train as one program, at most; auto goes by caches and memory."""
    workers: Literal["auto"] | PositiveInt
    """Tasks at once. auto: local 1, in this process; Slurm 100; else what the cores allow."""
    jobs_per_task: Literal["auto"] | PositiveInt
    """Jobs that a worker is handed at once; auto deals them out evenly, 100 to a task at most."""
    cpus_per_task: Literal["auto"] | PositiveInt
    """Threads of a task, which Ray and Slurm reserve for it; auto shares this machine's cores, elsewhere 1."""
    gpus_per_task: NonNegativeInt
    """GPUs that Ray and Slurm reserve for a task; local and joblib deal the machine's GPUs out among the workers."""
    ray_address: str | None
    """A running Ray cluster, such as auto or ray://head:10001; null starts one on this machine."""
    cluster: Literal["slurm", "local"]
    """What submitit submits to: Slurm, or processes of this machine."""
    slurm: Slurm


class _Hydra(Settings):
    """The part of Hydra's own settings that is checked."""

    launcher: Launching


class _Root(Settings):
    """Gives a mistake its whole path."""

    hydra: _Hydra


def check_launching(values: Mapping[str, Any]) -> Launching:
    """The launcher's settings.

    Raises:
        SettingError: one of them is not allowed.
    """
    try:
        return _Root.model_validate({"hydra": {"launcher": dict(values)}}).hydra.launcher
    except ValidationError as error:
        raise SettingError(explain(error, _Root)) from None
