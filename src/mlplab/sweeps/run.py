"""Runs the jobs of a sweep: those that can, in fused groups; the others one by one."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from mlplab import runs
from mlplab.config import Config, SettingError
from mlplab.config.network import CustomModel
from mlplab.data.prepared import Prepared, prepare
from mlplab.models.build import dtype_of
from mlplab.sweeps import recording
from mlplab.sweeps.fused import FusedTraining
from mlplab.sweeps.plan import Group, Job, alone_because, plan
from mlplab.sweeps.workers import run_in_workers
from mlplab.training import devices
from mlplab.training.checks import check_fits

Outcome = runs.Result | Exception

CACHE_BYTES = 4 << 20
"""Parameters, gradients and optimizer state of one chunk on a CPU: about what its second-level caches hold."""
MOST_IN_CHUNK = 4096


def run_batch(
    configs: Sequence[Config], folders: Sequence[Path], max_jobs: int | None = None, workers: int = 1
) -> list[Outcome]:
    """Train all jobs of a sweep; each has its own folder and its own outcome, whatever becomes of the others.

    Args:
        max_jobs: at most so many networks at once; None chooses by the caches or the device's memory.
        workers: processes to spread the jobs over.
    """
    if workers > 1 and len(configs) > 1:
        return run_in_workers(configs, folders, max_jobs, min(workers, len(configs)))
    outcomes: list[Outcome | None] = [None] * len(configs)
    jobs: list[Job] = []
    alone: list[tuple[int, str]] = []
    prepared: dict[str, Prepared | SettingError] = {}
    for number, (config, folder) in enumerate(zip(configs, folders, strict=True)):
        if reason := alone_because(config):
            alone.append((number, reason))
            continue
        address = f"{config.data.model_dump_json(exclude={'batch_size'})} {dtype_of(config)}"
        if address not in prepared:
            prepared[address] = _prepare(config)
        found = prepared[address]
        try:
            if isinstance(found, SettingError):
                raise found
            check_fits(config, found)
            config = devices.with_precision(config, devices.resolve(config.accelerator), found)
            if reason := alone_because(config):
                alone.append((number, reason))
            else:
                jobs.append(Job(config, folder, found, number))
        except SettingError as error:
            outcomes[number] = _refused(folder, error)
    groups, _ = plan(jobs)
    _announce(groups, alone)
    bar = Bar(groups)
    for group in groups:
        _run_group(group, max_jobs, outcomes, bar)
    bar.close()
    for number, _ in alone:
        outcomes[number] = _run_alone(configs[number], folders[number])
    return [o if o is not None else RuntimeError("the job was lost") for o in outcomes]


def _prepare(config: Config) -> Prepared | SettingError:
    try:
        return prepare(config.data, dtype_of(config))
    except SettingError as error:
        return error


def _refused(folder: Path, error: SettingError) -> SettingError:
    runs.discard_if_empty(folder)
    return error


def _run_group(group: Group, max_jobs: int | None, outcomes: list[Outcome | None], bar: Bar) -> None:
    try:
        device = torch.device(devices.resolve(group.jobs[0].config.accelerator))
    except SettingError as error:
        for job in group.jobs:
            outcomes[job.number] = _refused(job.folder, error)
        return
    waiting = list(group.jobs)
    size = max_jobs or chunk_size(group, device)
    while waiting:
        chunk, rest = waiting[:size], waiting[size:]
        began = time.time()
        try:
            training = FusedTraining(chunk, device, bar.report)
            results = training.run()
        except Exception as error:
            if out_of_memory(error) and len(chunk) > 1:
                size = len(chunk) // 2  # and again with half as many
                print(f"{len(chunk)} networks at once do not fit the memory: trying {size}", flush=True)
                continue
            for job in chunk:
                outcomes[job.number] = error
            waiting = rest
            continue
        with runs.flushed_together():
            for trained in results:
                try:
                    outcomes[trained.job.number] = recording.write(trained, training, began)
                except OSError as error:
                    outcomes[trained.job.number] = error
        bar.chunk_done(len(chunk))
        waiting = rest


def out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or the machine had too little memory; a CPU's allocator says so in a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def chunk_size(group: Group, device: torch.device) -> int:
    """Networks to train at once: what fits the caches of a CPU, or half of a GPU's free memory."""
    config, prepared = group.jobs[0].config, group.jobs[0].prepared
    if isinstance(config.model, CustomModel):
        return 1
    widths = [math.prod(prepared.parts["train"].x.shape[1:]), *config.model.widths, prepared.n_classes]
    n_parameters = sum((a + 1) * b for a, b in pairwise(widths))
    size = config.data.batch_size
    rows = len(prepared.parts["train"]) if size == "full" else min(size, len(prepared.parts["train"]))
    bytes_each = dtype_of(config).itemsize * (4 * n_parameters + 3 * rows * sum(widths))
    if device.type == "cuda":
        evaluated = 8192 * sum(widths) * dtype_of(config).itemsize
        room = torch.cuda.mem_get_info(device)[0] // 2
        return max(1, min(MOST_IN_CHUNK, room // (bytes_each + evaluated)))
    return max(1, min(MOST_IN_CHUNK, CACHE_BYTES // bytes_each))


def _run_alone(config: Config, folder: Path) -> Outcome:
    from mlplab.experiment import run  # imports Lightning, which a wholly fused sweep does without

    try:
        return run(config, folder, in_sweep=True)
    except Exception as error:
        return error


def _announce(groups: list[Group], alone: list[tuple[int, str]]) -> None:
    sizes = ", ".join(str(len(g.jobs)) for g in groups)
    parts = []
    if groups:
        n = sum(len(g.jobs) for g in groups)
        parts.append(f"{n} jobs fused in {len(groups)} group{'s' * (len(groups) > 1)} of {sizes}")
    for reason, count in Counter(reason for _, reason in alone).items():
        parts.append(f"{count} alone because {reason}")
    print("; ".join(parts), flush=True)


class Bar:
    """Progress over the epochs of all jobs: jobs, epochs and the best score so far."""

    def __init__(self, groups: list[Group]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(file=sys.stderr)
        columns = (TextColumn("{task.fields[text]}"), BarColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal)
        self._jobs = sum(len(g.jobs) for g in groups)
        total = sum(len(g.jobs) * g.jobs[0].config.trainer.max_epochs for g in groups)
        self._task = self._bar.add_task("", total=total, text="")
        self._done = self._finished = 0
        self._epoch = 0
        self._drawn = 0.0
        self._bar.start()

    def report(self, epoch: int, networks: int, best: float) -> None:
        """An epoch of the current chunk is done."""
        self._done += networks
        if time.monotonic() - self._drawn < 0.1:
            return
        self._drawn = time.monotonic()
        score = "" if math.isnan(best) else f", best {best:.4f}"
        text = f"{self._finished} of {self._jobs} jobs, {networks} training, epoch {epoch}{score}"
        self._bar.update(self._task, completed=self._done, text=text, refresh=True)

    def chunk_done(self, jobs: int) -> None:
        """The current chunk is written."""
        self._finished += jobs

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()


def objective(outcome: Any) -> float | None:
    """What a sweeper is told of a job."""
    return outcome.objective if isinstance(outcome, runs.Result) else None
