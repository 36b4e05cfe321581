"""Which epoch is the best, and when to stop waiting for a better one: one rule for a run alone or in a fused sweep."""

from __future__ import annotations

import math
from typing import Any

from mlplab.training.metrics import METRICS


def direction(monitor: str) -> str:
    """`min` or `max`: which values of a monitored metric, such as `val/loss`, are better."""
    return METRICS.get(monitor.split("/")[-1], "min")


class Selection:
    """Follows the monitored value from epoch to epoch.

    Args:
        monitor: such as `val/loss`; None where nothing is watched (no validation part): then the last epoch is best.
        stopping: settings of `regularization.early_stopping`, or None.

    Attributes:
        best_epoch: number of the best epoch so far, from 0, or -1.
        best: its value.
        stop: whether early stopping has run out of patience.
    """

    def __init__(self, monitor: str | None, stopping: Any = None) -> None:
        self.monitor, self.stopping = monitor, stopping
        self.mode = direction(monitor) if monitor else "min"
        self.best_epoch, self.best = -1, math.nan
        self.reference, self.waited, self.stop = math.nan, 0, False

    def update(self, epoch: int, value: float | None) -> bool:
        """Take in the value of an epoch; True if it is the best so far."""
        if self.monitor is None or value is None:
            self.best_epoch = epoch
            return True
        sign = 1 if self.mode == "max" else -1
        if self.stopping is not None:
            if math.isnan(self.reference) or sign * (value - self.reference) > self.stopping.min_delta:
                self.reference, self.waited = value, 0
            else:
                self.waited += 1
            self.stop = self.waited > self.stopping.patience
        improved = not math.isnan(value) and (math.isnan(self.best) or sign * (value - self.best) > 0)
        if improved or self.best_epoch < 0:
            self.best_epoch, self.best = epoch, value
            return True
        return False

    _STATE = ("best_epoch", "best", "reference", "waited", "stop")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in self._STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        for name in self._STATE:
            setattr(self, name, state[name])
