"""Spreads the jobs of a sweep over the processes of an engine: some jobs a task, whatever becomes of the processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

from mlplab import runs
from mlplab.config import Config
from mlplab.fused.halving import Halving
from mlplab.signals import Interrupted, interruptible
from mlplab.sweeps.engines import Engine, Task, WorkerDied
from mlplab.sweeps.engines.worker import travelling

MOST_IN_TASK = 100
"""Jobs of a task where nobody says how many: about what one chunk on a CPU holds, and a minute's loss at most."""
NOTES = ".tasks"
"""Folder below the sweep's in which each task says what it is training."""

Batch = Callable[..., list[Any]]


def shares(configs: Sequence[Config], size: int) -> list[list[int]]:
    """Job numbers of each task: even shares of at most `size`, jobs of like settings together."""

    def kind(i: int) -> tuple[str, ...]:
        config = configs[i]
        return config.model.model_dump_json(), config.optimizer.name, config.data.model_dump_json()

    order = sorted(range(len(configs)), key=kind)
    tasks = -(-len(order) // size)
    even = -(-len(order) // tasks)
    return [sorted(order[i : i + even]) for i in range(0, len(order), even)]


def spread(
    batch: Batch,
    configs: Sequence[Config],
    folders: Sequence[Path],
    engine: Engine,
    sweep: Path,
    max_jobs: int | None = None,
    jobs_per_task: int | None = None,
    halving: Halving | None = None,
) -> list[Any]:
    """Outcomes of all jobs, in their order; a process that dies takes only the job with it that it was training.

    A task is `batch` over some of the jobs. Which jobs make a task depends on the jobs, `jobs_per_task` and the number
    of workers, and never on the engine.

    Args:
        sweep: the sweep's folder, which all processes see.
        jobs_per_task: at most so many; None deals them out evenly, so that every worker has some.
        halving: handed to each task, which stops those of its own networks that are behind.

    Raises:
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM; no process is left.
    """
    size = jobs_per_task or min(MOST_IN_TASK, -(-len(configs) // engine.workers))
    with suppress(FileNotFoundError):
        shutil.rmtree(sweep / NOTES)
    try:
        with interruptible():
            return _Spread(batch, configs, folders, engine, sweep, max_jobs, halving).run(shares(configs, size))
    except Interrupted as error:
        error.leave()
    finally:
        shutil.rmtree(sweep / NOTES, ignore_errors=True)


class _Spread:
    def __init__(
        self,
        batch: Batch,
        configs: Sequence[Config],
        folders: Sequence[Path],
        engine: Engine,
        sweep: Path,
        max_jobs: int | None,
        halving: Halving | None,
    ) -> None:
        self.batch, self.configs, self.folders = batch, configs, folders
        self.engine, self.sweep, self.max_jobs = engine, sweep, max_jobs
        self.more = {"halving": halving} if halving else {}
        self.outcomes: list[Any] = [self._finished(i) for i in range(len(folders))]
        self.retried: set[int] = set()
        self.notes: Iterator[Path] = (sweep / NOTES / f"{i}.json" for i in count())

    def _finished(self, i: int) -> runs.Result | None:
        return runs.finished(self.folders[i], pruned=bool(self.more))

    def run(self, parts: list[list[int]]) -> list[Any]:
        """Rounds of tasks: what a dead process left undone is the next round's."""
        parts = self._open(parts)
        print(f"{len(self.configs)} jobs in {len(parts)} tasks, {self.engine.workers} at once", flush=True)
        while parts:
            notes = [next(self.notes) for _ in parts]
            tasks = [self._task(part, note) for part, note in zip(parts, notes, strict=True)]
            again: list[list[int]] = []
            with closing(self.engine.run(tasks, self.sweep)) as ended:
                for number, found in ended:
                    if isinstance(found, WorkerDied):
                        again += self._died(parts[number], notes[number], found)
                    else:
                        self._ended(parts[number], found)
                    done = sum(outcome is not None for outcome in self.outcomes)
                    print(f"{done} of {len(self.outcomes)} jobs have ended", flush=True)
                    if (stopper := self._stopper()) is not None:
                        return [self._not_started(stopper) if o is None else o for o in self.outcomes]
            parts = self._open(again)
        return self.outcomes

    def _open(self, parts: list[list[int]]) -> list[list[int]]:
        return [part for part in parts if any(self.outcomes[i] is None for i in part)]

    def _task(self, part: list[int], note: Path) -> Task:
        configs, folders = [self.configs[i] for i in part], [self.folders[i] for i in part]
        return Task(train, (self.batch, configs, folders, self.max_jobs, self.engine.threads, note, self.more))

    def _ended(self, part: list[int], found: Any) -> None:
        from mlplab.sweeps.run import NotStarted

        for place, i in enumerate(part):
            outcome = found if isinstance(found, Exception) else found[place]
            if self.outcomes[i] is None and not isinstance(outcome, NotStarted):  # which the others are told as well
                self.outcomes[i] = outcome

    def _died(self, part: list[int], note: Path, error: WorkerDied) -> list[list[int]]:
        """Note what a dead process did and did not do; what is to be tried again."""
        from mlplab.sweeps.unfinished import NAME

        left = [i for i in part if self.outcomes[i] is None]
        for i in left:
            self.outcomes[i] = self._finished(i)
        lost = [i for i in left if self.outcomes[i] is None]
        training = {part[place] for place in _read(note)}
        guilty = [i for i in lost if i in training]
        if not guilty and len(lost) < len(left):  # it died between two jobs
            return [part]
        states = [path for i in part if (path := self.folders[i] / NAME).is_file()]
        guilty, chunk = guilty or lost, len(guilty) > 1
        again = {i for i in guilty if (chunk and states) or self.configs[i].on_error == "retry"} - self.retried
        self.retried |= again
        if chunk and again:
            return [part]  # the same once more, from the state that it left
        if chunk:  # the half without the guilty one will do, and so will less memory
            for path in states:
                path.unlink(missing_ok=True)  # of a chunk that will not be again
            half = len(guilty) // 2
            return [guilty[:half], guilty[half:], [i for i in part if i not in guilty]]
        for i in set(guilty) - again:
            self.outcomes[i] = self._fail(i, error)
        return [part if again else [i for i in part if i not in guilty]]  # finished ones train along as before

    def _fail(self, i: int, error: WorkerDied) -> Exception:
        from mlplab.sweeps.run import failed

        with suppress(ValueError, KeyError, TypeError):
            if runs.read_result(self.folders[i]).status == "interrupted":
                return error  # it has left a checkpoint to go on from
        return failed(self.configs[i], self.folders[i], error)

    def _stopper(self) -> int | None:
        stops = (i for i, o in enumerate(self.outcomes) if isinstance(o, Exception))
        return next((i for i in stops if self.configs[i].on_error == "stop"), None)

    def _not_started(self, stopper: int) -> Exception:
        from mlplab.sweeps.run import NotStarted

        return NotStarted(f"not started: job {stopper} failed and on_error=stop")


def _read(note: Path) -> list[int]:
    with suppress(OSError, ValueError):
        return [int(i) for i in json.loads(note.read_text())]
    return []


def train(
    batch: Batch,
    configs: list[Config],
    folders: list[Path],
    max_jobs: int | None,
    threads: int,
    note: Path,
    more: dict[str, Any],
) -> list[Any]:
    """One task, in a process of an engine; it writes down which of its jobs it begins."""
    import torch

    torch.set_num_threads(threads)
    if torch.cuda.is_available() and not torch.cuda.is_initialized():
        torch.cuda.set_device(int(note.stem) % torch.cuda.device_count())

    def tell(what: str, jobs: dict[int, Any]) -> None:
        if what == "begin":
            runs.write_atomic(note, json.dumps(list(jobs)).encode())

    return [travelling(outcome) for outcome in batch(configs, folders, max_jobs, tell=tell, **more)]
