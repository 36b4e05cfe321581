"""A progress bar over all epochs of one training."""

from __future__ import annotations

import sys
import time
from typing import Any

REFRESH_SECONDS = 0.1


class ProgressBar:
    """Shows epochs, the newest losses and the time left; on something that is no terminal, one line at the end.

    Drawn from the training's own thread, at most ten times a second: a drawing thread would take the processor from
    small networks' steps.
    """

    def __init__(self, max_epochs: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(file=sys.stderr)
        self.max_epochs = max_epochs
        self._drawn = 0.0
        self._text = ""
        self._bar = Progress(
            TextColumn("[bold]epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=self.console,
            auto_refresh=False,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=max_epochs, text="")
        self._bar.start()

    def on_batch(self, epoch: int, batch: int, n_batches: int) -> None:
        """Move the bar within an epoch."""
        if time.monotonic() - self._drawn >= REFRESH_SECONDS:
            self._draw(epoch + (batch + 1) / n_batches)

    def on_epoch(self, row: dict[str, float], classifier: Any) -> None:
        """Take in the epoch's scores."""
        parts = [f"{name} {row[name]:.4f}" for name in ("train/loss", "val/loss", "val/accuracy") if name in row]
        self._text = "  ".join(parts)
        if row["epoch"] + 1 == self.max_epochs or time.monotonic() - self._drawn >= REFRESH_SECONDS:
            self._draw(row["epoch"] + 1)

    def _draw(self, completed: float) -> None:
        self._drawn = time.monotonic()
        self._bar.update(self._task, completed=completed, text=self._text, refresh=True)

    def at(self, done: int, total: int) -> None:
        """Move to an epoch of a training whose length shows as it goes."""
        if done == total or time.monotonic() - self._drawn >= REFRESH_SECONDS:
            self._bar.update(self._task, total=total)
            self._draw(done)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()
