"""What the tests have engines run: tasks and batches that come to their ends in every way."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlplab import runs
from mlplab.config import Config
from mlplab.fused.halving import Halving
from mlplab.signals import Interrupted, interruptible
from mlplab.sweeps.unfinished import NAME


class Odd(Exception):
    """Cannot be handed to another process."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def meet(fate: str, mark: Path | None = None) -> Any:
    """One task."""
    match fate:
        case "raise":
            raise ValueError("a hole")
        case "odd":
            raise Odd("a", "hole")
        case "exit":
            sys.exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait":
            assert mark is not None
            mark.write_text(str(os.getpid()))
            time.sleep(60)
        case "leave":
            assert mark is not None
            try:
                with interruptible():
                    mark.touch()
                    end = time.monotonic() + 60
                    while time.monotonic() < end:  # a training; Ray's interrupt breaks no sleep
                        time.sleep(0.01)
            except Interrupted as told:
                time.sleep(0.2)  # so long it takes to write
                mark.with_suffix(".left").touch()
                told.leave()
    return fate, str(Path.cwd())


DEADLY = 13
"""Seed of the job that takes its process with it."""


def batch(configs: list[Config], folders: list[Path], max_jobs: int | None, tell: Callable[..., None]) -> list[Any]:
    """A batch function that trains all of its jobs at once, and dies of one of them."""
    done = [runs.finished(folder) for folder in folders]
    missing = [i for i, result in enumerate(done) if result is None]
    tell("begin", dict.fromkeys(missing))
    if any(config.seed == DEADLY for config in configs):
        os.kill(os.getpid(), signal.SIGKILL)
    for i in missing:
        done[i] = runs.write_result(folders[i], {"status": "completed", "with": [config.seed for config in configs]})
    return done


def with_state(
    configs: list[Config], folders: list[Path], max_jobs: int | None, tell: Callable[..., None]
) -> list[Any]:
    """A batch function that leaves a state and dies the first time, and dies without a word of a deadly job."""
    begun = folders[0].parent / "begun"
    first, missing = not begun.exists(), [i for i, folder in enumerate(folders) if runs.finished(folder) is None]
    with begun.open("a") as file:
        file.write(f"{len(configs)} {any((folder / NAME).exists() for folder in folders)}\n")
    if first:
        runs.write_atomic(folders[0] / NAME, b"as far as it got")
        tell("begin", dict.fromkeys(missing))
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(configs, folders, max_jobs, tell)


def pruning(
    configs: list[Config], folders: list[Path], max_jobs: int | None, tell: Callable[..., None], halving: Halving
) -> list[Any]:
    """A batch function that stops each job early, one by one, and dies of one of them."""
    found: list[Any] = [runs.finished(folder, pruned=True) for folder in folders]
    for i in (i for i, result in enumerate(found) if result is None):
        tell("begin", {i: None})
        if configs[i].seed == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        found[i] = runs.write_result(folders[i], {"status": "pruned", "by": halving.metric})
    return found


def one_after_the_other(
    configs: list[Config], folders: list[Path], max_jobs: int | None, tell: Callable[..., None]
) -> list[Any]:
    """A batch function whose jobs end one by one: by their seeds, some raise, one kills and one waits for another."""
    found: list[Any] = []
    for i, (config, folder) in enumerate(zip(configs, folders, strict=True)):
        if (result := runs.finished(folder)) is not None:
            found.append(result)
            continue
        tell("begin", {i: None})
        with (folder.parent / "begun").open("a") as file:
            file.write(f"{config.seed}\n")
        if config.seed == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        while config.seed == 28 and "17" not in (folder.parent / "begun").read_text():
            time.sleep(0.5)
        raised = ValueError("a hole") if config.seed % 10 == 7 else None
        found.append(raised or runs.write_result(folder, {"status": "completed"}))
    return found
