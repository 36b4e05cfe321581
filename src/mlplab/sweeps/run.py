"""Runs the jobs of a sweep: those that can, in fused groups; the others one by one."""

from __future__ import annotations

import copy
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mlplab import record, runs
from mlplab.config import Config, SettingError
from mlplab.config.fusable import alone_because
from mlplab.data.prepared import Prepared, prepare
from mlplab.fused.chunks import chunk_size, out_of_memory
from mlplab.fused.halving import Halving
from mlplab.fused.plan import Group, Job, plan
from mlplab.fused.trained import Trained
from mlplab.fused.training import FusedTraining
from mlplab.models.build import dtype_of
from mlplab.signals import Interrupted, interruptible
from mlplab.sweeps import recording
from mlplab.sweeps.bar import Bar
from mlplab.sweeps.halves import in_halves
from mlplab.sweeps.unfinished import Unfinished
from mlplab.training import devices
from mlplab.training.checks import check_fits

Outcome = runs.Result | Exception


Tell = Callable[[str, dict[int, Any]], None]


class NotStarted(RuntimeError):
    """A job that on_error=stop kept from starting."""


def run_batch(
    configs: Sequence[Config],
    folders: Sequence[Path],
    max_jobs: int | None = None,
    tell: Tell = lambda what, jobs: None,
    halving: Halving | None = None,
) -> list[Outcome]:
    """Train all jobs of a sweep; each has its own folder and its own outcome, whatever becomes of the others.

    A job whose folder holds the result of an earlier training is not trained again.

    Args:
        max_jobs: at most so many networks at once; None chooses by the caches or the device's memory.
        tell: told `begin` (job numbers) before jobs train and `done` (their outcomes) after.
        halving: stops fused networks that are behind; jobs that run alone run to their end.

    Raises:
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM; what is finished stays, and the same call does the rest.
    """
    before = [runs.finished(folder, pruned=halving is not None) for folder in folders]
    if all(before):
        return [result for result in before if result is not None]
    try:
        with interruptible():
            return _Batch(configs, folders, before, max_jobs, tell, halving).run()
    except Interrupted as error:
        error.leave()


class _Batch:
    """The jobs of one call, in this process."""

    def __init__(
        self,
        configs: Sequence[Config],
        folders: Sequence[Path],
        before: Sequence[runs.Result | None],
        max_jobs: int | None,
        tell: Tell,
        halving: Halving | None,
    ) -> None:
        self.configs, self.folders, self.max_jobs, self.tell = configs, folders, max_jobs, tell
        self.halving = halving
        self.outcomes: list[Outcome | None] = list(before)
        self.alone: list[tuple[int, str]] = []
        self.stopped_by: int | None = None

    def run(self) -> list[Outcome]:
        """Outcomes of all jobs, in their order."""
        groups, _ = plan(self._jobs())
        _announce(groups, self.alone)
        bar = Bar(groups)
        for group in groups:
            self._group(group, bar)
        bar.close()
        for number, _ in self.alone:
            if self._may_start([number]):
                self.tell("begin", {number: None})
                self._end({number: _run_alone(self.configs[number], self.folders[number])})
        return [o if o is not None else RuntimeError("the job was lost") for o in self.outcomes]

    def _jobs(self) -> list[Job]:
        """The jobs that can be fused, finished ones too; the others go to `alone`."""
        jobs: list[Job] = []
        prepared: dict[str, Prepared | SettingError] = {}
        for number, (config, folder) in enumerate(zip(self.configs, self.folders, strict=True)):
            reason = alone_because(config)
            if reason is None:
                address = f"{config.data.model_dump_json(exclude={'batch_size'})} {dtype_of(config)}"
                if address not in prepared:
                    prepared[address] = _prepare(config)
                found = prepared[address]
                try:
                    if isinstance(found, SettingError):
                        raise found
                    check_fits(config, found)
                    config = devices.with_precision(config, devices.resolve(config.accelerator), found)
                except SettingError as error:
                    self.outcomes[number] = self.outcomes[number] or _refused(folder, error)
                    continue
                if (reason := alone_because(config)) is None:
                    assert isinstance(found, Prepared)
                    jobs.append(Job(config, folder, found, number))
                    continue
            if self.outcomes[number] is None:
                self.alone.append((number, reason))
        return jobs

    def _may_start(self, numbers: Sequence[int]) -> bool:
        if self.stopped_by is not None:
            for number in numbers:
                self.outcomes[number] = NotStarted(f"not started: job {self.stopped_by} failed and on_error=stop")
        return self.stopped_by is None

    def _end(self, outcomes: dict[int, Outcome]) -> None:
        for number, outcome in outcomes.items():
            self.outcomes[number] = outcome
            if isinstance(outcome, Exception) and self.configs[number].on_error == "stop":
                self.stopped_by = number
        self.tell("done", dict(outcomes))

    def _group(self, group: Group, bar: Bar) -> None:
        try:
            device = torch.device(devices.resolve(group.jobs[0].config.accelerator))
        except SettingError as error:
            self._end({job.number: _refused(job.folder, error) for job in group.jobs})
            return
        waiting, retried = list(group.jobs), False
        size = self.max_jobs or chunk_size(group, device)
        while waiting:
            chunk, rest = waiting[:size], waiting[size:]
            missing = [job for job in chunk if self.outcomes[job.number] is None]
            if not missing or not self._may_start([job.number for job in missing]):
                bar.chunk_done(len(chunk))
                waiting = rest
                continue
            self.tell("begin", {job.number: None for job in missing})
            unfinished = Unfinished(chunk, bar.report)
            try:
                training, began = self._train(chunk, device, unfinished)
            except Interrupted:
                unfinished.write()
                raise
            except Exception as error:
                unfinished.remove()
                if out_of_memory(error) and len(chunk) > 1:
                    size = len(chunk) // 2  # and again with half as many
                    print(f"{len(chunk)} networks at once do not fit the memory: trying {size}", flush=True)
                    continue
                if chunk[0].config.on_error == "retry" and not retried:
                    retried = True
                    continue
                self._end({job.number: failed(job.config, job.folder, error) for job in missing})
                waiting = rest
                continue
            with runs.flushed_together():
                numbers = {job.number for job in missing}
                ended = [trained for trained in training.all if trained.job.number in numbers]
                written = in_halves(partial(_write, training=training, began=began), ended)
                self._end({trained.job.number: how for trained, how in zip(ended, written, strict=True)})
            unfinished.remove()
            del training  # its memory is the next chunk's
            bar.chunk_done(len(chunk))
            waiting, retried = rest, False

    def _train(self, chunk: list[Job], device: torch.device, unfinished: Unfinished) -> tuple[FusedTraining, float]:
        """A chunk's training, ended, and when it began; nothing of one that fails stays in the memory."""
        # finished jobs of a chunk train along, unrecorded: the last bits depend on whom a network is with
        training = FusedTraining(chunk, device, unfinished.after_epoch, copy.deepcopy(self.halving))
        unfinished.begin(training)
        began = time.time() - training.seconds
        training.run()
        self.halving = training.halving  # a chunk that was begun in vain has not been seen
        return training, began


def _write(trained: Trained, training: FusedTraining, began: float) -> Outcome:
    try:
        return recording.write(trained, training, began)
    except Exception as error:  # a full disk
        return failed(trained.job.config, trained.job.folder, error)


def failed(config: Config, folder: Path, error: Exception) -> Exception:
    """Leave a result.json that says why a job failed, if the disk has room for it."""
    told = "".join(traceback.format_exception(error))
    failure = {"message": f"{type(error).__name__}: {error}", "traceback": told}
    with suppress(OSError):
        runs.write_result(folder, record.beginning(config) | {"failure": failure})
    return error


def _prepare(config: Config) -> Prepared | SettingError:
    try:
        return prepare(config.data, dtype_of(config))
    except SettingError as error:
        return error


def _refused(folder: Path, error: SettingError) -> SettingError:
    runs.discard_if_empty(folder)
    return error


def _run_alone(config: Config, folder: Path) -> Outcome:
    from mlplab.experiment import run  # imports Lightning, which a wholly fused sweep does without

    for attempt in (1, 2):
        try:
            return run(config, folder, in_sweep=True, start=_left(folder))
        except Exception as error:
            if attempt == 2 or config.on_error != "retry" or isinstance(error, SettingError):
                return error
    raise AssertionError


def _left(folder: Path) -> dict[str, Any] | None:
    """What a killed or interrupted job can go on from; one that failed begins again, its code may have changed."""
    from mlplab.training import checkpoints

    paths = runs.RunFolder(folder)
    try:
        if paths.result.is_file() and runs.read_result(folder).status == "failed":
            return None
        return checkpoints.load(paths.last)
    except SettingError:
        return None


def _announce(groups: list[Group], alone: list[tuple[int, str]]) -> None:
    sizes = ", ".join(str(len(g.jobs)) for g in groups)
    parts = []
    if groups:
        n = sum(len(g.jobs) for g in groups)
        parts.append(f"{n} jobs fused in {len(groups)} group{'s' * (len(groups) > 1)} of {sizes}")
    for reason, count in Counter(reason for _, reason in alone).items():
        parts.append(f"{count} alone because {reason}")
    print("; ".join(parts), flush=True)


def objective(outcome: Any) -> float | None:
    """What a sweeper is told of a job."""
    return outcome.objective if isinstance(outcome, runs.Result) else None
