"""joblib's pool of processes (loky), which replaces processes that have died."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from mlplab.config.launching import Launching
from mlplab.sweeps.engines import SECONDS_TO_LEAVE, Task, WorkerDied, on_this_machine
from mlplab.sweeps.engines.worker import Place, how_it_ended, run


class Joblib:
    """A pool that is kept for the next call.

    Where one process of a pool is killed, all of its tasks end with it and none says which was to blame: those that
    ran are run again, each in a pool of its own, and only one that dies there too is lost.
    """

    def __init__(self, settings: Launching) -> None:
        self.workers, self.threads = on_this_machine(settings)
        self.pool: Any = None

    def start(self) -> None:
        """Nothing: processes start when there is work for them."""

    def run(self, tasks: Sequence[Task], folder: Path) -> Generator[tuple[int, Any], None, None]:
        """See Engine."""
        from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

        waiting, place = deque(range(len(tasks))), Place.here()
        running: dict[Future[Any], int] = {}
        try:
            while waiting or running:
                if self.pool is None:
                    self.pool = ProcessPoolExecutor(self.workers, initializer=_hear_nothing)
                while waiting and len(running) < self.workers:
                    number = waiting.popleft()
                    running[self.pool.submit(_stay, place, tasks[number])] = number
                suspects = []
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number = running.pop(future)
                    try:
                        outcome = future.result()
                    except BrokenProcessPool:
                        suspects.append(number)
                    else:
                        yield number, outcome
                if suspects:
                    suspects += running.values()
                    running.clear()
                    self.close()
                for number in suspects:
                    self.pool = ProcessPoolExecutor(1, initializer=_hear_nothing)
                    try:
                        outcome = self.pool.submit(_stay, place, tasks[number]).result()
                    except BrokenProcessPool as error:
                        outcome = WorkerDied(f"the process that ran it was ended: {_codes(error)}")
                    self.close()
                    yield number, outcome
        finally:
            if running or waiting:
                self._let_write(running)
                self.close()

    def _let_write(self, running: Iterable[Future[Any]]) -> None:
        """Have tasks write the state of their training; the pool's shutdown alone would kill them."""
        if self.pool is not None:
            for process in list((self.pool._processes or {}).values()):
                process.terminate()
            wait(running, timeout=SECONDS_TO_LEAVE)

    def close(self) -> None:
        """End all processes."""
        if self.pool is not None:
            self.pool.shutdown(wait=True, kill_workers=True)
            self.pool = None


def _hear_nothing() -> None:
    """Between tasks, signals do nothing: the first process ends the pool, and one that ends makes loky kill all."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: None)


def _stay(place: Place, task: Task) -> Any:
    """`call`, but one that leaves Python leaves the process to the pool: when one ends, loky kills the others."""
    try:
        return run(place, task)
    except SystemExit as leaving:
        return WorkerDied(f"the process that ran it {how_it_ended(leaving.code)}")
    except KeyboardInterrupt:
        return WorkerDied("the process that ran it was told to end")


def _codes(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line.startswith("The exit codes")), lines[0])
