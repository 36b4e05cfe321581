"""Data of one's own, for `data=custom`."""

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]


def animals(rows: int = 60) -> Arrays:
    """Labels are words; the class is told by the first column."""
    rng = np.random.default_rng(0)
    labels = np.array(["cat", "dog", "ant"])[np.arange(rows) % 3]
    return rng.standard_normal((rows, 2)) + (np.arange(rows) % 3)[:, None] * [10.0, 0.0], labels


def odd(kind: str) -> object:
    """Everything that a loader can do wrong."""
    x, y = animals()
    return {
        "no pair": x,
        "flat": (x[:, 0], y),
        "short": (x, y[:-1]),
        "missing": (np.where(x > 11, np.nan, x), y),
        "one class": (x, np.zeros(len(x))),
    }[kind]


def rare(counts: list[int]) -> Arrays:
    """So many rows of each class."""
    y = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(0).standard_normal((len(y), 2)), y


def columns(kind: str) -> Arrays:
    """Columns that are hard to scale."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    base = rng.standard_normal((90, 2)) + y[:, None]
    special = {"constant": np.full(90, 7.1), "huge": base[:, 0] * 1e30, "vast": base[:, 0] * 1e300}
    special |= {"tiny": base[:, 0] * 1e-300, "shifted": base[:, 0] + 1e6, "zero": np.zeros(90)}
    return np.column_stack([base, special[kind]]), y
