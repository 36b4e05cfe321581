"""submitit: tasks as jobs of Slurm, or as processes of this machine with the same files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlplab.config.base import SettingError
from mlplab.config.launching import Launching
from mlplab.sweeps.engines import SLURM_TASKS, Task, WorkerDied, on_this_machine
from mlplab.sweeps.engines.worker import Place, pass_on_path, run

FOLDER = ".submitit"
"""Below the sweep's folder: submitted tasks, what they returned and their logs, a file each."""
SECONDS_TO_LEAVE = 2.0
"""What processes of this machine that are told to end have to write their checkpoints."""
NO_LIMIT = 60 * 24 * 365
"""Minutes: a year, for processes of this machine."""


class Submitit:
    """Tasks that submitit submits; each has a process of its own."""

    def __init__(self, settings: Launching) -> None:
        self.settings, self.slurm = settings, settings.cluster == "slurm"
        self.gone: set[int] = set()
        if self.slurm and shutil.which("sbatch") is None:
            raise SettingError(
                "hydra.launcher.cluster=slurm needs Slurm's sbatch, which is not found here: start the sweep on the "
                "cluster's login node, or take hydra/launcher=submitit_local"
            )
        if self.slurm:
            self.workers = SLURM_TASKS if settings.workers == "auto" else settings.workers
            self.threads = 1 if settings.cpus_per_task == "auto" else settings.cpus_per_task
        else:
            self.workers, self.threads = on_this_machine(settings)

    def start(self) -> None:
        """Nothing: every task has a process of its own."""

    def _executor(self, folder: Path) -> Any:
        import submitit

        wanted = self.settings.slurm
        executor = submitit.AutoExecutor(folder=folder.absolute() / FOLDER / "%j", cluster=self.settings.cluster)
        executor.update_parameters(
            name="mlplab",
            timeout_min=wanted.timeout_min if self.slurm else NO_LIMIT,
            cpus_per_task=self.threads,
            gpus_per_node=self.settings.gpus_per_task,
        )
        if self.slurm:
            named = ("partition", "account", "qos", "constraint", "mem")
            given = {f"slurm_{name}": value for name in named if (value := getattr(wanted, name)) is not None}
            executor.update_parameters(
                slurm_array_parallelism=self.workers,
                slurm_setup=wanted.setup or None,
                slurm_additional_parameters=wanted.more,
                **given,
            )
        return executor

    def run(self, tasks: Sequence[Task], folder: Path) -> Generator[tuple[int, Any], None, None]:
        """See Engine."""
        executor, place = self._executor(folder), Place.here()
        pass_on_path()  # sbatch passes the environment on
        self.gone = set()
        waiting = list(range(len(tasks)))
        running: dict[int, Any] = {}
        at_once = len(tasks) if self.slurm else self.workers  # Slurm keeps to array_parallelism by itself
        try:
            while waiting or running:
                if waiting and len(running) < at_once:
                    batch, waiting = waiting[: at_once - len(running)], waiting[at_once - len(running) :]
                    with _out_of_reach_of_ctrl_c(), executor.batch():
                        jobs = [executor.submit(Requeued(), place, tasks[number]) for number in batch]
                    running |= dict(zip(batch, jobs, strict=True))
                ended = self._ended(running)
                if not ended:
                    time.sleep(2.0 if self.slurm else 0.1)
                for number in ended:
                    yield number, self._outcome(running.pop(number))
        finally:
            self._end(list(running.values()))

    def _end(self, jobs: list[Any]) -> None:
        if self.slurm:
            for job in jobs:
                job.cancel(check=False)
            return
        for job in jobs:
            job._process.terminate()  # job.cancel() would have its process show a traceback
        last = time.monotonic() + SECONDS_TO_LEAVE
        while time.monotonic() < last and not all(job.done() for job in jobs):
            time.sleep(0.02)

    def _ended(self, running: dict[int, Any]) -> list[int]:
        """Tasks that have ended: by their results; in Slurm also those that have left its queue without one."""
        if not self.slurm:
            return [number for number, job in running.items() if job.done()]
        there = [number for number, job in running.items() if job.paths.result_pickle.exists()]
        if there or (queued := _queue()) is None:
            return there
        before, self.gone = self.gone, {number for number, job in running.items() if job.job_id not in queued}
        return sorted(self.gone & before)  # a look later: its file may have been on its way

    def _outcome(self, job: Any) -> Any:
        import submitit

        died = WorkerDied(f"the process that ran it ended; its log: {job.paths.stderr}")
        if not job.paths.result_pickle.exists():
            return died
        try:
            return job.result()
        except submitit.core.utils.FailedJobError as error:
            return RuntimeError(str(error))
        except submitit.core.utils.UncompletedJobError:
            return died

    def close(self) -> None:
        """Nothing: a task's process ends with it."""


def _queue() -> set[str] | None:
    """Numbers of the tasks that wait or run in Slurm; None where it does not answer. submitit would ask sacct, which
    not every cluster has."""
    asked = subprocess.run(["squeue", "-h", "-r", "-o", "%i"], capture_output=True, text=True, check=False)
    return set(asked.stdout.split()) if asked.returncode == 0 else None


@contextmanager
def _out_of_reach_of_ctrl_c() -> Iterator[None]:
    """Processes started inside never get SIGINT: the first process ends them, without a traceback each."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Requeued:
    """`call`, put into the queue again by submitit where Slurm wants the machine back or a task's time is up: it leaves
    a checkpoint, and its jobs go on from there."""

    def __call__(self, place: Place, task: Task) -> Any:
        """Run the task."""
        requeue: Any = signal.getsignal(signal.SIGUSR2)  # submitit's, for a signal that Slurm sends in good time
        asked = False

        def leave(*_: Any) -> None:
            nonlocal asked
            asked = True
            if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
                raise SystemExit(143)
            os.kill(os.getpid(), signal.SIGTERM)  # whoever listens leaves a checkpoint and ends

        signal.signal(signal.SIGUSR2, leave)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which submitit ignores
        try:
            return run(place, task)
        except SystemExit:
            if asked:
                requeue(signal.SIGUSR2, None)
            raise

    def checkpoint(self, place: Place, task: Task) -> Any:
        """What submitit puts into the queue."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, place, task)
