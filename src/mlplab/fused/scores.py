"""Scores of many networks at once, and where their losses went wrong."""

from __future__ import annotations

import math

from torch import Tensor

from mlplab.training.metrics import compute, probabilities


def metrics(logits: Tensor, y: Tensor, n_rows: Tensor | None) -> dict[str, list[float]]:
    """Metrics of each network over its real rows; padding, if any, may stand anywhere only in the last batch."""
    if n_rows is None:
        return {name: v.tolist() for name, v in compute(probabilities(logits), y).items()}
    found: dict[str, list[float]] = {}
    for n in n_rows.unique().tolist():
        which = (n_rows == n).nonzero().squeeze(1)
        for name, values in compute(probabilities(logits[which, :n]), y[which, :n]).items():
            column = found.setdefault(name, [math.nan] * len(n_rows))
            for m, value in zip(which.tolist(), values.tolist(), strict=True):
                column[m] = value
    return found


def first_bad(per_batch: Tensor) -> list[tuple[int, list[float]] | None]:
    """First step of the epoch whose loss is not finite, with the losses before it, of each network."""
    finite = per_batch.isfinite()
    if bool(finite.all()):
        return [None] * per_batch.shape[1]
    found: list[tuple[int, list[float]] | None] = []
    for m in range(per_batch.shape[1]):
        bad = (~finite[:, m]).nonzero()
        found.append((int(bad[0]), per_batch[: int(bad[0]), m].tolist()) if len(bad) else None)
    return found
