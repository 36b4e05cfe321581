import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from mlplab.reports import figures


def sample(rows: int, n_classes: int, seed: int = 0, decimals: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (rows, n_classes) leaning to the targets (rows,); few decimals make ties."""
    rng = np.random.default_rng(seed)
    targets = np.arange(rows) % n_classes
    logits = rng.normal(size=(rows, n_classes))
    logits[np.arange(rows), targets] += 1.5
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probs.round(decimals), targets


def names(n: int) -> list[str]:
    return [f"class {i}" for i in range(n)]


def legend(figure: Figure) -> dict[str, float]:
    """Name -> number, of a legend's lines such as "0.957  setosa"."""
    entries = axes_of(figure).get_legend().get_texts()
    return {name: float(number) for number, name in (entry.get_text().split("  ") for entry in entries)}


def axes_of(figure: Figure, i: int = 0) -> Any:
    return figure.axes[i]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.mark.parametrize("n", [2, 3, 10])
def test_confusion_matrix_shows_every_count_and_the_shares_of_the_true_class(n: int) -> None:
    matrix = np.random.default_rng(n).integers(1, 2000, (n, n))
    figure = figures.confusion_matrix(matrix, names(n))
    axes = axes_of(figure)
    assert np.allclose(axes.images[0].get_array() * matrix.sum(1, keepdims=True), matrix)
    shown = {text.get_position()[::-1]: int(text.get_text().split("\n")[0].replace(",", "")) for text in axes.texts}
    assert shown == {(i, j): matrix[i, j] for i, j in np.ndindex(n, n)}
    assert [label.get_text() for label in axes.get_xticklabels()] == names(n)
    assert f"{np.trace(matrix) / matrix.sum():.1%}" in figure.texts[0].get_text()


def test_confusion_matrix_of_many_classes_has_no_numbers_in_its_cells() -> None:
    matrix = np.eye(47, dtype=int) * 9
    axes = axes_of(figures.confusion_matrix(matrix, names(47)))
    assert not axes.texts
    assert len(axes.get_xticklabels()) <= 16
    assert (axes.images[0].get_array() == np.eye(47)).all()


def test_confusion_matrix_with_a_class_without_rows() -> None:
    figure = figures.confusion_matrix(np.array([[3, 1], [0, 0]]), ["a", "b"])
    assert axes_of(figure).images[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(4, 60), decimals=st.integers(1, 8))
def test_curves_and_their_scores_are_those_of_sklearn_with_ties_too(seed: int, rows: int, decimals: int) -> None:
    probs, targets = sample(rows, 3, seed, decimals)
    scores, positive = probs[:, 0], targets == 0
    assert figures.roc(scores, positive).score == pytest.approx(roc_auc_score(positive, scores))
    curve = figures.precision_recall(scores, positive)
    assert curve.score == pytest.approx(average_precision_score(positive, scores))
    precision, recall, _ = precision_recall_curve(positive, scores)
    assert np.allclose(curve.x, recall[::-1])
    assert np.allclose(curve.y[1:], precision[::-1][1:])


@pytest.mark.parametrize("n", [3, 10])
def test_roc_legend_states_the_areas_of_sklearn(n: int) -> None:
    probs, targets = sample(300, n)
    stated = legend(figures.roc_curves(probs, targets, names(n)))
    exact = [roc_auc_score(targets == c, probs[:, c]) for c in range(n)]
    assert list(stated) == ["macro average", *names(n)]
    assert list(stated.values()) == pytest.approx([np.mean(exact), *exact], abs=0.00051)


def test_roc_of_two_classes_is_the_one_curve_of_the_second() -> None:
    probs, targets = sample(101, 2)
    assert legend(figures.roc_curves(probs, targets, ["no", "yes"])) == {
        "yes": pytest.approx(roc_auc_score(targets, probs[:, 1]), abs=0.00051)
    }


def test_precision_recall_legend_states_the_average_precisions_of_sklearn() -> None:
    probs, targets = sample(300, 3)
    stated = legend(figures.precision_recall_curves(probs, targets, names(3)))
    exact = [average_precision_score(targets == c, probs[:, c]) for c in range(3)]
    assert list(stated.values()) == pytest.approx([np.mean(exact), *exact], abs=0.00051)


def test_many_classes_name_the_best_and_the_worst_beside_the_average_of_all() -> None:
    probs, targets = sample(600, 20)
    figure = figures.roc_curves(probs, targets, names(20))
    exact = sorted((roc_auc_score(targets == c, probs[:, c]) for c in range(20)), reverse=True)
    assert list(legend(figure).values()) == pytest.approx([np.mean(exact), *exact[:3], *exact[-3:]], abs=0.00051)
    assert len(axes_of(figure).lines) == 9  # chance, all the rest as one, the average and six


@pytest.mark.parametrize("make", [figures.roc_curves, figures.precision_recall_curves])
def test_a_class_without_rows_is_left_out_and_one_class_alone_has_no_curve(make: Callable[..., Figure]) -> None:
    probs, targets = sample(90, 3)
    kept = targets != 1
    assert list(legend(make(probs[kept], targets[kept], names(3)))) == ["macro average", "class 0", "class 2"]
    alone = make(probs[targets == 0], targets[targets == 0], names(3))
    assert alone.axes[0].get_legend() is None
    assert "needs rows of two classes" in texts(alone)


def test_drawn_curve_keeps_its_ends_and_its_shape() -> None:
    probs, targets = sample(30_000, 2)
    full = figures.roc(probs[:, 1], targets == 1)
    drawn = axes_of(figures.roc_curves(probs, targets, names(2))).lines[1].get_xydata()
    assert len(drawn) <= 500
    assert drawn[0].tolist() == [0, 0]
    assert drawn[-1].tolist() == [1, 1]
    points = np.stack([full.x, full.y], 1)[::10]
    assert np.abs(points[:, None] - drawn).sum(-1).min(1).max() < 0.01  # none is left out by far


@pytest.mark.parametrize("make", [lambda p, t: figures.roc_curves(p, t, names(3)), figures.reliability])
def test_probabilities_that_are_not_finite_are_refused(make: Callable[..., Figure]) -> None:
    probs, targets = sample(9, 3)
    probs[4] = np.nan
    with pytest.raises(ValueError, match="finite"):
        make(probs, targets)


def test_reliability_bars_and_error() -> None:
    probs, targets = sample(500, 4)
    figure = figures.reliability(probs, targets, bins=10)
    sure, right = probs.max(1), probs.argmax(1) == targets
    error, heights, counts = 0.0, [], []
    for b in range(10):
        inside = (sure >= b / 10) & (sure < (b + 1) / 10)
        if inside.any():
            heights.append(right[inside].mean())
            counts.append(inside.sum())
            error += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    upper, lower = ([segment[1, 1] for segment in axes_of(figure, i).collections[0].get_segments()] for i in range(2))
    assert upper == pytest.approx(heights)
    assert lower == counts
    assert f"{error:.3f}" in figure.texts[0].get_text()


def test_reliability_of_certainty_has_no_error() -> None:
    probs = np.eye(3)
    assert "0.000" in figures.reliability(probs, np.arange(3)).texts[0].get_text()


def test_learning_curves_draw_what_they_are_given_and_mark_the_least_val_loss() -> None:
    history = {
        "train/loss": [3.0, 2.0, 1.0],
        "val/loss": [3.0, 1.5, 2.0],
        "train/accuracy": [0.1, 0.5, 0.9],
        "val/accuracy": [0.1, np.nan, 0.6],
        "lr": [1.0, 1.0, 1.0],
    }
    figure = figures.learning_curves(history)
    loss, accuracy = axes_of(figure), axes_of(figure, 1)
    drawn = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert drawn["train"] == [[1, 3], [2, 2], [3, 1]]
    assert drawn["val"] == [[1, 3], [2, 1.5], [3, 2]]
    assert [x for x, _ in drawn["best epoch: 2"]] == [2, 2]
    assert {line.get_label() for line in accuracy.lines} == {"train", "val", "best epoch: 2"}
    assert accuracy.lines[1].get_xydata().tolist() == [[1, 0.1], [3, 0.6]]  # the epoch without a value is passed over
    assert "best epoch: 3" in texts(figures.learning_curves(history, best=2))


@pytest.mark.parametrize(
    ("history", "panels"),
    [
        ({}, 1),
        ({"train/loss": [np.nan, np.inf]}, 1),
        ({"train/loss": [], "val/accuracy": []}, 2),
        ({"train/accuracy": [0.5]}, 1),
        ({"train/loss": [1e6, 1.0]}, 1),
    ],
)
def test_learning_curves_of_odd_histories(history: dict[str, list[float]], panels: int) -> None:
    figure = figures.learning_curves(history)
    assert len(figure.axes) == panels
    assert figures.png(figure)


def boundary(n: int, resolution: int = 40) -> tuple[Figure, np.ndarray]:
    """A figure of n classes in bands along both features, and the probabilities it was told."""
    told = []

    def predict(points: np.ndarray) -> np.ndarray:
        logits = np.stack([np.cos(points @ [3, 2] - 2 * np.pi * c / n) * 4 for c in range(n)], 1)
        told.append(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
        return told[-1]

    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2))
    figure = figures.decision_boundary(predict, x, np.arange(50) % n, ["a", "b"], names(n), resolution)
    assert len(told) == 1
    return figure, told[0].reshape(resolution, resolution, n)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_boundary_regions_are_the_predicted_classes_and_the_surer_the_stronger(n: int) -> None:
    figure, probs = boundary(n)
    pixels = 255 - np.asarray(axes_of(figure).images[0].get_array(), float)  # away from white
    palette = np.array([[255 - int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in figures.PALETTE[:n]])
    unit = palette / np.linalg.norm(palette, axis=1, keepdims=True)
    strong = probs.max(-1) > 1 / n + 0.2  # pale ones are rounded too much to tell the hue
    assert (np.argmax(pixels @ unit.T, -1) == probs.argmax(-1))[strong].all()
    for c in range(n):
        region = probs.argmax(-1) == c
        order = np.argsort(probs.max(-1)[region])
        assert (np.diff(pixels[region].sum(-1)[order]) >= -3).all()


def test_boundary_grid_lies_where_the_image_shows_it() -> None:
    seen = []

    def predict(points: np.ndarray) -> np.ndarray:
        seen.append(points)
        return np.full((len(points), 2), 0.5)

    x = np.array([[0.0, 10.0], [1.0, 30.0], [0.5, 20.0]])
    image = axes_of(figures.decision_boundary(predict, x, np.array([0, 1, 0]), ["a", "b"], names(2), 20)).images[0]
    left, right, bottom, top = image.get_extent()
    assert left < 0 < 1 < right
    assert bottom < 10 < 30 < top
    centres = seen[0].reshape(20, 20, 2)
    assert centres[0, :, 0] == pytest.approx(left + (np.arange(20) + 0.5) * (right - left) / 20)
    assert centres[:, 0, 1] == pytest.approx(bottom + (np.arange(20) + 0.5) * (top - bottom) / 20)


def test_boundary_draws_every_row_in_its_class_and_shortens_a_long_legend() -> None:
    figure, _ = boundary(12)
    axes = axes_of(figure)
    assert sum(len(line.get_xydata()) for line in axes.lines) == 50
    assert [len(line.get_xydata()) for line in axes.lines[:12]] == [5, 5, *[4] * 10]
    assert [text.get_text().strip("\u200a") for text in axes.get_legend().get_texts()] == [*names(9), "3 more"]


AWKWARD = ["_hidden", "$5$ \\frac", "two\nlines", "猫", "", "a name far too long to be written out in full"]


def test_class_names_of_every_kind_are_drawn_without_a_warning() -> None:
    probs, targets = sample(60, 6)
    points = probs[:, :2]
    for figure in (
        figures.confusion_matrix(np.ones((6, 6), int), AWKWARD),
        figures.roc_curves(probs, targets, AWKWARD),
        figures.decision_boundary(lambda p: np.full((len(p), 6), 1 / 6), points, targets, AWKWARD[:2], AWKWARD, 8),
    ):
        assert figures.png(figure).startswith(b"\x89PNG")
        assert any("hidden" in text for text in texts(figure))
        assert all(len(text) < 60 for text in texts(figure))


def test_a_picture_is_drawn_once(tmp_path: Path) -> None:
    figure = figures.learning_curves({"train/loss": [2.0, 1.0]})
    drawn = figures.png(figure)
    assert figures.png(figure) is drawn
    with Image.open(io.BytesIO(drawn)) as image:
        assert image.size == (480, 420)
        assert len(image.getcolors(1 << 20) or ()) > 10


def test_neither_pyplot_nor_at_import_matplotlib_is_loaded() -> None:
    code = (
        "import sys, mlplab.reports.figures as f; assert 'matplotlib' not in sys.modules\n"
        "f.png(f.learning_curves({'train/loss': [2.0, 1.0]})); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_palette_colours_are_distinct() -> None:
    assert len(set(figures.PALETTE)) == len(figures.PALETTE)
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in figures.PALETTE)
