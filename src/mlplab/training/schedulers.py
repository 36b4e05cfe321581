"""The learning rate as a function of the step: nothing to store, so a resumed run needs nothing restored."""

from __future__ import annotations

import math
from typing import Any


def factor(settings: Any, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """What the optimizer's rate is multiplied by at a step (plateau's own cuts apart: see `Plateau`).

    After a linear warm-up, the schedule runs over the steps that are left. step, exponential: as torch's StepLR and
    ExponentialLR, moved after each epoch. cosine: as CosineAnnealingLR with T_max = steps. one_cycle: as OneCycleLR
    with cosine annealing.

    Args:
        settings: settings of the group `scheduler`.
        step: optimizer steps taken before this one.
    """
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    step, total = step - warmup, max(total_steps - warmup, 1)
    match settings.name:
        case "step":
            return settings.gamma ** (step // steps_per_epoch // settings.every)
        case "exponential":
            return settings.gamma ** (step // steps_per_epoch)
        case "cosine":
            return settings.min_factor + (1 - settings.min_factor) * _half_cosine(step / total)
        case "one_cycle":
            start = 1 / settings.start_divisor
            peak = settings.rise * total - 1
            if step <= peak:
                return start + (1 - start) * (1 - _half_cosine(step / peak if peak > 0 else 1.0))
            end = start / settings.end_divisor
            return end + (1 - end) * _half_cosine((step - peak) / max(total - 1 - peak, 1e-9))
    return 1.0


def moves_within_epochs(settings: Any) -> bool:
    """Whether `factor` changes between steps of one epoch."""
    return bool(settings.warmup_epochs) or settings.name in ("cosine", "one_cycle")


def _half_cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2


class Plateau:
    """Cuts the rate when a value has stopped improving, as torch's ReduceLROnPlateau with a relative threshold.

    Attributes:
        factor: what the optimizer's rate is multiplied by now.
    """

    def __init__(self, settings: Any, mode: str) -> None:
        self.settings, self.mode = settings, mode
        self.factor, self.best, self.bad_epochs = 1.0, math.inf if mode == "min" else -math.inf, 0

    def update(self, value: float) -> None:
        """Take in the value of an epoch that has ended."""
        if self.settings.name != "plateau":
            return
        margin = self.settings.threshold
        better = value < self.best * (1 - margin) if self.mode == "min" else value > self.best * (1 + margin)
        if better:
            self.best, self.bad_epochs = value, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > self.settings.patience:
            self.factor = max(self.factor * self.settings.factor, self.settings.min_factor)
            self.bad_epochs = 0

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"factor": self.factor, "best": self.best, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from a checkpoint."""
        self.factor, self.best, self.bad_epochs = state["factor"], state["best"], int(state["bad_epochs"])
