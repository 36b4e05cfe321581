"""Claim: reading and preprocessing adult takes at most 1.5x PyArrow's own read and scikit-learn's equivalent.

`MLPLAB_DATA=<folder> python benchmarks/table_reading.py`. Both sides read the two files, impute, scale and encode all
rows, fitted on the training rows; the equivalent is a ColumnTransformer of SimpleImputer,
StandardScaler and OneHotEncoder. Interleaved, median of the ratios.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.csv as arrow
from measure import claim, clock, interleave, limit_threads, machine, ratio
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlplab.compose import load_config
from mlplab.data.prepared import prepare

FOLDER = Path(os.environ.get("MLPLAB_DATA", "data")) / "tabular"
REPEATS = 9


def peer() -> None:
    """PyArrow reads, scikit-learn does the rest."""
    options = arrow.ReadOptions(autogenerate_column_names=True)
    files = [arrow.read_csv(FOLDER / f"adult-{part}.csv", options).to_pandas() for part in ("train", "test")]
    train, test = (file.drop(columns="f14") for file in files)
    numbers = train.select_dtypes("number").columns
    words = [name for name in train.columns if name not in numbers]
    made = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), words),
    )
    for x in (made.fit_transform(train), made.transform(test)):
        np.asarray(x, dtype=np.float32)
    for file in files:
        pd.factorize(file["f14"])


def main() -> None:
    limit_threads(1)
    config = load_config("experiment=adult", "data.encode=onehot", f"data.path={FOLDER}/adult-train.csv")
    sides = {"ours": lambda: clock(lambda: prepare(config.data)), "peer": lambda: clock(peer)}
    interleave(sides, 2)  # imports
    found = interleave(sides, REPEATS)
    medians = {name: float(np.median(seconds)) for name, seconds in found.items()}
    claim("reading and preprocessing adult", ratio(found["ours"], found["peer"]), 1.5, True, REPEATS, **medians)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))


if __name__ == "__main__":
    main()
