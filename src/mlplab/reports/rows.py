"""Row by row: which test rows were told wrongly, and how sure the network was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlplab.data.schema import Schema
from mlplab.reports.tables import write_csv


def write_misclassified(
    path: Path,
    rows: np.ndarray,
    targets: np.ndarray,
    probs: np.ndarray,
    class_names: list[str],
    schema: Schema | None,
    raw: np.ndarray | None,
) -> int:
    """Write the wrongly told rows as CSV, the surest mistakes first; returns how many there are.

    Args:
        rows: number of each row in the data set as it was read, shape (rows,).
        targets: true class of each row, shape (rows,).
        probs: shape (rows, n_classes).
        raw: raw columns as numbers, shape (all rows, raw columns), or None to leave them out.
    """
    predicted = probs.argmax(1)
    wrong = np.flatnonzero(predicted != targets)
    wrong = wrong[np.argsort(-probs[wrong, predicted[wrong]], kind="stable")]
    names = schema.raw_names if schema is not None and raw is not None else []

    def row(i: Any) -> list[object]:
        values = schema.words(raw[rows[i]]) if schema is not None and raw is not None else []
        shares = [f"{p:.6f}" for p in probs[i]]
        return [rows[i], class_names[targets[i]], class_names[predicted[i]], *shares, *values]

    write_csv(path, ["row", "true", "predicted", *(f"p({c})" for c in class_names), *names], map(row, wrong))
    return len(wrong)
