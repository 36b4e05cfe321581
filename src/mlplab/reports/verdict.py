"""Is a network over- or underfitted? A rule of thumb, with the numbers it goes by and what to try."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GAP = 0.02
"""A smaller gap of accuracy between training and validation is no overfitting, however many rows show it."""
CHANCE = 2.0
"""Nor is a gap within so many standard errors of the validation accuracy: that may be the luck of the rows."""
UNEXPLAINED = 0.5
"""Above this share of guessing's log loss, the training part itself is not learned."""
FALLING = 0.02
"""A training loss that fell by more than this share in the last fifth of the epochs would have gone on falling."""


@dataclass(frozen=True)
class Verdict:
    """What the two losses and accuracies of a run say of it."""

    name: str
    """overfitting, underfitting or good fit."""
    numbers: str
    """What it is judged by."""
    advice: str
    """What to try."""

    def __str__(self) -> str:
        return f"{self.name}: {self.numbers}." + (f" Try {self.advice}." if self.advice else "")


def judge(
    metrics: Mapping[str, Mapping[str, float]],
    rows: Mapping[str, int],
    n_classes: int,
    train_losses: Sequence[float] = (),
) -> Verdict | None:
    """Judge a run by its training and validation scores (the test part's where there is no validation part).

    Overfitting: the training accuracy is above the validation accuracy by more than GAP and by more than CHANCE
    standard errors, sqrt(a (1 - a) / rows). Underfitting: the training log loss is above UNEXPLAINED of log n_classes,
    what guessing costs. Overfitting is named first: what is memorized hides what is not learned.

    Args:
        metrics: part -> name -> value. rows: part -> number of rows.
        train_losses: of each epoch; tells whether a longer training would help.

    Returns:
        None where there is nothing to compare.
    """
    part = "val" if rows.get("val") else "test"
    if any(metrics.get(p, {}).get("log_loss") is None for p in ("train", part)):
        return None
    train, other = metrics["train"], metrics[part]
    gap = train["accuracy"] - other["accuracy"]
    error = math.sqrt(other["accuracy"] * (1 - other["accuracy"]) / max(rows.get(part, 1), 1))
    guessing = math.log(n_classes)
    part_name = {"val": "validation", "test": "test"}[part]
    gap_text = (
        f"accuracy {train['accuracy']:.3f} in training, {other['accuracy']:.3f} in {part_name} "
        f"(gap {gap:+.3f}, chance {error:.3f})"
    )
    if gap > max(GAP, CHANCE * error):
        advice = "regularization=[dropout,weight_decay], early stopping, more rows, or a smaller model.hidden"
        losses = f", log loss {train['log_loss']:.3f} and {other['log_loss']:.3f}"
        return Verdict("overfitting", gap_text + losses + _caution(part), advice)
    if train["log_loss"] > UNEXPLAINED * guessing:
        learned = f"training log loss {train['log_loss']:.3f}, guessing costs {guessing:.3f}"
        falling = _fall(train_losses)
        if len(train_losses) == 1 or falling > FALLING:
            learned += f", and the loss still fell by {falling:.0%} in the last fifth of the epochs" if falling else ""
            return Verdict("underfitting", f"{learned}; {gap_text}", "a larger trainer.max_epochs or optimizer.lr")
        advice = "a larger model.hidden or optimizer.lr, less regularization; or the features tell no more"
        return Verdict("underfitting", f"{learned}; {gap_text}", advice)
    return Verdict("good fit", gap_text + _caution(part), "")


def _caution(part: str) -> str:
    return "" if part == "val" else "; without a validation part this looks at the test part: do not choose by it"


def _fall(losses: Sequence[float]) -> float:
    """Share of its value by which the loss fell over the last fifth of the epochs, at least one epoch."""
    if len(losses) < 2 or not losses[-1 - max(1, len(losses) // 5)] > 0:
        return 0.0
    return 1 - losses[-1] / losses[-1 - max(1, len(losses) // 5)]
