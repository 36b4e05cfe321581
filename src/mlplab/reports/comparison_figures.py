"""Pictures of a comparison: what each setting does, two together, all of them, and how the best ones learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean, pvariance
from typing import TYPE_CHECKING, Any

import numpy as np

from mlplab.reports.comparison import Cell, Comparison, shown
from mlplab.reports.figures import FAINT, GRID, INK, PALETTE
from mlplab.reports.tables import read_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 6
MOST_VALUES = 24
CURVES = 5
_BEHIND = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}


def all_figures(comparison: Comparison) -> dict[str, Figure]:
    """Name -> picture, of those that the comparison has enough for."""
    drawn = {"learning_curves": learning_curves(comparison)}
    if comparison.varied:
        drawn["main_effects"] = main_effects(comparison)
        drawn["parallel_coordinates"] = parallel_coordinates(comparison)
    if pair := top_two(comparison):
        drawn["interaction"] = interaction(comparison, *pair)
    return {name: figure for name, figure in drawn.items() if figure is not None}


def effects(comparison: Comparison) -> dict[str, float]:
    """Varied setting -> the share of the variance of the cells' means that its own means explain, largest first."""
    total = pvariance([cell.mean for cell in comparison.cells])
    found = {}
    for name in comparison.varied:
        of_value = _by_value(comparison.cells, name)
        centre = fmean(cell.mean for cell in comparison.cells)
        between = sum(len(m) * (fmean(m) - centre) ** 2 for m in of_value.values()) / len(comparison.cells)
        found[name] = between / total if total > 0 else 0.0
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def top_two(comparison: Comparison) -> tuple[str, str] | None:
    """The two settings of most effect whose values were crossed, or None."""
    usable = [n for n in effects(comparison) if len(_by_value(comparison.cells, n)) <= MOST_VALUES]
    for one, other in combinations(usable, 2):
        pairs = {(cell.choice[one], cell.choice[other]) for cell in comparison.cells}
        if len(pairs) > max(len({p[0] for p in pairs}), len({p[1] for p in pairs})):
            return one, other
    return None


def main_effects(comparison: Comparison) -> Figure:
    """For each varied setting, the score of each of its values: all runs as dots, their mean as a larger one."""
    names = list(effects(comparison))[:MOST_PANELS]
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = _figure((3.6 * columns + 0.6, 3.0 * rows + 0.5))
    spans = []
    for i, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, i + 1)
        of_value: dict[Any, list[float]] = {}
        for cell in comparison.cells:
            of_value.setdefault(cell.choice[name], []).extend(cell.scores)
        values = _ordered(of_value)
        for x, value in enumerate(values):
            axes.plot([x] * len(of_value[value]), of_value[value], ".", ms=3, color=PALETTE[5], alpha=0.6)
        numbers = all(isinstance(v, int | float) for v in values)  # between options there is nothing to join
        means = [fmean(of_value[v]) for v in values]
        axes.plot(range(len(values)), means, "o-" if numbers else "o", ms=5, color=PALETTE[0])
        _categories(axes, values)
        _plain(axes, name, comparison.metric if i % columns == 0 else "")
        spans.append(axes)
    low, high = min(a.get_ylim()[0] for a in spans), max(a.get_ylim()[1] for a in spans)
    for axes in spans:
        axes.set_ylim(low, high)  # one scale, so that panels can be told apart by eye
    return figure


def interaction(comparison: Comparison, one: str, other: str) -> Figure:
    """Mean score for each pair of values of two settings."""
    across, down = (_ordered(_by_value(comparison.cells, name)) for name in (one, other))
    table = np.full((len(down), len(across)), np.nan)
    for y, v in enumerate(down):
        for x, u in enumerate(across):
            scores = [c.mean for c in comparison.cells if c.choice[one] == u and c.choice[other] == v]
            if scores:
                table[y, x] = fmean(scores)
    figure = _figure((1.6 + 0.75 * max(len(across), 4), 1.3 + 0.5 * max(len(down), 3)))
    axes = figure.add_subplot()
    image = axes.imshow(table, cmap="viridis_r" if comparison.smaller_is_better else "viridis", aspect="auto")
    middle = np.nanmean([np.nanmin(table), np.nanmax(table)])
    for (y, x), value in np.ndenumerate(table):
        if np.isfinite(value):
            dark = (value < middle) != comparison.smaller_is_better
            axes.text(x, y, f"{value:.3f}", ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axes.set_xticks(range(len(across)), [shown(v) for v in across], fontsize=8)
    axes.set_yticks(range(len(down)), [shown(v) for v in down], fontsize=8)
    axes.set_xlabel(one)
    axes.set_ylabel(other)
    figure.colorbar(image, label=comparison.metric)
    return figure


def parallel_coordinates(comparison: Comparison) -> Figure:
    """Each cell as a line through its values, the better the darker; the score is the last axis."""
    names = [*list(effects(comparison))[:MOST_PANELS]]
    figure = _figure((1.6 * (len(names) + 1) + 1.2, 3.8))
    axes = figure.add_subplot()
    order = {name: _ordered(_by_value(comparison.cells, name)) for name in names}
    means = [cell.mean for cell in comparison.cells]
    low, high = min(means), max(means)
    from matplotlib import colormaps

    colours = colormaps["viridis_r"]
    for cell in reversed(comparison.cells):
        rank = (cell.mean - low) / (high - low) if high > low else 1.0
        good = 1 - rank if comparison.smaller_is_better else rank
        ys = [_height(order[name], cell.choice[name]) for name in names]
        axes.plot(range(len(names) + 1), [*ys, rank], color=colours(good), alpha=0.35 + 0.65 * good, lw=1 + good)
    for x, name in enumerate(names):
        axes.axvline(x, color=FAINT, lw=1)
        values = order[name] if len(order[name]) <= 12 else [order[name][0], order[name][-1]]
        for value in values:
            axes.text(
                x + 0.03, _height(order[name], value), shown(value), fontsize=8, color=INK, va="center", bbox=_BEHIND
            )
    axes.axvline(len(names), color=FAINT, lw=1)
    for value, y in ((low, 0.0), (high, 1.0)):
        axes.text(len(names) + 0.03, y, f"{value:.4f}", fontsize=8, color=INK, va="center")
    axes.set_xticks(range(len(names) + 1), [*names, comparison.metric], fontsize=9)
    axes.set_xlim(-0.1, len(names) + 0.5)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure


def learning_curves(comparison: Comparison) -> Figure | None:
    """The metric by epoch of the best cells, mean over their runs; None where no run kept its metrics.csv."""
    figure = _figure((6.6, 4.0))
    axes = figure.add_subplot()
    drawn = 0
    for cell in comparison.cells[:CURVES]:
        curves = [curve for run in cell.runs if len(curve := _curve(run.folder / "metrics.csv", comparison.metric))]
        if not curves:
            continue
        longest = max(map(len, curves))
        padded = np.full((len(curves), longest), np.nan)
        for row, curve in zip(padded, curves, strict=True):
            row[: len(curve)] = curve
        # runs that stopped early stay at their last value, or the mean would jump when they leave
        for row, curve in zip(padded, curves, strict=True):
            row[len(curve) :] = curve[-1]
        colour, x = PALETTE[drawn % len(PALETTE)], np.arange(1, longest + 1)
        axes.plot(x, padded.mean(0), color=colour, lw=1.8, label=cell.name)
        if len(curves) > 1:
            axes.fill_between(x, padded.min(0), padded.max(0), color=colour, alpha=0.12, lw=0)
        drawn += 1
    if not drawn:
        return None
    _plain(axes, "epoch", comparison.metric)
    axes.legend(fontsize=8, frameon=False, loc="best")
    return figure


def _curve(path: Any, metric: str) -> np.ndarray:
    values = np.array((read_numbers(path, metric) or []) if path.is_file() else [])
    return values[np.isfinite(values)]


def _by_value(cells: Sequence[Cell], name: str) -> dict[Any, list[float]]:
    found: dict[Any, list[float]] = {}
    for cell in cells:
        found.setdefault(cell.choice[name], []).append(cell.mean)
    return found


def _ordered(values: Any) -> list[Any]:
    def place(value: Any) -> tuple[int, float, str]:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return (0, float(value), "") if number else (1, 0.0, shown(value))

    return sorted(values, key=place)


def _height(order: list[Any], value: Any) -> float:
    return order.index(value) / (len(order) - 1) if len(order) > 1 else 0.5


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained", dpi=100)


def _categories(axes: Axes, values: Sequence[Any]) -> None:
    texts = [shown(v) for v in values]
    step = math.ceil(len(texts) / 10)
    slanted = 30 if sum(map(len, texts[::step])) > 34 else 0
    axes.set_xticks(range(0, len(texts), step), texts[::step], rotation=slanted, fontsize=8)


def _plain(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set_xlabel(xlabel, fontsize=9, color=INK)
    axes.set_ylabel(ylabel, fontsize=9, color=INK)
    axes.tick_params(length=0, labelsize=8, colors=INK)
    axes.grid(color=GRID, linewidth=0.8, axis="y")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
