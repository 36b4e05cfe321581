"""A progress bar over the epochs of all jobs of a sweep."""

from __future__ import annotations

import math
import sys
import time

from mlplab.fused.plan import Group


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
