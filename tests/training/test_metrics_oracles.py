"""The metrics against scikit-learn and torchmetrics."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sklearn import metrics as sk
from torch import Tensor
from torchmetrics.functional import classification as tm
from training.samples import cases, sample, single

from mlplab.training.metrics import confusion_matrix, per_class

# rows, classes in the outputs, classes in the targets
SHAPES = [(1, 2, 2), (36, 3, 3), (100, 2, 2), (57, 4, 2), (500, 10, 10), (40, 30, 30), (12, 5, 1), (2000, 2, 1)]


def quietly(oracle: Callable[[], float]) -> float:
    """Run an oracle without its warnings about absent classes, which pytest would make errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(oracle())


def precision_recall_f1_support(y: Any, predicted: Any, **options: Any) -> Any:
    options["zero_division"] = 0  # scikit-learn's default is "warn"
    return sk.precision_recall_fscore_support(y, predicted, **options)


def scikit_learn(probs: Tensor, targets: Tensor) -> dict[str, float]:
    n_classes = probs.shape[-1]
    # probs.argmax may give any of several equal classes; NumPy's promises the first.
    p, y = probs.numpy(), targets.numpy()
    predicted = p.argmax(-1)
    ranked = [1] if n_classes == 2 else range(n_classes)
    areas = [sk.roc_auc_score(y == c, p[:, c]) for c in ranked if 0 < (y == c).sum() < len(y)]
    precision, recall, f1, _ = precision_recall_f1_support(y, predicted, average="macro")
    return {
        "accuracy": sk.accuracy_score(y, predicted),
        "balanced_accuracy": quietly(lambda: sk.balanced_accuracy_score(y, predicted)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "auroc": float(np.mean(areas)) if areas else math.nan,
        "log_loss": sk.log_loss(y, y_proba=p, labels=list(range(n_classes))),
    }


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("rows", "n_classes", "drawn"), SHAPES)
def test_equal_to_scikit_learn(rows: int, n_classes: int, drawn: int, ties: bool) -> None:
    probs, targets = sample(rows, n_classes, drawn, ties=ties)
    ours = single(probs, targets)
    for name, expected in scikit_learn(probs, targets).items():
        assert ours[name] == pytest.approx(expected, abs=1e-12, nan_ok=True), name


def test_multiclass_auroc_is_scikit_learns_own_average() -> None:
    probs, targets = sample(200, 4, 4, ties=True)
    expected = sk.roc_auc_score(targets.numpy(), probs.numpy(), multi_class="ovr", average="macro")
    assert single(probs, targets)["auroc"] == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("rows", "n_classes", "drawn"), SHAPES)
def test_equal_to_torchmetrics(rows: int, n_classes: int, drawn: int, ties: bool) -> None:
    probs, targets = sample(rows, n_classes, drawn, ties=ties)
    predicted = torch.from_numpy(probs.numpy().argmax(-1))
    ours = single(probs, targets)

    def macro(function: Callable[..., Tensor]) -> float:
        return quietly(lambda: function(predicted, targets, n_classes, average="macro").item())

    # torchmetrics counts in float32
    assert ours["accuracy"] == pytest.approx(
        tm.multiclass_accuracy(predicted, targets, n_classes, average="micro").item(), abs=1e-6
    )
    assert ours["precision"] == pytest.approx(macro(tm.multiclass_precision), abs=1e-6)
    assert ours["recall"] == pytest.approx(macro(tm.multiclass_recall), abs=1e-6)
    assert ours["f1"] == pytest.approx(macro(tm.multiclass_f1_score), abs=1e-6)
    error = tm.multiclass_calibration_error(probs, targets, n_classes, n_bins=15, norm="l1").item()
    assert ours["ece"] == pytest.approx(error, abs=1e-5)
    if drawn == n_classes and not math.isnan(ours["auroc"]):  # torchmetrics gives an absent class 0
        if n_classes == 2:
            area = quietly(lambda: tm.binary_auroc(probs[:, 1], targets).item())
            assert ours["auroc"] == pytest.approx(area, abs=1e-5)
        elif len(targets.unique()) == n_classes:
            area = quietly(lambda: tm.multiclass_auroc(probs, targets, n_classes).item())
            assert ours["auroc"] == pytest.approx(area, abs=1e-5)


def test_calibration_bins_at_their_edges() -> None:
    # Every edge in float32 and the floats beside it: right and wrong alternate, so a row in the wrong bin shows.
    edges = torch.linspace(0, 1, 16, dtype=torch.float32)[8:]
    beside = [torch.nextafter(edges, torch.zeros(())), edges, torch.nextafter(edges, torch.full((), 2.0)).clamp(max=1)]
    confidence = torch.stack(beside, dim=-1).flatten()
    probs = torch.stack((confidence, 1 - confidence), dim=-1)
    for pattern in ([0], [1], [0, 1], [0, 1, 1], [0, 0, 1]):
        targets = torch.tensor(pattern).repeat(len(confidence))[: len(confidence)]
        expected = tm.multiclass_calibration_error(probs, targets, 2, n_bins=15, norm="l1").item()
        assert single(probs, targets)["ece"] == pytest.approx(expected, abs=1e-6)


def test_float32_log_loss_is_clipped_at_its_own_eps() -> None:
    probs = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.3, 0.7]])
    targets = torch.tensor([0, 1, 1])
    ours = single(probs, targets)["log_loss"]
    assert ours == pytest.approx(sk.log_loss(targets.numpy(), y_proba=probs.numpy()), rel=1e-6)
    assert ours < single(probs.double(), targets)["log_loss"]


@settings(max_examples=150, deadline=None)
@given(cases())
def test_any_case_equals_scikit_learn(case: tuple[Tensor, Tensor]) -> None:
    probs, targets = case
    ours = single(probs, targets)
    for name, expected in scikit_learn(probs, targets).items():
        assert ours[name] == pytest.approx(expected, abs=1e-12, nan_ok=True), name


def test_confusion_matrix_and_scores_per_class() -> None:
    generator = torch.Generator().manual_seed(3)
    predicted = torch.randint(0, 4, (2, 3, 50), generator=generator)
    targets = torch.randint(0, 3, (50,), generator=generator)  # class 3 is predicted and never true
    matrices = confusion_matrix(predicted, targets, 5)  # class 4 is neither
    assert matrices.shape == (2, 3, 5, 5)
    assert matrices.dtype == torch.int64
    for index in np.ndindex(2, 3):
        y, p = targets.numpy(), predicted[index].numpy()
        assert matrices[index].tolist() == sk.confusion_matrix(y, p, labels=range(5)).tolist()
        expected = precision_recall_f1_support(y, p, labels=range(5))
        ours = per_class(matrices[index])
        for name, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
            assert [row[name] for row in ours] == pytest.approx(list(column), abs=1e-15)
        assert all(type(value) is (int if name == "support" else float) for row in ours for name, value in row.items())
