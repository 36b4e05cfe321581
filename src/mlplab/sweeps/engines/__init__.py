"""What runs the tasks of a sweep in other processes: one small interface, and an engine a file."""

from __future__ import annotations

import atexit
import os
import signal
import time
from collections.abc import Callable, Generator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mlplab.config.base import SettingError
from mlplab.config.launching import Launching

SLURM_TASKS = 100
"""Tasks that Slurm may run at once where nobody says how many."""
SECONDS_TO_LEAVE = 0.7
"""What processes that are told to end have for that: most of the second that the end of a sweep may take."""


class Task(NamedTuple):
    """A function and what it is called with, in a process that an engine provides."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class WorkerDied(RuntimeError):
    """The process that ran a task ended without a word."""


class Engine(Protocol):
    """Runs tasks in other processes.

    Attributes:
        workers: tasks at once.
        threads: of each task.
    """

    workers: int
    threads: int

    def start(self) -> None:
        """Do what has to be done once, such as reaching the cluster; later calls do nothing.

        Raises:
            SettingError: it is out of reach.
        """

    def run(self, tasks: Sequence[Task], folder: Path) -> Generator[tuple[int, Any], None, None]:
        """Each task's position and what it returned, in the order in which they end.

        A task that raised yields its exception, one whose process died a WorkerDied, and none is tried again. Closing
        the iterator ends what still runs.

        Args:
            folder: of the sweep, where an engine may leave its logs.
        """

    def close(self) -> None:
        """End all processes."""


PLACES = {"local": "Local", "joblib": "Joblib", "ray": "Ray", "submitit": "Submitit"}
_open: dict[str, Engine] = {}


def engine_for(settings: Launching) -> Engine | None:
    """The engine of these settings, kept for a search's next batch; None where the jobs run in this process.

    Raises:
        SettingError: its package is not installed, or there is no Slurm here.
    """
    if settings.engine == "local" and settings.workers in ("auto", 1):
        return None
    address = settings.model_dump_json()
    if address not in _open:
        if settings.engine != "local" and find_spec(settings.engine) is None:
            name = settings.engine
            raise SettingError(f'hydra.launcher.engine={name} needs a package: pip install "mlplab[{name}]"')
        module = import_module(f"{__name__}.{settings.engine}")
        atexit.register(close_all)  # now, so that it comes before what the module has registered
        _open[address] = getattr(module, PLACES[settings.engine])(settings)
    return _open[address]


def close_all() -> None:
    """End every engine's processes."""
    while _open:
        _open.popitem()[1].close()


def end(processes: Sequence[Any]) -> None:
    """Have processes write the state of their training and end, and kill those that have not in time."""
    for process in processes:
        process.terminate()
    last = time.monotonic() + SECONDS_TO_LEAVE
    for process in processes:
        process.join(max(0.0, last - time.monotonic()))
    for process in processes:
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_this_machine(settings: Launching) -> tuple[int, int]:
    """Tasks at once and threads of each."""
    cpus = settings.cpus_per_task
    workers = max(1, cores() // (1 if cpus == "auto" else cpus)) if settings.workers == "auto" else settings.workers
    return workers, max(1, cores() // workers) if cpus == "auto" else cpus
