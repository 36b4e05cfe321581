"""The tables that come with scikit-learn, read from its folder: importing it takes as long as a small sweep."""

from __future__ import annotations

import csv
import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

_CELL = (
    *("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points"),
    *("symmetry", "fractal dimension"),
)
FEATURES = {
    "wine": (
        *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids"),
        *("nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines"),
        "proline",
    ),
    "iris": ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"),
    "breast_cancer": (
        *(f"mean {name}" for name in _CELL),
        *(f"{name} error" for name in _CELL),
        *(f"worst {name}" for name in _CELL),
    ),
    "digits": tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8)),
}
"""Names of the columns, as scikit-learn has them."""
_FILES = {"wine": "wine_data.csv", "iris": "iris.csv", "breast_cancer": "breast_cancer.csv", "digits": "digits.csv.gz"}


@cache
def _folder() -> Path:
    found = find_spec("sklearn")  # looks for it without importing it
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "datasets" / "data"


def bundled(name: str) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """What `sklearn.datasets.load_<name>` gives: (features, classes, names of the features, names of the classes)."""
    path = _folder() / _FILES[name]
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        lines = csv.reader(file)
        classes = [str(digit) for digit in range(10)] if name == "digits" else next(lines)[2:]
        values = np.array(list(lines), dtype=np.float64)
    return values[:, :-1], values[:, -1].astype(np.int64), list(FEATURES[name]), classes
