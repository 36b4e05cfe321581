"""What was understood of a table file: for data.json, the screen and the names of features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlplab.data.schema import MISSING, Schema

if TYPE_CHECKING:
    from mlplab.data.preprocess import Features
    from mlplab.data.table_file import FileTable

UNEVEN = 3.0
"""Classes are called uneven where the commonest has so many times the rows of the rarest."""


def feature_names(schema: Schema, features: Features) -> list[str]:
    """Names of what the network is given, in order."""
    numbers = [name for column in schema.numeric for name in column.raw_names]
    gaps = [f"{numbers[i]} {MISSING}" for i in features.gaps.tolist()]
    if not features.onehot:
        return [*numbers, *gaps, *(column.name for column in schema.categorical)]
    values = [f"{c.name}={MISSING if v is None else v}" for c in schema.categorical for v in c.vocabulary or []]
    return [*numbers, *gaps, *values]


def understood(
    table: FileTable, schema: Schema, raw: np.ndarray, rows: dict[str, np.ndarray], n_features: int
) -> dict[str, Any]:
    """What data.json holds: plain types."""
    settings, notes = table.settings, list(table.notes)
    columns: list[dict[str, Any]] = []
    at = 0
    for column in schema.columns:
        values = raw[:, at]
        one: dict[str, Any] = {"name": column.name, "kind": column.kind}
        if column.vocabulary is None:
            one["missing"] = float(np.isnan(values).mean())
        else:
            of_missing = column.vocabulary.index(None) + 1 if None in column.vocabulary else -1
            one["missing"] = float((values == of_missing).mean())
            one["values"] = len(column.vocabulary) - (of_missing > 0)
            unseen = int((values == 0).sum())
            if unseen:
                notes.append(f"column '{column.name}': {unseen} rows have values that no training row has ('unknown')")
        columns.append(one)
        at += len(column.raw_names)
    counts = {
        name: {part: int((table.y[which] == i).sum()) for part, which in rows.items()}
        for i, name in enumerate(table.class_names)
    }
    of_train = {name: of_parts["train"] for name, of_parts in counts.items()}
    rarest, commonest = min(of_train, key=of_train.__getitem__), max(of_train, key=of_train.__getitem__)
    if of_train[commonest] >= UNEVEN * of_train[rarest]:
        notes.append(
            f"the classes are uneven: {of_train[commonest]} training rows of '{commonest}', {of_train[rarest]} of "
            f"'{rarest}'; loss.class_weights=balanced gives both the same weight, and balanced accuracy is the score "
            "to look at"
        )
    return {
        "path": settings.path,
        "test_path": settings.test_path,
        "target": table.target,
        "rows": {part: len(which) for part, which in rows.items()},
        "features": n_features,
        "columns": columns,
        "dropped": table.dropped,
        "classes": counts,
        "notes": notes,
    }
