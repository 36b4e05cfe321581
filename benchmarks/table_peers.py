"""The classifiers that benchmarks/tables.py stands beside: from raw columns to test probabilities, defaults all."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

Peer = Callable[[pd.DataFrame, np.ndarray, pd.DataFrame, list[str], int], np.ndarray]
"""(training rows, their classes, test rows, categorical columns, seed) -> probabilities (rows, n_classes)."""


def _columns(categories: list[str], numbers: list[str], scaled: bool) -> Any:
    """Numbers with gaps filled (and scaled), categories one-hot."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    steps: list[Any] = [SimpleImputer(strategy="median", keep_empty_features=True)]
    of_numbers = make_pipeline(*steps, StandardScaler()) if scaled else make_pipeline(*steps)
    onehot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer([("numbers", of_numbers, numbers), ("categories", onehot, categories)])


def sklearn_mlp(x: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, categories: list[str], seed: int) -> np.ndarray:
    """MLPClassifier, 100 hidden units, Adam, up to 500 epochs."""
    from sklearn.neural_network import MLPClassifier

    columns = _columns(categories, [c for c in x if c not in categories], scaled=True)
    model = MLPClassifier(max_iter=500, random_state=seed)
    return model.fit(columns.fit_transform(x), y).predict_proba(columns.transform(test))


def hist_gradient_boosting(
    x: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, categories: list[str], seed: int
) -> np.ndarray:
    """HistGradientBoostingClassifier, which takes categories and gaps as they are."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    x, test = _as_categories(x, test, categories)
    return HistGradientBoostingClassifier(random_state=seed).fit(x, y).predict_proba(test)


def lightgbm(x: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, categories: list[str], seed: int) -> np.ndarray:
    """LGBMClassifier, which takes categories and gaps as they are."""
    from lightgbm import LGBMClassifier

    x, test = _as_categories(x, test, categories)
    return np.asarray(LGBMClassifier(random_state=seed, verbose=-1, n_jobs=1).fit(x, y).predict_proba(test))


def realmlp(x: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, categories: list[str], seed: int) -> np.ndarray:
    """RealMLP-TD of pytabkit (Holzmueller, Grinsztajn and Steinwart 2024)."""
    from pytabkit import RealMLP_TD_Classifier

    return _pytabkit(RealMLP_TD_Classifier, x, y, test, categories, seed)


def tabm(x: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, categories: list[str], seed: int) -> np.ndarray:
    """TabM with pytabkit's defaults (Gorishniy, Kotelnikov and Babenko 2025)."""
    from pytabkit import TabM_D_Classifier

    return _pytabkit(TabM_D_Classifier, x, y, test, categories, seed)


def _pytabkit(
    kind: Any, x: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, categories: list[str], seed: int
) -> np.ndarray:
    x, test = x.copy(), test.copy()
    for column in x:
        if column not in categories and x[column].isna().any():
            x[column], test[column] = (frame[column].fillna(x[column].median()) for frame in (x, test))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind(random_state=seed, device="cpu", n_threads=1, verbosity=0)
        model.fit(x, y, cat_col_names=categories)
        return np.asarray(model.predict_proba(test))


def _as_categories(x: pd.DataFrame, test: pd.DataFrame, categories: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    x, test = x.copy(), test.copy()
    for column in categories:
        x[column] = x[column].astype("category")
        test[column] = pd.Categorical(test[column], x[column].cat.categories)
    return x, test


PEERS: dict[str, Peer] = {
    "sklearn_mlp": sklearn_mlp,
    "hist_gradient_boosting": hist_gradient_boosting,
    "lightgbm": lightgbm,
    "realmlp": realmlp,
    "tabm": tabm,
}
OPTIONAL = ("realmlp", "tabm")
"""Need `pip install "mlplab[peers]"`."""
