"""Row numbers as scikit-learn's splitters give them for the same seed, so that scores compare with tutorials.

Importing scikit-learn for them would take as long as training a hundred small networks at once. The tests hold each
function equal to its namesake.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def train_test_rows(n: int, test_share: float, seed: int, y: Rows | None = None) -> tuple[Rows, Rows]:
    """`train_test_split(arange(n), test_size=test_share, random_state=seed, stratify=y)`.

    Args:
        y: class of each row, to give both parts the same shares of classes; None for any rows.

    Raises:
        ValueError: a part would be empty, or have fewer rows than there are classes.
    """
    n_test = math.ceil(test_share * n)
    n_train = n - n_test
    if n_train < 1 or n_test < 1:
        raise ValueError(f"a share of {test_share:g} of {n} rows leaves a part empty")
    rng = np.random.RandomState(seed)  # noqa: NPY002: scikit-learn's generator
    if y is None:
        order = rng.permutation(n)
        return order[n_test:], order[:n_test]
    classes, of_row = np.unique(y, return_inverse=True)
    counts = np.bincount(of_row)
    if min(n_train, n_test) < len(classes):
        raise ValueError(f"a part of {min(n_train, n_test)} rows is smaller than the number of classes, {len(classes)}")
    by_class = np.split(np.argsort(of_row, kind="stable"), np.cumsum(counts)[:-1])
    of_train = _shares(counts, n_train, rng)
    of_test = _shares(counts - of_train, n_test, rng)
    train, test = [], []
    for rows, a, b in zip(by_class, of_train, of_test, strict=True):
        drawn = rows[rng.permutation(len(rows))]
        train.append(drawn[:a])
        test.append(drawn[a : a + b])
    return rng.permutation(np.concatenate(train)), rng.permutation(np.concatenate(test))


def _shares(counts: Rows, n: int, rng: np.random.RandomState) -> Rows:
    """How many of each class are among n rows: the largest remainders are rounded up, ties by a draw."""
    exact = counts / counts.sum() * n
    rounded = np.floor(exact)
    missing = int(n - rounded.sum())
    remainder = exact - rounded
    for value in np.sort(np.unique(remainder))[::-1]:
        if missing <= 0:
            break
        (alike,) = np.where(remainder == value)
        more = min(len(alike), missing)
        rounded[rng.choice(alike, size=more, replace=False)] += 1
        missing -= more
    return rounded.astype(np.int64)


def fold_rows(n: int, folds: int, fold: int, seed: int, y: Rows | None = None) -> tuple[Rows, Rows]:
    """Rows outside and inside fold number `fold` of `KFold(folds, shuffle=True, random_state=seed)`.

    Args:
        y: class of each row, for those of StratifiedKFold; None for KFold's.
    """
    rng = np.random.RandomState(seed)  # noqa: NPY002: scikit-learn's generator
    inside = np.zeros(n, bool)
    if y is None:
        order = rng.permutation(n)
        sizes = np.full(folds, n // folds)
        sizes[: n % folds] += 1
        start = int(sizes[:fold].sum())
        inside[order[start : start + sizes[fold]]] = True
    else:
        _, first, of_row = np.unique(y, return_index=True, return_inverse=True)
        places = np.empty(len(first), np.int64)
        places[np.argsort(first)] = np.arange(len(first))  # classes by their first row
        of_row = places[of_row]
        ordered = np.sort(of_row)
        each = [np.bincount(ordered[i::folds], minlength=len(first)) for i in range(folds)]
        for label in range(len(first)):
            of_class = np.arange(folds).repeat([counts[label] for counts in each])
            rng.shuffle(of_class)
            inside[of_row == label] = of_class == fold
    rows = np.arange(n)
    return rows[~inside], rows[inside]
