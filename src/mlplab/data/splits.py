"""Which rows train, validate and test: by fractions or by folds, stratified, by a seed of their own."""

from __future__ import annotations

import numpy as np

from mlplab import randomness
from mlplab.config.base import SettingError
from mlplab.config.data import DataSettings
from mlplab.config.images import OfficialImages
from mlplab.data.shuffles import fold_rows, train_test_rows


def split(y: np.ndarray, class_names: list[str], settings: DataSettings) -> dict[str, np.ndarray]:
    """Row numbers of the parts `train`, `val` (may be empty) and `test`; together all rows, none twice.

    Without folds the test part is what scikit-learn's train_test_split(random_state=split_seed) gives, so that scores
    compare with tutorials. With folds it is fold `fold` of its (Stratified)KFold, and `data.split` only says which
    share of the rest validates.

    Args:
        y: class of each row, shape (rows,).

    Raises:
        SettingError: a class has too few rows to be in every part.
    """
    train_share, val_share, test_share = settings.fractions
    _enough_rows(y, class_names, settings, n_parts=2 + (val_share > 0))
    seed = settings.split_seed
    among = y if settings.stratified else None
    try:
        if settings.folds is not None and settings.fold is not None:
            rest, test = fold_rows(len(y), settings.folds, settings.fold, seed, among)
        else:
            rest, test = train_test_rows(len(y), test_share, seed, among)
        train, val = rest, rest[:0]
        if val_share > 0:
            share = val_share / (train_share + val_share)
            of_rest = train_test_rows(len(rest), share, seed, None if among is None else y[rest])
            train, val = (rest[rows] for rows in of_rest)
    except ValueError as error:  # too few rows for this split
        raise SettingError(f"data.split={settings.split} cannot be made from {len(y)} rows: {error}") from None
    return {"train": train, "val": val, "test": test}


def official_split(y: np.ndarray, n_test: int, settings: DataSettings) -> dict[str, np.ndarray]:
    """Row numbers of the parts where the last `n_test` rows are the test part and stay it; the others keep their order.

    Raises:
        SettingError: more validation rows are asked for than the training part has.
    """
    n_rest = len(y) - n_test
    if isinstance(settings, OfficialImages):
        n_val, last = settings.validation, settings.validation_rows == "last"
        given = f"data.validation={n_val}"
    else:  # an image folder or a table with a test part: the first two shares divide the rest
        train_share, val_share, _ = settings.fractions
        n_val, last = round(n_rest * val_share / (train_share + val_share)), False
        given = f"data.split={settings.split}"
    if n_val >= n_rest:
        raise SettingError(f"{given} leaves nothing of the {n_rest} training rows to train on; use less")
    test = np.arange(n_rest, len(y))
    if n_val == 0 or last:
        train, val = np.arange(n_rest - n_val), np.arange(n_rest - n_val, n_rest)
    else:
        val = np.sort(_drawn(y[:n_rest], n_val, settings))
        train = np.setdiff1d(np.arange(n_rest), val, assume_unique=True)
    return {"train": train, "val": val, "test": test}


def _drawn(y: np.ndarray, n: int, settings: DataSettings) -> np.ndarray:
    """n row numbers by addressed draws; stratified gives each class its share, rounded by largest remainders."""
    order = randomness.permutation(randomness.key(settings.split_seed, "validation"), len(y)).numpy()
    if not settings.stratified:
        return order[:n]
    counts = np.bincount(y)
    wanted = counts * n / len(y)
    quota = np.floor(wanted).astype(np.int64)
    quota[np.argsort(quota - wanted, kind="stable")[: n - quota.sum()]] += 1
    quota = np.minimum(quota, np.maximum(counts - 1, 0))  # a class of one row is there to train on
    by_class = order[np.argsort(y[order], kind="stable")]
    place = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)  # of each row within its class
    return by_class[place < np.repeat(quota, counts)]


def _enough_rows(y: np.ndarray, class_names: list[str], settings: DataSettings, n_parts: int) -> None:
    if settings.folds is not None and settings.folds > len(y):
        raise SettingError(f"data.folds={settings.folds} is more than the {len(y)} rows; use fewer folds")
    if not settings.stratified:
        return
    counts = np.bincount(y, minlength=len(class_names))
    rarest = int(counts.argmin())
    need, what = (settings.folds, "data.folds") if settings.folds is not None else (n_parts, "data.split")
    if counts[rarest] < need:
        given = settings.folds if settings.folds is not None else settings.split
        raise SettingError(
            f"class '{class_names[rarest]}' has {counts[rarest]} row{'' if counts[rarest] == 1 else 's'}, "
            f"but a stratified {what}={given} needs at least {need} of each class; "
            "use data.stratified=false, or fewer parts"
        )
