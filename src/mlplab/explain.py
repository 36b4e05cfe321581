"""Which columns a network looks at: permutation importance and partial dependence.

Sources: Breiman (2001), "Random forests" (importance by permutation); Fisher, Rudin and Dominici (2019), "All models
are wrong, but many are useful" (the same for any model); Friedman (2001), "Greedy function approximation" (partial
dependence).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mlplab import randomness
from mlplab.config import SettingError
from mlplab.config.images import ImageSettings
from mlplab.config.messages import nearest
from mlplab.config.tools import Explain
from mlplab.data.images import shape_of
from mlplab.evaluate import Loaded, load
from mlplab.reports import explanations, figures
from mlplab.reports.events import EventFile
from mlplab.reports.tables import write_csv
from mlplab.restore import Restored
from mlplab.runs import RunFolder, write_atomic
from mlplab.training.metrics import METRICS, compute

LOWEST, HIGHEST = 0.01, 0.99


@dataclass(frozen=True)
class Column:
    """What is shuffled as one: an original column of a table, or a square of an image's pixels."""

    name: str
    place: tuple[slice, ...]
    """Where, in the dimensions after the rows."""
    numeric: bool

    def of(self, raw: Tensor) -> Tensor:
        """Its values, a view of the raw rows."""
        return raw[(slice(None), *self.place)]


@dataclass(frozen=True)
class Importance:
    """How much worse a metric gets when a column is shuffled."""

    column: Column
    each: list[float]
    """One number for each shuffle; above zero is worse."""

    @property
    def name(self) -> str:
        """Of the column."""
        return self.column.name

    @property
    def mean(self) -> float:
        """Over the shuffles."""
        return math.fsum(self.each) / len(self.each)

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the shuffles."""
        return math.sqrt(math.fsum((v - self.mean) ** 2 for v in self.each) / (len(self.each) - 1))


@dataclass(frozen=True)
class Dependence:
    """Mean probability of each class when a column is set to a value in all rows."""

    column: str
    values: Tensor
    """Shape (points,)."""
    probabilities: Tensor
    """Shape (points, n_classes)."""


@dataclass(frozen=True)
class Explained:
    """What was found, and where it was written."""

    title: str
    what: str
    """`column`, or `patch` of an image."""
    importances: list[Importance]
    """The most important first."""
    dependences: list[Dependence]
    files: list[Path]


def explain(chosen: Explain) -> Explained:
    """Find out, and write CSV files, figures and TensorBoard's pictures into the run folder.

    Raises:
        SettingError: the run cannot be read, its part has no rows, or a column does not exist.
    """
    folder = Path(chosen.run)
    loaded = load(folder, chosen.allow_targets)
    run = loaded.restored
    is_image = isinstance(run.config.data, ImageSettings)
    columns = patches(shape_of(run.feature_names), chosen.patch) if is_image else columns_of(run)
    named = _named(columns, chosen, is_image)
    raw, y = _rows(loaded, chosen)
    importances = importance(run, columns, raw, y, chosen)
    if chosen.columns == "auto":
        named = [one.column for one in importances if one.column.numeric][: chosen.curves]
    dependences = [dependence(run, column, raw, chosen.points) for column in named]
    part = {"val": "validation", "test": "test"}[chosen.part]
    rows = f"{part} part, {len(y)} rows"
    title = f"{run.config.name}: how much worse {chosen.metric} gets by shuffling, {rows}"
    what = f"patch of {chosen.patch}x{chosen.patch} pixels" if is_image else "column"
    files = _write(folder, title, rows, run, importances, dependences, is_image)
    return Explained(title, what, importances, dependences, files)


def columns_of(run: Restored) -> list[Column]:
    """The original columns of a table; the parts of a date are one."""
    assert run.schema is not None
    found, at = [], 0
    for column in (*run.schema.numeric, *run.schema.categorical):
        width = len(column.raw_names)
        found.append(Column(column.name, (slice(at, at + width),), column.kind == "number"))
        at += width
    return found


def patches(shape: tuple[int, int, int], side: int) -> list[Column]:
    """Squares of an image's pixels, all channels together; those at the lower and right edge may be smaller.

    Args:
        shape: (channels, height, width).
    """
    _, height, width = shape
    return [
        Column(f"{i},{j}", (slice(None), slice(i, min(i + side, height)), slice(j, min(j + side, width))), False)
        for i in range(0, height, side)
        for j in range(0, width, side)
    ]


def _named(columns: list[Column], chosen: Explain, is_image: bool) -> list[Column]:
    if chosen.columns == "auto":
        return []
    if is_image:
        raise SettingError(f"columns={chosen.columns}: images have no columns to draw curves of; use columns=auto")
    by_name = {column.name: column for column in columns}
    for name in chosen.columns:
        if name not in by_name:
            raise SettingError(f"columns: the run has no column '{name}'.{nearest(name, by_name)}")
        if not by_name[name].numeric:
            raise SettingError(f"columns: '{name}' does not hold numbers, so it has no curve")
    return [by_name[name] for name in chosen.columns]


def _rows(loaded: Loaded, chosen: Explain) -> tuple[Tensor, Tensor]:
    y = loaded.prepared.parts[chosen.part].y
    if len(y) < 2:
        other = "test" if chosen.part == "val" else "val"
        raise SettingError(f"the {chosen.part} part of run={chosen.run} has {len(y)} rows; use part={other}")
    raw = loaded.raw(chosen.part)
    if len(y) <= chosen.rows:
        return raw, y
    order = randomness.permutation(randomness.key(chosen.seed, "explained rows"), len(y))
    which = order[: chosen.rows].sort().values
    return raw[which], y[which]


def importance(run: Restored, columns: Sequence[Column], raw: Tensor, y: Tensor, chosen: Explain) -> list[Importance]:
    """How much worse the metric is with each column's values in another order; the most important first.

    A column's shuffles are functions of (seed, its name, repeat): they are the same in whatever order it stands.
    """
    better = 1 if METRICS[chosen.metric] == "max" else -1
    base = _score(run, raw, y, chosen.metric)
    raw = raw.clone()
    found = []
    for column in columns:
        each = []
        values = column.of(raw)
        kept = values.clone()
        for repeat in range(chosen.repeats):
            address = randomness.key(chosen.seed, "permutation importance", column.name, repeat)
            values.copy_(kept[randomness.permutation(address, len(y))])
            each.append(better * (base - _score(run, raw, y, chosen.metric)))
        values.copy_(kept)
        found.append(Importance(column, each))
    return sorted(found, key=lambda one: -one.mean)


def _score(run: Restored, raw: Tensor, y: Tensor, metric: str) -> float:
    value = float(compute(run.probabilities(raw), y)[metric])
    if not math.isfinite(value):
        raise SettingError(f"metric={metric} is {value} on these rows: they are of one class, or the network diverged")
    return value


def dependence(run: Restored, column: Column, raw: Tensor, points: int) -> Dependence:
    """Partial dependence at values spread evenly over the column's range, or at each of them where they are few."""
    raw = raw.clone()
    place = column.of(raw)
    present = place.flatten()[~place.flatten().isnan()]
    values = present.unique()
    if len(values) > points:
        low, high = np.quantile(present.numpy(), [LOWEST, HIGHEST])
        values = torch.linspace(low, high, points, dtype=present.dtype)
    means = []
    for value in values:
        place.fill_(value)
        means.append(run.probabilities(raw).double().mean(0))
    n_classes = len(run.class_names)
    return Dependence(column.name, values, torch.stack(means) if means else torch.zeros(0, n_classes))


def _write(
    folder: Path,
    title: str,
    rows_told: str,
    run: Restored,
    importances: list[Importance],
    dependences: list[Dependence],
    is_image: bool,
) -> list[Path]:
    paths = RunFolder(folder)
    repeats = range(1, len(importances[0].each) + 1)
    header = ["patch" if is_image else "column", "importance", "spread", *(f"repeat {i}" for i in repeats)]
    table = folder / "importance.csv"
    write_csv(table, header, [[one.name, one.mean, one.deviation, *one.each] for one in importances])
    drawn = {}
    if is_image:
        heat = torch.zeros(shape_of(run.feature_names)[1:])
        for one in importances:
            heat[one.column.place[1:]] = one.mean
        drawn["importance"] = explanations.heat_map(title, heat.numpy())
    else:
        bars = [(one.name, one.mean, one.deviation) for one in importances]
        drawn["importance"] = explanations.importance_bars(title, bars)
    files = [table]
    if dependences:
        files.append(folder / "partial_dependence.csv")
        rows = [
            [one.column, value, *probs]
            for one in dependences
            for value, probs in zip(one.values.tolist(), one.probabilities.tolist(), strict=True)
        ]
        write_csv(files[-1], ["column", "value", *(f"p({c})" for c in run.class_names)], rows)
        curves = [(one.column, one.values.numpy(), one.probabilities.numpy()) for one in dependences]
        drawn["partial_dependence"] = explanations.dependence_curves(rows_told, curves, run.class_names)
    with EventFile(folder) as events:
        for name, figure in drawn.items():
            files.append(paths.figures / f"{name}.png")
            write_atomic(files[-1], figures.png(figure))
            events.add_figure(f"explain/{name}", figure, 0)
    return files
