"""The tables that `data=<name>` can name: each is one function from its settings to a Table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlplab.config.base import SettingError
from mlplab.config.data import CustomData, DataSettings, Spirals, Synthetic, Xor
from mlplab.data.bundled import bundled
from mlplab.dotted import locate


@dataclass(frozen=True)
class Table:
    """Rows as they were read, before any split or scaling."""

    x: np.ndarray
    """Features, float64 of shape (rows, n_features)."""
    y: np.ndarray
    """Class of each row, int64 of shape (rows,), from 0 to n_classes - 1."""
    feature_names: list[str]
    class_names: list[str]
    parts: dict[str, np.ndarray] | None = None
    """Row numbers of train, val and test where the data brings its own split."""


def _bundled(name: str) -> Callable[[Any], Table]:
    def load(settings: Any) -> Table:
        return Table(*bundled(name))

    return load


def _named(x: np.ndarray, y: np.ndarray, n_classes: int, parts: dict[str, np.ndarray] | None = None) -> Table:
    return Table(x, y.astype(np.int64), [f"x{i}" for i in range(x.shape[1])], [str(c) for c in range(n_classes)], parts)


def synthetic(settings: Synthetic) -> Table:
    """Gaussian clusters on the corners of a hypercube (Guyon 2003, as in scikit-learn)."""
    from sklearn.datasets import make_classification

    x, y = make_classification(
        settings.samples,
        settings.features,
        n_informative=settings.informative,
        n_redundant=settings.redundant,
        n_classes=settings.classes,
        n_clusters_per_class=settings.clusters_per_class,
        class_sep=settings.class_separation,
        flip_y=settings.label_noise,
        random_state=settings.seed,
    )
    return _named(x, y, settings.classes)


def xor(settings: Xor) -> Table:
    """Rows around (0,0), (0,1), (1,0), (1,1); the class is whether exactly one coordinate is 1.

    The four points themselves cannot be split: all of them train and all of them test.
    """
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float64)
    which = np.arange(settings.samples) % 4
    rng = np.random.default_rng(settings.seed)
    x = corners[which] + settings.noise * rng.standard_normal((settings.samples, 2))
    rows = np.arange(4)
    parts = {"train": rows, "val": rows[:0], "test": rows} if settings.samples == 4 else None
    return _named(x, (corners[which].sum(1) == 1).astype(np.int64), 2, parts)


def moons(settings: Any) -> Table:
    """Two interleaving half circles."""
    from sklearn.datasets import make_moons

    x, y = make_moons(settings.samples, noise=settings.noise, random_state=settings.seed)
    return _named(x, y, 2)


def circles(settings: Any) -> Table:
    """A circle inside a circle."""
    from sklearn.datasets import make_circles

    x, y = make_circles(settings.samples, noise=settings.noise, factor=settings.factor, random_state=settings.seed)
    return _named(x, y, 2)


def spirals(settings: Spirals) -> Table:
    """Archimedean spirals, radius from 0 to 1, one arm a class."""
    rng = np.random.default_rng(settings.seed)
    y = np.arange(settings.samples) % settings.arms
    radius = rng.random(settings.samples) ** 0.5  # even density over the disc's area
    angle = 2 * np.pi * (settings.turns * radius + y / settings.arms)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return _named(x + settings.noise * rng.standard_normal(x.shape), y, settings.arms)


def custom(settings: CustomData) -> Table:
    """(x, y) from a function of your own; y may hold any labels."""
    given = locate(settings.target, "data.target")(**settings.kwargs)
    if not isinstance(given, tuple) or len(given) != 2:
        raise SettingError(f"data.target={settings.target} must return (x, y), but returned {type(given).__name__}")
    x, labels = np.asarray(given[0], dtype=np.float64), np.asarray(given[1])
    if x.ndim != 2 or labels.shape != (len(x),):
        raise SettingError(
            f"data.target={settings.target} must return x of shape (rows, features) and y of shape (rows,), "
            f"but returned shapes {x.shape} and {labels.shape}"
        )
    names, y = np.unique(labels, return_inverse=True)
    return Table(x, y.astype(np.int64), [f"x{i}" for i in range(x.shape[1])], [str(n) for n in names])


LOADERS: dict[str, Callable[[Any], Table]] = {
    **{name: _bundled(name) for name in ("wine", "iris", "breast_cancer", "digits")},
    "synthetic": synthetic,
    "xor": xor,
    "moons": moons,
    "circles": circles,
    "spirals": spirals,
    "custom": custom,
}


def read(settings: DataSettings) -> Table:
    """Read or make the data set that the settings name.

    Raises:
        SettingError: features that are not finite, or fewer than two classes.
    """
    name: str = settings.name  # type: ignore[attr-defined]
    table = LOADERS[name](settings)
    bad = np.argwhere(~np.isfinite(table.x))
    if len(bad):
        row, column = bad[0]
        raise SettingError(
            f"data={name}: row {row}, column '{table.feature_names[column]}' is {table.x[row, column]}, and "
            f"{len(bad) - 1} more values are not finite; replace them before training"
        )
    if len(table.class_names) < 2 or table.y.min() == table.y.max():
        raise SettingError(f"data={name}: all rows have the same class; two classes are the least to tell apart")
    return table
