"""joblib's pool of processes (loky), which replaces processes that have died."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from mlplab.config.launching import Launching
from mlplab.sweeps.engines import Task, WorkerDied, end, on_this_machine
from mlplab.sweeps.engines.worker import Place, call


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
                    self.pool = ProcessPoolExecutor(self.workers)
                while waiting and len(running) < self.workers:
                    number = waiting.popleft()
                    running[self.pool.submit(call, place, tasks[number])] = number
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
                    self.pool = ProcessPoolExecutor(1)
                    try:
                        outcome = self.pool.submit(call, place, tasks[number]).result()
                    except BrokenProcessPool as error:
                        outcome = WorkerDied(f"the process that ran it was ended: {_codes(error)}")
                    self.close()
                    yield number, outcome
        finally:
            if running or waiting:
                self._let_leave()
                self.close()

    def _let_leave(self) -> None:
        if self.pool is not None:
            end(list((self.pool._processes or {}).values()))  # shutdown leaves them no time

    def close(self) -> None:
        """End all processes."""
        if self.pool is not None:
            self.pool.shutdown(wait=True, kill_workers=True)
            self.pool = None


def _codes(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line.startswith("The exit codes")), lines[0])
