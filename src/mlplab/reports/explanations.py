"""Pictures of what a network looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mlplab.reports.figures import FAINT, GRID, INK, PALETTE, SHADES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 20
"""Columns that are drawn at most, and classes of a curve."""


def importance_bars(title: str, bars: Sequence[tuple[str, float, float]]) -> Figure:
    """A bar for each (name, mean, spread), the first on top; at most the first twenty."""
    shown = bars[:SHOWN]
    names = [_label(name) for name, _, _ in shown]
    figure = _figure(title if len(shown) == len(bars) else f"{title}; {SHOWN} of {len(bars)} columns", 1, len(shown))
    axes = figure.subplots()
    axes.barh(range(len(shown)), [mean for _, mean, _ in shown], color=PALETTE[0], height=0.7)
    axes.errorbar(
        [mean for _, mean, _ in shown], range(len(shown)), xerr=[s for _, _, s in shown], fmt="none", ecolor=INK
    )
    axes.set_yticks(range(len(shown)), names, fontsize=9)
    axes.invert_yaxis()
    axes.axvline(0, color=FAINT, linewidth=1)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def heat_map(title: str, heat: NDArray[Any]) -> Figure:
    """Importance of each pixel's square, shape (height, width)."""
    from matplotlib.colors import LinearSegmentedColormap

    figure = _figure(title, 1, 12)
    axes = figure.subplots()
    shades = LinearSegmentedColormap.from_list("shades", SHADES)
    image = axes.imshow(heat, cmap=shades, vmin=0, vmax=max(float(heat.max()), 1e-12))
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def dependence_curves(
    rows: str, curves: Sequence[tuple[str, NDArray[Any], NDArray[Any]]], class_names: Sequence[str]
) -> Figure:
    """A panel for each (column, values (points,), mean probabilities (points, n_classes)), a line for each class.

    Of two classes the second alone is drawn.

    Args:
        rows: says over which rows the mean is.
    """
    figure = _figure(f"Mean probability with the column set to a value: {rows}", len(curves), 10)
    classes = [1] if len(class_names) == 2 else range(len(class_names))[:SHOWN]
    for axes, (name, values, probs) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        for i, c in enumerate(classes):
            marker = "o" if len(values) <= 10 else ""
            axes.plot(values, probs[:, c], marker=marker, ms=4, color=PALETTE[i % len(PALETTE)], label=class_names[c])
        axes.set_xlabel(_label(name))
        axes.set_ylim(0, 1)
        axes.grid(color=GRID)
        axes.spines[["top", "right"]].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, [_label(n) for n in names], loc="outside lower center", ncols=6, fontsize=9, frameon=False)
    return figure


def _figure(title: str, panels: int, lines: int) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.4, 4.2 * panels), 1.6 + 0.26 * max(lines, 4)), layout="constrained")
    figure.suptitle(title, fontsize=11, fontweight="bold", color=INK)
    return figure


def _label(name: str) -> str:
    name = " ".join(name.split())
    return (name if len(name) <= 32 else name[:31] + "…").replace("$", r"\$")
