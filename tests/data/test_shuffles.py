"""The same rows as scikit-learn's splitters and the same tables as its loaders, without importing it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from mlplab.data.bundled import bundled
from mlplab.data.shuffles import fold_rows, train_test_rows

CLASSES = st.lists(st.integers(0, 4), min_size=4, max_size=120).map(np.array)


@given(CLASSES, st.floats(0.05, 0.95), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_split_is_train_test_splits(y: np.ndarray, share: float, seed: int, stratified: bool) -> None:
    among = y if stratified else None
    try:
        wanted = train_test_split(np.arange(len(y)), test_size=share, random_state=seed, stratify=among)
    except ValueError:
        if stratified and np.bincount(y)[np.unique(y)].min() < 2:
            return  # refused by `splits.split` with its own words
        with pytest.raises(ValueError, match="part"):
            train_test_rows(len(y), share, seed, among)
        return
    for rows, others in zip(train_test_rows(len(y), share, seed, among), wanted, strict=True):
        assert np.array_equal(rows, others)


@given(CLASSES, st.integers(2, 7), st.integers(0, 2**32 - 1), st.booleans(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_fold_is_kfolds(y: np.ndarray, folds: int, seed: int, stratified: bool, data: st.DataObject) -> None:
    if folds > len(y) or (stratified and np.bincount(y)[np.unique(y)].min() < folds):
        return  # refused by `splits.split`
    fold = data.draw(st.integers(0, folds - 1))
    kind = StratifiedKFold if stratified else KFold
    wanted = list(kind(folds, shuffle=True, random_state=seed).split(y, y))[fold]
    for rows, others in zip(fold_rows(len(y), folds, fold, seed, y if stratified else None), wanted, strict=True):
        assert np.array_equal(rows, others)


@pytest.mark.parametrize("name", ["wine", "iris", "breast_cancer", "digits"])
def test_a_table_is_the_loaders(name: str) -> None:
    bunch = getattr(datasets, f"load_{name}")()
    x, y, features, classes = bundled(name)
    assert np.array_equal(x, bunch.data)
    assert np.array_equal(y, bunch.target)
    assert features == [str(f) for f in bunch.feature_names]
    assert classes == [str(c) for c in bunch.target_names]


def test_scikit_learn_is_not_imported() -> None:
    code = (
        "import sys; from mlplab.compose import load_config; from mlplab.data.prepared import prepare\n"
        "prepare(load_config('data=wine').data); prepare(load_config('data.folds=5', 'data.fold=1').data)\n"
        "print('sklearn' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
