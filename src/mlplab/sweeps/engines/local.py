"""Processes of mlplab's own on this machine: nothing to install."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from mlplab.config.launching import Launching
from mlplab.sweeps.engines import Task, WorkerDied, end, on_this_machine
from mlplab.sweeps.engines.worker import Place, call, how_it_ended


@dataclass
class _Worker:
    process: Any
    pipe: Connection


class Local:
    """Worker processes, each with a pipe; they are kept for the next call."""

    def __init__(self, settings: Launching) -> None:
        self.workers, self.threads = on_this_machine(settings)
        self.idle: list[_Worker] = []

    def start(self) -> None:
        """Nothing: processes start when there is work for them."""

    def run(self, tasks: Sequence[Task], folder: Path) -> Generator[tuple[int, Any], None, None]:
        """See Engine."""
        waiting, place = deque(enumerate(tasks)), Place.here()
        busy: dict[Connection, tuple[_Worker, int]] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self.workers:
                    worker = self._worker()
                    number, task = waiting.popleft()
                    worker.pipe.send((place, task))
                    busy[worker.pipe] = worker, number
                for pipe in wait(list(busy)):
                    assert isinstance(pipe, Connection)
                    worker, number = busy.pop(pipe)
                    try:
                        outcome = pipe.recv()
                        self.idle.append(worker)
                    except (EOFError, ConnectionResetError):
                        worker.process.join()
                        outcome = WorkerDied(f"the process that ran it {how_it_ended(worker.process.exitcode)}")
                    yield number, outcome
        finally:
            end([worker.process for worker, _ in busy.values()])

    def _worker(self) -> _Worker:
        while self.idle:
            worker = self.idle.pop()
            if worker.process.is_alive():
                return worker
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there,))
        process.start()
        there.close()
        return _Worker(process, here)

    def close(self) -> None:
        """End all processes."""
        end([worker.process for worker in self.idle])
        self.idle = []


def _serve(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others
    while True:
        try:
            place, task = pipe.recv()
        except EOFError:
            return
        pipe.send(call(place, task))
