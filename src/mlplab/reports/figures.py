"""Pictures of a run: pure functions from arrays to matplotlib figures (first draft, to be replaced)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _empty() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(4, 3))


def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draft."""
    return _empty()


def roc_curves(probs: np.ndarray, targets: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draft."""
    return _empty()


def precision_recall_curves(probs: np.ndarray, targets: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draft."""
    return _empty()


def learning_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Draft."""
    return _empty()


def decision_boundary(
    predict: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    feature_names: Sequence[str],
    class_names: Sequence[str],
) -> Figure:
    """Draft."""
    return _empty()


def save(figure: Figure, path: Path) -> None:
    """Draft."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
