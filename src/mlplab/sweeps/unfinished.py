"""The file of an unfinished chunk of a sweep, from which the same sweep goes on in the middle of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from mlplab.config import SettingError
from mlplab.config.identity import identity
from mlplab.fused.plan import Job
from mlplab.fused.training import FusedTraining, Report
from mlplab.training import checkpoints

NAME = "group.ckpt"
"""In the folder of the chunk's first job, until all of them are written."""
CAPTURE_SECONDS = 0.25
CAPTURE_SHARE = 0.02
"""The state is copied so rarely that copying takes no larger share of the time."""


class Unfinished:
    """Keeps the state of one chunk's training, as last.ckpt does of a run alone.

    Args:
        report: told of each epoch, too.
    """

    def __init__(self, chunk: Sequence[Job], report: Report) -> None:
        self.path, self.report = chunk[0].folder / NAME, report
        self.jobs = [f"{identity(job.config)} {job.prepared.fingerprint}" for job in chunk]
        self.every = min(job.config.trainer.checkpoint_seconds for job in chunk)
        self.training: FusedTraining | None = None
        self.captured: dict[str, Any] | None = None
        self.captured_at = self.written = time.monotonic()
        self.cost = 0.0

    def begin(self, training: FusedTraining) -> None:
        """Go on from the file, if it is there and of these jobs."""
        self.training = training
        if not self.path.is_file():
            return
        try:
            kept = checkpoints.load(self.path)
        except SettingError:
            print(f"{self.path} is damaged: {len(self.jobs)} jobs begin again", flush=True)
            return
        if kept["chunk"] == self.jobs:
            training.restore(kept)
            print(f"{len(self.jobs)} jobs go on after epoch {training.epochs}", flush=True)

    def after_epoch(self, epochs: int, networks: int, best: float) -> None:
        """Copy the state now and then, and write it every `trainer.checkpoint_seconds`."""
        self.report(epochs, networks, best)
        now = time.monotonic()
        due = now - self.written >= self.every
        if self.training and (due or now - self.captured_at >= max(CAPTURE_SECONDS, self.cost / CAPTURE_SHARE)):
            self.captured = self.training.state()
            self.captured_at = time.monotonic()
            self.cost = self.captured_at - now
        if due:
            self.write()

    def write(self) -> None:
        """Write the newest copy."""
        if self.captured is not None:
            checkpoints.save_last({**self.captured, "chunk": self.jobs}, self.path)
            self.written = time.monotonic()

    def remove(self) -> None:
        """The chunk is done, or begins again."""
        self.training, self.captured = None, None  # it holds this object in turn: neither would leave the memory
        self.path.unlink(missing_ok=True)
