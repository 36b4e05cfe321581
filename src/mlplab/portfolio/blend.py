"""Which settings answer, and with what weight: decided on predictions of rows that a network has not seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST = 1e-12
"""Probabilities are taken to be at least this in a log-loss."""


def log_loss(probs: Floats, y: NDArray[np.int64]) -> float:
    """Mean of -log p of the true classes; `probs` has shape (rows, n_classes), `y` (rows,)."""
    return float(-np.log(np.maximum(probs[np.arange(len(y)), y], LEAST)).mean())


def greedy_weights(of_true: Floats, rounds: int) -> Floats:
    """Weights of a blend by greedy selection with replacement (Caruana et al. 2004), by log-loss.

    In each round the setting is picked again or anew whose share in the mean of all picks helps most; the picks up to
    the best round count.

    Args:
        of_true: each setting's out-of-fold probability of each row's own class, shape (settings, rows).

    Returns:
        Shape (settings,), which add up to 1.
    """
    total, picks = np.zeros(of_true.shape[1]), np.zeros(len(of_true))
    best, weights = np.inf, picks
    for n in range(1, rounds + 1):
        scores = -np.log(np.maximum((total + of_true) / n, LEAST)).mean(1)
        pick = int(scores.argmin())
        total += of_true[pick]
        picks[pick] += 1
        if scores[pick] < best:
            best, weights = float(scores[pick]), picks / n
    return weights


def bagged_weights(of_true: Floats, rounds: int, samples: int, seed: int) -> Floats:
    """The mean of `greedy_weights` over bootstrap samples of the rows, so that no few rows decide.

    Args:
        of_true: as for `greedy_weights`.
        seed: of the samples.
    """
    rng, rows = np.random.default_rng(seed), of_true.shape[1]
    drawn = [of_true[:, rng.integers(0, rows, rows)] for _ in range(samples)]
    return np.mean([greedy_weights(sample, rounds) for sample in drawn], 0)


def folds_of(y: NDArray[np.int64], n_folds: int, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fold of each row: each class is dealt out in turn, so that folds have its rows to within one.

    Args:
        y: class of each row.
        order: a random order of the rows.
    """
    by_class = order[np.argsort(y[order], kind="stable")]
    fold = np.empty(len(y), np.int64)
    fold[by_class] = np.arange(len(y)) % n_folds
    return fold
