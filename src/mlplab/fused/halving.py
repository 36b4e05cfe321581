"""Successive halving: networks that are behind at a rung leave their batch (Jamieson and Talwalkar 2016).

Asynchronous over batches, as in Li et al. 2020: each rung remembers the scores of all networks that have reached it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mlplab.training.history import Row


class Halved(Protocol):
    """A network that can be stopped at a rung."""

    history: list[Row]
    rungs: dict[int, float]
    pruned: bool


@dataclass
class Halving:
    """Keeps the best 1/factor of the networks at each rung.

    Attributes:
        metric: column of the history, such as `val/accuracy`; a network's score is its best value so far.
        min_epochs: epochs before the first rung; None leaves three rungs before the end.
        seen: scores of the networks that have reached each rung, by its epoch.
    """

    metric: str
    smaller_is_better: bool
    factor: int = 2
    min_epochs: int | None = None
    seen: dict[int, list[float]] = field(default_factory=dict)

    def rungs(self, max_epochs: int) -> list[int]:
        """Epochs after which networks are stopped: the first one, and its multiples by powers of the factor."""
        found = []
        epoch = self.min_epochs or math.ceil(max_epochs / self.factor**3)
        while epoch < max_epochs:
            found.append(epoch)
            epoch *= self.factor
        return found

    def stop(self, epoch: int, networks: Sequence[Halved]) -> list[int]:
        """Which of the networks that have reached a rung are not among its best; they are marked as pruned."""
        sign = -1.0 if self.smaller_is_better else 1.0
        scores = [max(_number(sign * row[self.metric]) for row in network.history) for network in networks]
        seen = self.seen.setdefault(epoch, [])
        seen.extend(sign * score for score in scores)
        least = sorted((sign * score for score in seen), reverse=True)[max(1, len(seen) // self.factor) - 1]
        for network, score in zip(networks, scores, strict=True):
            network.rungs[epoch] = sign * score
            network.pruned = score < least
        return [i for i, network in enumerate(networks) if network.pruned]


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else value
