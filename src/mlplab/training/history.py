"""What a training leaves behind epoch by epoch, and what to say when it diverges."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from torch import Tensor, nn

from mlplab.config import Config
from mlplab.runs import write_atomic

Row = dict[str, float]
"""One epoch: the columns of metrics.csv."""


class Diverged(Exception):
    """The loss became NaN or infinite; `step` says at which step, counted from 0."""

    def __init__(self, step: int, cause: str) -> None:
        super().__init__(f"the loss became NaN or infinite at step {step}: {cause}")
        self.step, self.cause = step, cause


@dataclass
class Fitted:
    """A training that has ended."""

    network: nn.Module | None
    """With the weights of the best epoch, on the CPU, in evaluation mode; None after a fused training."""
    history: list[Row]
    best_epoch: int
    seconds: float
    rows_seen: int
    """Rows that training steps looked at, all epochs together."""
    n_parameters: int
    device: str
    class_weights: Tensor | None
    diverged: Diverged | None
    n_members: int = 1
    """Networks of an ensemble that did not diverge."""
    main: bool = True
    """Whether this is the process that writes the record (of several, the first)."""


def likely_cause(config: Config, before: list[float], history: list[Row]) -> str:
    """Why a loss may have become NaN or infinite, and what to change.

    Args:
        before: losses of the same epoch's steps before it did.
    """
    losses = [row["train/loss"] for row in history] + before
    rate = f"optimizer.lr={config.optimizer.lr:g}"
    if config.accelerator.precision == "16-mixed":
        return "16-bit numbers overflow above 65504; use accelerator.precision=bf16-mixed or 32"
    if len(losses) >= 2 and losses[-1] > 2 * min(losses):
        return (
            f"it had grown from {min(losses):.3g} to {losses[-1]:.3g}, so the steps are too long: lower {rate}, add "
            "scheduler.warmup_epochs=1 or regularization=gradient_clipping"
        )
    if not losses:
        return f"at the first step already: the features or the initial weights are too large, or {rate} is"
    return f"a single step too long: lower {rate}, or add regularization=gradient_clipping"


def mean_row(rows: Sequence[Row]) -> Row:
    """The mean of several networks' rows of one epoch; its number, step and time are those of the longest."""
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return mean | {name: max(row[name] for row in rows) for name in ("epoch", "step", "seconds")}


class MetricsFile:
    """metrics.csv: a header and one row an epoch, on disk as soon as the epoch has ended.

    Args:
        before: rows of the epochs that a resumed training has behind it; what else the file holds is dropped.
    """

    def __init__(self, path: Path, before: Sequence[Row] = ()) -> None:
        self.path = path
        self._file: TextIO | None = None
        if before:
            buffer = io.StringIO(newline="")
            _write(buffer, before, header=True)
            write_atomic(path, buffer.getvalue().encode())
            self._file = path.open("a", newline="")

    def append(self, row: Row) -> None:
        """Write one row; the first one gives the columns."""
        self.extend([row])

    def extend(self, rows: list[Row]) -> None:
        """Write rows."""
        header = self._file is None
        if self._file is None:
            self._file = self.path.open("w", newline="")
        _write(self._file, rows, header)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def write_metrics(config: Config, history: Sequence[Row], path: Path) -> None:
    """Write metrics.csv of a training that has ended, unless logger=none."""
    if config.logger.name != "none":
        with path.open("w", newline="") as file:
            _write(file, history, header=True)


def _write(file: TextIO, rows: Sequence[Row], header: bool) -> None:
    if header:
        csv.writer(file).writerow(rows[0])
    for row in rows:  # numbers need no quotes; NaN is empty
        file.write(",".join(["" if v != v else repr(v) for v in row.values()]) + "\r\n")
