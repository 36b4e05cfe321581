"""Which rows train, validate and test: by fractions or by folds, stratified, by a seed of their own."""

from __future__ import annotations

import numpy as np

from mlplab.config.base import SettingError
from mlplab.config.data import DataSettings
from mlplab.config.images import OfficialImages


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
    from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

    train_share, val_share, test_share = settings.fractions
    _enough_rows(y, class_names, settings, n_parts=2 + (val_share > 0))
    seed = settings.split_seed
    rows = np.arange(len(y))
    try:
        if settings.folds is not None and settings.fold is not None:
            kind = StratifiedKFold if settings.stratified else KFold
            folds = kind(settings.folds, shuffle=True, random_state=seed)
            rest, test = list(folds.split(rows, y))[settings.fold]
        else:
            rest, test = train_test_split(
                rows, test_size=test_share, random_state=seed, stratify=y if settings.stratified else None
            )
        train, val = rest, rows[:0]
        if val_share > 0:
            train, val = train_test_split(
                rest,
                test_size=val_share / (train_share + val_share),
                random_state=seed,
                stratify=y[rest] if settings.stratified else None,
            )
    except ValueError as error:  # too few rows for this split: scikit-learn says which number is too small
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
        from sklearn.model_selection import train_test_split

        classes = y[:n_rest] if settings.stratified else None
        try:
            train, val = train_test_split(
                np.arange(n_rest), test_size=n_val, random_state=settings.split_seed, stratify=classes
            )
        except ValueError as error:  # fewer validation rows than classes, or a class of one image
            raise SettingError(f"{given} cannot be made from {n_rest} training rows: {error}") from None
        train, val = np.sort(train), np.sort(val)
    return {"train": train, "val": val, "test": test}


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
