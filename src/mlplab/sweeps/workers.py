"""Chunks of a sweep in several processes: on the cores of one machine, or one process a GPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from mlplab.config import Config
from mlplab.signals import Interrupted


def shares(configs: Sequence[Config], workers: int) -> list[list[int]]:
    """Job numbers for each worker: even shares, jobs of like settings kept together."""
    order = sorted(range(len(configs)), key=lambda i: (configs[i].model.model_dump_json(), configs[i].optimizer.name))
    size = -(-len(order) // workers)
    return [sorted(order[i : i + size]) for i in range(0, len(order), size)]


class WorkerDied(RuntimeError):
    """The process that trained a job ended without a word."""


@dataclass
class _Worker:
    process: Any
    part: list[int]
    """Numbers of the jobs that it was given."""
    training: set[int] = field(default_factory=set)
    """Those that it has begun and not ended."""


class _Pool:
    """Worker processes, each with a pipe on which it says what it begins and what it has done."""

    def __init__(
        self, configs: Sequence[Config], folders: Sequence[Path], max_jobs: int | None, n: int, halving: Any
    ) -> None:
        self.configs, self.folders, self.max_jobs, self.n = configs, folders, max_jobs, n
        self.halving = halving
        self.outcomes: list[Any] = [None] * len(configs)
        self.context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self.running: dict[Connection, _Worker] = {}
        self.retried: set[int] = set()

    def start(self, part: list[int]) -> None:
        """A process for some jobs."""
        here, there = self.context.Pipe(duplex=False)
        configs, folders = [self.configs[i] for i in part], [self.folders[i] for i in part]
        arguments = there, configs, folders, self.max_jobs, len(self.running), self.n, self.halving
        process = self.context.Process(target=_share, args=arguments)
        process.start()
        there.close()
        self.running[here] = _Worker(process, part)

    def follow(self) -> None:
        """Listen until all workers have ended; a dead one's other jobs go to a new one."""
        from mlplab.sweeps.run import NotStarted

        while self.running:
            for ready in wait(list(self.running)):
                assert isinstance(ready, Connection)
                worker = self.running[ready]
                try:
                    what, jobs = ready.recv()
                except EOFError:
                    del self.running[ready]
                    self._ended(worker)
                    continue
                told = {worker.part[i]: outcome for i, outcome in jobs.items()}
                if what == "begin":
                    worker.training = set(told)
                    continue
                worker.training -= told.keys()
                for i, outcome in told.items():
                    self.outcomes[i] = outcome
                    if self.configs[i].on_error == "stop" and isinstance(outcome, Exception):
                        self.kill()
                        why = f"not started: job {i} failed and on_error=stop"
                        self.outcomes = [NotStarted(why) if o is None else o for o in self.outcomes]

    def _ended(self, worker: _Worker) -> None:
        from mlplab.sweeps.run import failed

        worker.process.join()
        code = worker.process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"
        lost = [i for i in worker.part if self.outcomes[i] is None]
        guilty = [i for i in lost if i in worker.training] or lost
        again = {i for i in guilty if self.configs[i].on_error == "retry"} - self.retried
        self.retried |= again
        for i in set(guilty) - again:
            error = WorkerDied(f"the process that trained it {how}")
            self.outcomes[i] = failed(self.configs[i], self.folders[i], error)
        if again or len(guilty) < len(lost):  # finished jobs go along, for the others to train with
            self.start([i for i in worker.part if not isinstance(self.outcomes[i], Exception)])

    def interrupt(self) -> None:
        """Let all workers write the state of their training, for most of the second that an end may take."""
        for worker in self.running.values():
            worker.process.terminate()
        end = time.monotonic() + 0.7
        for worker in self.running.values():
            worker.process.join(max(0.0, end - time.monotonic()))

    def kill(self) -> None:
        """End all workers."""
        for worker in self.running.values():
            worker.process.kill()
            worker.process.join()
        self.running.clear()


def run_in_workers(
    configs: Sequence[Config], folders: Sequence[Path], max_jobs: int | None, workers: int, halving: Any = None
) -> list[Any]:
    """Outcomes of all jobs, in their order; a worker that dies takes only the jobs with it that it was training.

    Args:
        halving: each worker stops those of its own networks that are behind.
    """
    parts = shares(configs, workers)
    pool = _Pool(configs, folders, max_jobs, len(parts), halving)
    try:
        for part in parts:
            pool.start(part)
        pool.follow()
    except Interrupted:
        pool.interrupt()
        raise
    finally:
        pool.kill()
    return pool.outcomes


def _share(
    pipe: Connection,
    configs: list[Config],
    folders: list[Path],
    max_jobs: int | None,
    worker: int,
    workers: int,
    halving: Any,
) -> None:
    import torch

    from mlplab.sweeps.run import run_batch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    if torch.cuda.is_available():
        torch.cuda.set_device(worker % torch.cuda.device_count())

    def tell(what: str, jobs: dict[int, Any]) -> None:
        pipe.send((what, {i: _travelling(outcome) for i, outcome in jobs.items()}))

    try:
        outcomes = run_batch(configs, folders, max_jobs, tell=tell, halving=halving)
    except (KeyboardInterrupt, SystemExit):
        os._exit(130)  # the first process has been told too
    tell("done", dict(enumerate(outcomes)))


def _travelling(outcome: Any) -> Any:
    return RuntimeError(str(outcome)) if isinstance(outcome, Exception) and not _travels(outcome) else outcome


def _travels(error: Exception) -> bool:
    """Whether an exception can be handed to another process."""
    import pickle

    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True
