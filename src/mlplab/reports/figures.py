"""Pictures of a run: pure functions from arrays to a matplotlib ``Figure``, without pyplot and its registry.

Drawing time is mostly text and artists: the layout is fixed by hand, and what can be one artist is one.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A4FBF", "#666666")
"""Class colours, told apart by colour-blind readers too (Okabe and Ito's, with a violet and a grey)."""
INK, FAINT, GRID = "#222222", "#777777", "#E4E4E4"
SHADES, MANY = (
    ("#FFFFFF", "#BFD9EA", PALETTE[0], "#003A5C"),
    10,
)  # with more classes than this, figures summarize instead of naming each class

_LEGEND: dict[str, Any] = {"fontsize": 9, "edgecolor": "none", "framealpha": 0.85}
_SIZE, _BOX = (6.4, 5.0), (0.1, 0.12, 0.86, 0.8)
_DRAWN: WeakKeyDictionary[Figure, bytes] = WeakKeyDictionary()
_DASHES, _MARKERS = ("-", "--", ":", "-."), ("o", "s", "^", "D")


class Curve(NamedTuple):
    """A class's curve, x and y (points,), and the number that sums it up."""

    x: Floats
    y: Floats
    score: float


def roc(scores: Floats, positive: Bools) -> Curve:
    """False and true positive rate at every threshold, and the area under them; both arguments (rows,)."""
    hits, misses = _counts(scores, positive)
    x, y = misses / misses[-1], hits / hits[-1]
    return Curve(x, y, float(np.trapezoid(y, x)))


def precision_recall(scores: Floats, positive: Bools) -> Curve:
    """Recall and precision at every threshold, and the average precision; both arguments (rows,)."""
    hits, misses = _counts(scores, positive)
    recall, precision = hits / hits[-1], hits[1:] / (hits[1:] + misses[1:])
    return Curve(recall, np.append(precision[0], precision), float(np.sum(np.diff(recall) * precision)))


def confusion_matrix(matrix: Ints, class_names: Sequence[str]) -> Figure:
    """Counts ``matrix`` (classes, classes), true by predicted, shaded by their share of the true class."""
    from matplotlib.colors import LinearSegmentedColormap

    n, total = len(matrix), matrix.sum()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    figure = _figure(f"Confusion matrix: accuracy {np.trace(matrix) / max(total, 1):.1%} of {total:,} rows", (6.4, 5.6))
    axes = _axes(figure, (0.2, 0.19, 0.64, 0.73), "predicted", "true")
    axes.grid(visible=False)
    shades = LinearSegmentedColormap.from_list("shades", SHADES)
    image = axes.imshow(share, cmap=shades, vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    names = [_short(name, 13 if n <= MANY else 11) for name in class_names]
    size, every = 9 if n <= MANY else 8, -(-n // 16)
    upright = max(map(len, names)) * n < 50
    axes.set_xticks(range(0, n, every), names[::every], fontsize=size, rotation=0 if upright else 90)
    axes.set_yticks(range(0, n, every), names[::every], fontsize=size)
    if n > MANY:
        scale = figure.add_axes((0.87, 0.19, 0.025, 0.73))
        figure.colorbar(image, cax=scale, ticks=[0, 0.5, 1], format=lambda value, _: f"{value:.0%}")
        scale.tick_params(length=0, labelsize=8, colors=FAINT)
        scale.spines[:].set_visible(False)
        return figure
    axes.set_position((0.2, 0.19, 0.76, 0.73))
    for i, j in np.ndindex(n, n):
        if matrix[i, j] or n <= 5:
            label = f"{matrix[i, j]:,}\n{share[i, j]:.1%}" if n <= 5 else f"{matrix[i, j]}"
            colour = "white" if share[i, j] > 0.5 else INK
            axes.text(j, i, label, ha="center", va="center", color=colour, fontsize=11 if n <= 5 else 8)
    return figure


def roc_curves(probs: Floats, targets: Ints, class_names: Sequence[str]) -> Figure:
    """Each class against the rest, from ``probs`` (rows, classes) and ``targets`` (rows,), with the area under it."""
    axes = _axes(figure := _figure("ROC curves", _SIZE), _BOX, "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, dashes=(4, 4))
    drawn = [1] if len(class_names) == 2 else range(len(class_names))  # of two classes, either one shows both
    _draw(axes, _curves(roc, probs, targets, drawn), class_names, "AUC", "lower right")
    return figure


def precision_recall_curves(probs: Floats, targets: Ints, class_names: Sequence[str]) -> Figure:
    """Each class against the rest, from ``probs`` (rows, classes), ``targets`` (rows,), with its average precision."""
    figure = _figure("Precision-recall curves", _SIZE)
    curves = _curves(precision_recall, probs, targets, range(len(class_names)))
    _draw(_axes(figure, _BOX, "recall", "precision"), curves, class_names, "average precision", "lower left")
    return figure


def reliability(probs: Floats, targets: Ints, bins: int = 15) -> Figure:
    """Accuracy by confidence (the largest of a row of ``probs`` (rows, classes)) in even bins, and its mean gap."""
    if not np.isfinite(probs).all():
        raise ValueError("probabilities must be finite")
    sure, right = probs.max(1).astype(np.float64), probs.argmax(1) == targets
    bin_of = np.minimum((sure * bins).astype(int), bins - 1)
    used = np.flatnonzero(count := np.bincount(bin_of, minlength=bins))
    accuracy = np.bincount(bin_of, right, bins)[used] / count[used]
    confidence = np.bincount(bin_of, sure, bins)[used] / count[used]
    error = np.sum(count[used] * np.abs(accuracy - confidence)) / max(len(sure), 1)
    figure = _figure(f"Reliability: expected calibration error {error:.3f}", _SIZE)
    axes = _axes(figure, (0.1, 0.34, 0.86, 0.58), "", "accuracy (bars)")
    middle, width = (used + 0.5) / bins, 0.86 * _SIZE[0] * 72 / bins - 1
    axes.vlines(middle, 0, accuracy, linewidth=width, color=PALETTE[5], zorder=1)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, dashes=(4, 4), label="perfectly calibrated")
    axes.plot(middle, confidence, "_", ms=14, mew=2.5, color=PALETTE[1], label="mean confidence")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.tick_params(labelbottom=False)
    axes.legend(loc="upper left", fontsize=9, frameon=False)
    below = _axes(figure, (0.1, 0.12, 0.86, 0.17), "confidence", "rows")
    below.vlines(middle, 0, count[used], linewidth=width, color=FAINT)
    below.set(xlim=(0, 1), ylim=(0, None))
    below.locator_params(axis="y", nbins=3)
    return figure


def learning_curves(history: Mapping[str, Sequence[float]], best: int | None = None) -> Figure:
    """Loss and accuracy by epoch, of keys such as ``train/loss`` and ``val/accuracy``; others are not shown.

    ``history``: name -> one value an epoch, not drawn if not finite. ``best``: index of the epoch to mark, by default
    that of the least val/loss, or else train/loss.
    """
    panels = [kind for kind in ("loss", "accuracy") if any(name.endswith(kind) for name in history)] or ["loss"]
    if best is None:
        told = np.asarray(history.get("val/loss", history.get("train/loss", ())), np.float64)
        best = int(np.argmin(np.where(np.isfinite(told), told, np.inf))) if np.isfinite(told).any() else None
    figure, width = _figure("Learning curves", (4.8 * len(panels), 4.2)), 1 / len(panels)
    for place, kind in enumerate(panels):
        axes = _axes(figure, ((place + 0.13) * width, 0.13, 0.84 * width, 0.76), "epoch", kind)
        drawn: list[float] = []
        for name in (name for name in history if name.rpartition("/")[2] == kind):
            y = np.asarray(history[name], np.float64)
            kept, part = np.isfinite(y), name.partition("/")[0]
            colour = PALETTE[{"train": 0, "val": 1, "test": 2}.get(part, 3)]
            marker = "o" if kept.sum() <= 20 else ""
            axes.plot(1 + np.flatnonzero(kept), y[kept], marker=marker, ms=4, lw=1.8, color=colour, label=part)
            drawn.extend(y[kept])
        if kind == "loss" and drawn and min(drawn) > 0 and max(drawn) > 50 * min(drawn):
            axes.set_yscale("log")
        if best is not None:
            axes.axvline(best + 1, color=FAINT, lw=1.2, dashes=(3, 3), zorder=1, label=f"best epoch: {best + 1}")
        axes.locator_params(axis="x", integer=True, nbins=6)
        if drawn:
            axes.legend(loc="upper right" if kind == "loss" else "lower right", **_LEGEND)
    return figure


def decision_boundary(
    predict: Callable[[Floats], Floats],
    x: Floats,
    y: Ints,
    feature_names: Sequence[str],
    class_names: Sequence[str],
    resolution: int = 160,
) -> Figure:
    """Regions in the colour of the likeliest class, the paler the less sure, with the rows ``x`` (rows, 2) on top.

    ``predict``: (points, 2) -> class probabilities (points, classes), asked once. ``y``: class indices (rows,).
    """
    low, high = x.min(0).astype(np.float64), x.max(0).astype(np.float64)
    margin = 0.06 * np.where(high > low, high - low, 1.0)
    edges = np.linspace(low - margin, high + margin, resolution + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    grid = np.stack(np.meshgrid(centres[:, 0], centres[:, 1]), -1).reshape(-1, 2)
    probs = np.asarray(predict(grid)).reshape(resolution, resolution, -1)
    n = probs.shape[-1]
    surplus = (np.nan_to_num(probs.max(-1, keepdims=True)) - 1 / n) / max(1 - 1 / n, 1e-9)
    colours = np.array([[int(PALETTE[c % len(PALETTE)][i : i + 2], 16) for i in (1, 3, 5)] for c in range(n)])
    regions = 255 - (0.08 + 0.47 * surplus.clip(0, 1)) * (255 - colours[probs.argmax(-1)])
    figure = _figure("Decision boundary", _SIZE)
    axes = _axes(figure, (0.11, 0.12, 0.85, 0.8), _short(feature_names[0], 40), _short(feature_names[1], 40))
    axes.grid(visible=False)
    box = (*edges[[0, -1], 0], *edges[[0, -1], 1])
    axes.imshow(regions.round().astype(np.uint8), extent=box, origin="lower", aspect="auto", interpolation="bilinear")
    handles, labels = [], []
    every = max(1, len(x) // 2000)  # more points would only hide the regions
    for c in range(n):
        rows = x[::every][y[::every] == c]
        marker, size = _MARKERS[c // len(PALETTE) % len(_MARKERS)], 5 if len(x) < 600 else 3.5
        handles += axes.plot(*rows.T, marker, color=PALETTE[c % len(PALETTE)], ms=size, mec="white", mew=0.5)
        labels.append("\u200a" + _short(class_names[c], 16))  # a legend leaves out labels that start with "_"
    if n > MANY:
        handles[MANY - 1 :], labels[MANY - 1 :] = axes.plot([], [], ls=""), [f"{n - MANY + 1} more"]
    axes.legend(handles, labels, loc="upper right", markerscale=1.4, **_LEGEND)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file; drawn once, however often it is asked for."""
    if (known := _DRAWN.get(figure)) is not None:
        return known
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a class name in a script that the font lacks shows as boxes
        canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(buffer, "PNG", compress_level=3)
    return _DRAWN.setdefault(figure, buffer.getvalue())


def _counts(scores: Floats, positive: Bools) -> tuple[Ints, Ints]:
    """Positives and negatives at or above each distinct score, from the greatest down, starting with (0, 0)."""
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    order = np.argsort(-scores)
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of each run of equal scores
    hits = np.cumsum(positive[order])[last]
    return np.append(0, hits), np.append(0, last + 1 - hits)


def _curves(
    make: Callable[[Floats, Bools], Curve], probs: Floats, targets: Ints, classes: Iterable[int]
) -> dict[int, Curve]:
    """The curve of each class that some but not all rows belong to."""
    masks = {c: targets == c for c in classes}
    return {c: make(probs[:, c], mask) for c, mask in masks.items() if mask.any() and not mask.all()}


def _draw(axes: Axes, curves: Mapping[int, Curve], names: Sequence[str], measure: str, place: Any) -> None:
    """Draw the curves and their macro average; of many, only the three best and worst are coloured and named."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    if not curves:
        axes.text(0.5, 0.5, "needs rows of two classes", ha="center", color=FAINT)
        return
    handles, labels, shown = [], [], dict(enumerate(curves))
    if len(curves) > MANY:
        ranked = sorted(curves, key=lambda c: -curves[c].score)
        shown, measure = dict(enumerate([*ranked[:3], *ranked[-3:]])), f"{measure}, 3 best and worst of {len(curves)}"
        gaps = [np.vstack([_thinned(curve, 150), [[np.nan] * 2]]) for curve in curves.values()]
        axes.plot(*np.concatenate(gaps).T, color="#C4C4C4", linewidth=0.7)
    if len(curves) > 1:
        x = np.linspace(0, 1, 201)
        mean = np.mean([np.interp(x, curve.x, curve.y) for curve in curves.values()], 0)
        handles += axes.plot(x, mean, color=INK, linewidth=2.6, zorder=3)
        labels.append(f"{np.mean([curve.score for curve in curves.values()]):.3f}  macro average")
    for i, c in shown.items():
        line = _DASHES[i // len(PALETTE)]
        handles += axes.plot(*_thinned(curves[c], 500).T, line, color=PALETTE[i % len(PALETTE)], linewidth=1.6)
        labels.append(f"{curves[c].score:.3f}  {_short(names[c], 18)}")
    axes.legend(handles, labels, title=measure, title_fontsize=9, alignment="left", loc=place, **_LEGEND)


def _thinned(curve: Curve, most: int) -> Floats:
    """At most so many points (points, 2) of a curve, evenly spread along it."""
    along = np.append(0, np.cumsum(np.abs(np.diff(curve.x)) + np.abs(np.diff(curve.y))))
    keep = np.unique(np.searchsorted(along, np.linspace(0, along[-1], most)))
    return np.column_stack([curve.x[keep], curve.y[keep]])


def _figure(title: str, size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100, facecolor="white")
    figure.text(0.5, 0.985, title, fontsize=12, fontweight="bold", color=INK, ha="center", va="top")
    return figure


def _axes(figure: Figure, box: tuple[float, float, float, float], xlabel: str, ylabel: str) -> Axes:
    axes = figure.add_axes(box)
    axes.set_xlabel(xlabel, fontsize=10, color=INK)
    axes.set_ylabel(ylabel, fontsize=10, color=INK)
    axes.tick_params(length=0, labelsize=9, colors=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#AAAAAA")
    return axes


def _short(name: str, most: int) -> str:
    """At most so many characters, both ends kept, on one line and safe from being read as a formula."""
    name = " ".join(name.split())
    if len(name) > most:
        name = name[: most // 2] + "…" + name[len(name) - (most - 1) // 2 :]
    return name.replace("$", r"\$")
