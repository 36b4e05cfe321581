"""Classification metrics, computed once per epoch for one network or for many at a time.

Leading dimensions ("networks") are free: ``(..., rows, n_classes)``. All sums over rows and over classes are sums of
integers (floats go through a fixed-point form first), so neither the order of the rows, nor the number of threads,
nor the other networks in the call can change a single bit of a sum.

Sources: scikit-learn's user guide, "Metrics and scoring"; Mann and Whitney (1947) and Hanley and McNeil (1982), "The
meaning and use of the area under a ROC curve" (AUROC as a rank statistic); Guo, Pleiss, Sun and Weinberger (2017), "On
Calibration of Modern Neural Networks" (expected calibration error).
"""

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["ECE_BINS", "METRICS", "compute", "confusion_matrix", "per_class", "probabilities"]

METRICS: dict[str, str] = {
    "accuracy": "max",
    "balanced_accuracy": "max",
    "precision": "max",
    "recall": "max",
    "f1": "max",
    "auroc": "max",
    "log_loss": "min",
    "ece": "min",
}
"""Name of each metric that ``compute`` returns -> the direction that is better, "max" or "min"."""

ECE_BINS = 15
"""Number of equal-width confidence bins of the expected calibration error (Guo et al. 2017 use 15)."""

# Scores ranked at a time: ranking needs some 50 bytes for each, which then stay in the processor's cache.
_BLOCK = 1 << 18

_FEW_CLASSES = 32


def probabilities(logits: Tensor) -> Tensor:
    """Class probabilities from a network's outputs.

    Args:
        logits: ``(..., rows, n_outputs)``. One output is the logit of class 1 of two classes (sigmoid);
            two or more are one logit per class (softmax).

    Returns:
        ``(..., rows, n_classes)`` in the dtype of ``logits``, but at least float32: half precision ranks too coarsely.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if logits.shape[-1] == 1:
        # sigmoid(-x) is 1 - sigmoid(x) without the cancellation that turns a small 1 - p into 0.
        return torch.cat((torch.sigmoid(-logits), torch.sigmoid(logits)), dim=-1)
    if logits.shape[-1] > _FEW_CLASSES:
        return torch.softmax(logits, dim=-1)
    # Along the rows, not the few classes: nine times as fast. Added up class by class, as torch's own sum (and its
    # softmax) along another dimension would give the rows at the end of a vector other last bits than the rest.
    columns = logits.mT.contiguous()
    raised = (columns - columns.amax(dim=-2, keepdim=True)).exp_()
    total = raised[..., :1, :].clone()
    for k in range(1, raised.shape[-2]):
        total.add_(raised[..., k : k + 1, :])
    return raised.div_(total).mT.contiguous()


@torch.no_grad()
def compute(probs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """All metrics in ``METRICS``; the predicted class is the most probable one (ties: the lowest index).

    * ``accuracy``: share of rows predicted correctly.
    * ``balanced_accuracy``: mean recall over the classes in the targets (scikit-learn's ``balanced_accuracy_score``).
    * ``precision``, ``recall``, ``f1``: mean over the classes that occur in the targets or in the predictions, a
      class with an empty denominator counting 0 (scikit-learn's ``average="macro", zero_division=0``).
    * ``auroc``: two classes: probability that a row of class 1 has a higher p(1) than a row of class 0, ties counted
      half (Mann-Whitney; Hanley and McNeil 1982). More classes: the same for each class against the rest, averaged
      over the classes that occur in the targets. NaN when the targets hold only one class.
    * ``log_loss``: mean of -ln p(true class), p clipped to ``[eps, 1 - eps]`` of its dtype (scikit-learn's).
    * ``ece``: expected calibration error of the top-label confidence in 15 equal-width bins (Guo et al. 2017):
      the sum over bins of |number correct - sum of confidence| / rows. Bins are chosen in float32, hold their lower
      edge and not their upper one, and a confidence of exactly 1 has a bin of its own, all as in torchmetrics'
      ``multiclass_calibration_error(n_bins=15, norm="l1")`` (the paper's bins are closed above instead).

    Args:
        probs: ``(..., rows, n_classes)``, floating point, in [0, 1].
        targets: ``(..., rows)``, int64 in ``[0, n_classes)``. Leading dimensions broadcast against those of ``probs``,
            so ``(rows,)`` is shared by all networks.

    Returns:
        name -> float64 ``(...)``. All NaN with zero rows, and for a network with a probability that is not finite
        (it diverged); the other networks are not affected.

    Raises:
        ValueError: the numbers of rows differ, or a target or a finite probability is out of range.
    """
    rows, n_classes = probs.shape[-2:]
    if targets.shape[-1] != rows:
        raise ValueError(f"targets have {targets.shape[-1]} rows and probabilities {rows}")
    lead = np.broadcast_shapes(probs.shape[:-2], targets.shape[:-1])  # torch's own imports sympy at its first call
    if rows == 0 or n_classes == 0 or math.prod(lead) == 0:
        nan = torch.full(lead, math.nan, dtype=torch.float64, device=probs.device)
        return {name: nan.clone() for name in METRICS}
    _check_classes(targets, n_classes, "targets")
    flat_probs = probs.expand(*lead, rows, n_classes).reshape(-1, rows, n_classes)
    flat_targets = targets.expand(*lead, rows).reshape(-1, rows)
    return {name: value.reshape(lead) for name, value in _compute_flat(flat_probs, flat_targets).items()}


def confusion_matrix(predictions: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    """Number of rows of each true class (row of the matrix) predicted as each class (column).

    Args:
        predictions: ``(..., rows)``, int64 in ``[0, n_classes)``.
        targets: the same; the leading dimensions of the two broadcast.
        n_classes: side of the matrix.

    Returns:
        int64 ``(..., n_classes, n_classes)``, laid out like scikit-learn's ``confusion_matrix``.

    Raises:
        ValueError: the numbers of rows differ, or a class is out of range.
    """
    if predictions.shape[-1] != targets.shape[-1]:
        raise ValueError(f"targets have {targets.shape[-1]} rows and predictions {predictions.shape[-1]}")
    _check_classes(predictions, n_classes, "predictions")
    _check_classes(targets, n_classes, "targets")
    cells = targets * n_classes + predictions
    lead = cells.shape[:-1]
    counts = _count(cells.reshape(math.prod(lead), cells.shape[-1]), n_classes * n_classes)
    return counts.reshape(*lead, n_classes, n_classes)


def per_class(confusion: Tensor) -> list[dict[str, float]]:
    """Scores of each class, in class order, from one ``(n_classes, n_classes)`` confusion matrix.

    The keys are ``precision``, ``recall``, ``f1`` (float) and ``support`` (int: number of true rows). An empty
    denominator gives 0, as in scikit-learn's ``precision_recall_fscore_support(zero_division=0)``.
    """
    actual = confusion.sum(dim=1)
    scores = _precision_recall_f1(confusion.diagonal(), confusion.sum(dim=0), actual).tolist()
    return [
        {"precision": precision, "recall": recall, "f1": f1, "support": support}
        for precision, recall, f1, support in zip(*scores, actual.tolist(), strict=True)
    ]


def _check_classes(classes: Tensor, n_classes: int, what: str) -> None:
    # Out of range, a class would be counted silently in another class's or another network's cell.
    if classes.numel():
        low, high = torch.aminmax(classes)
        if low < 0 or high >= n_classes:
            raise ValueError(f"{what} must be classes from 0 to {n_classes - 1}: found {int(low)} to {int(high)}")


def _count(cells: Tensor, n_cells: int) -> Tensor:
    """``(networks, rows)`` cell numbers -> ``(networks, n_cells)`` counts."""
    networks = torch.arange(len(cells), device=cells.device).unsqueeze(-1)
    return torch.bincount((cells + networks * n_cells).flatten(), minlength=len(cells) * n_cells).reshape(-1, n_cells)


def _precision_recall_f1(hits: Tensor, predicted: Tensor, actual: Tensor) -> Tensor:
    """Counts per class ``(..., n_classes)`` -> float64 ``(3, ..., n_classes)``, 0 where a denominator is 0."""
    numerators = torch.stack((hits, hits, 2 * hits)).double()
    return numerators / torch.stack((predicted, actual, predicted + actual)).clamp(min=1)


def _fixed_point(values: Tensor, terms: int, largest: float) -> tuple[Tensor, float]:
    """Values times a power of two, as int64 of which ``terms`` sum without overflow, and that power of two.

    The power depends on ``terms`` and ``largest`` (the bound of the values) alone, so that equal values give equal
    integers in every call. A value is rounded by at most 2**-41, even among 60 000 terms of log loss.
    """
    scale = 2.0 ** min(52, 62 - math.ceil(math.log2(terms * largest)))
    return (values.double() * scale).round().long(), scale


def _compute_flat(probs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """``compute`` for ``(networks, rows, n_classes)`` and ``(networks, rows)``, none of them empty."""
    eps = torch.finfo(probs.dtype).eps
    diverged = None
    low, high = torch.aminmax(probs)
    if not (low >= 0 and high <= 1 + 4 * eps):  # false for NaN too: healthy networks pay for one pass only
        diverged = ~torch.isfinite(probs).flatten(1).all(dim=1)
        probs = probs.masked_fill(diverged[:, None, None], 0.0)
        low, high = torch.aminmax(probs)
        if low < 0 or high > 1 + 4 * eps:
            raise ValueError(f"probabilities must be in [0, 1]: found {float(low)} to {float(high)}")
    rows, n_classes = probs.shape[1:]
    confidence, predictions = probs.max(dim=-1)
    correct = predictions == targets

    # Counts per class directly: a confusion matrix per network would be n_classes times larger.
    wrong_right = _count(targets * 2 + correct, 2 * n_classes).reshape(-1, n_classes, 2)
    hits, actual = wrong_right[..., 1], wrong_right.sum(dim=-1)
    predicted = _count(predictions, n_classes)
    scores, scale = _fixed_point(_precision_recall_f1(hits, predicted, actual), n_classes, 1.0)
    totals = scores.sum(dim=-1).double() / scale
    precision, recall, f1 = totals / ((actual + predicted) > 0).sum(dim=-1)

    true_probs = probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1).clamp(eps, 1 - eps)
    losses, loss_scale = _fixed_point(-true_probs.double().log(), rows, -math.log(eps))
    result = {
        "accuracy": hits.sum(dim=-1).double() / rows,
        # A class that is not in the targets has recall 0: the mean recalls differ in the number of classes only.
        "balanced_accuracy": totals[1] / (actual > 0).sum(dim=-1),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "auroc": _auroc(probs, targets, actual),
        "log_loss": losses.sum(dim=-1).double() / loss_scale / rows,
        "ece": _calibration_error(confidence, correct),
    }
    if diverged is not None:
        result = {name: value.masked_fill(diverged, math.nan) for name, value in result.items()}
    return result


def _auroc(probs: Tensor, targets: Tensor, actual: Tensor) -> Tensor:
    """Macro one-vs-rest AUROC ``(networks,)``; ``actual`` is the number of rows of each class."""
    rows, n_classes = probs.shape[1:]
    classes = torch.arange(n_classes, device=probs.device)
    if n_classes == 2:
        probs, classes, actual = probs[..., 1:], classes[1:], actual[:, 1:]
    scores = probs.transpose(1, 2).reshape(-1, rows)
    positive = (targets.unsqueeze(1) == classes.unsqueeze(-1)).reshape(-1, rows)
    step = max(1, _BLOCK // rows)
    lead = [_pairs_lead(*block) for block in zip(scores.split(step), positive.split(step), strict=True)]
    pairs = actual * (rows - actual)  # none: the class, or every other class, is absent, and twice_u is 0 too
    twice_u = torch.cat(lead).reshape_as(pairs) + pairs
    areas, scale = _fixed_point(twice_u.double() / (2 * pairs).clamp(min=1), n_classes, 1.0)
    return areas.sum(dim=-1).double() / scale / (pairs > 0).sum(dim=-1)


def _pairs_lead(scores: Tensor, positive: Tensor) -> Tensor:
    """Pairs (positive, negative) in which the positive scores higher, less those in which it scores lower.

    ``(rankings, rows)`` scores and booleans -> int64 ``(rankings,)``. That is 2U - n_positive * n_negative.
    """
    ordered, positive = _ranked(scores, positive)
    # start: how many rows score strictly lower (the index of the first of the ties); below: how many positives do.
    # Over the positives, start counts the pairs with any other row that they win; over all rows, below counts
    # those that a positive loses. Pairs of two positives are in both and cancel. All in integers, so exact.
    first = torch.ones_like(positive)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    start = torch.where(first, torch.arange(scores.shape[1], device=scores.device), 0).cummax(dim=-1).values
    below = (positive.cumsum(dim=-1) - positive.long()).gather(-1, start)
    return (start * positive - below).sum(dim=-1)


def _ranked(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Scores in ascending order (or integers in their place that compare alike), and which of them are positives."""
    if scores.dtype != torch.float32:
        ordered, order = scores.sort(dim=-1)
        return ordered, positive.gather(-1, order)
    # The bits of a float32 from 0 to 1 compare as it does and leave one bit free, for the class: sorting integers
    # alone, in NumPy on a CPU, is over ten times as fast as sorting floats together with their places.
    keys = (scores + 0.0).view(torch.int32) * 2 + positive
    keys = torch.from_numpy(np.sort(keys.numpy(), axis=-1)) if keys.device.type == "cpu" else keys.sort(dim=-1).values
    return keys >> 1, (keys & 1).bool()


def _calibration_error(confidence: Tensor, correct: Tensor) -> Tensor:
    """Expected calibration error ``(networks,)`` from the top-label confidence and whether it was right."""
    networks, rows = confidence.shape
    edges = torch.linspace(0, 1, ECE_BINS + 1, dtype=torch.float32, device=confidence.device)
    bins = torch.bucketize(confidence.float(), edges, right=True) - 1
    fixed, scale = _fixed_point(confidence.clamp(max=1), rows, 1.0)
    gaps = torch.zeros(networks, ECE_BINS + 1, dtype=torch.int64, device=confidence.device)
    gaps.scatter_add_(1, bins, correct.long() * int(scale) - fixed)
    return gaps.abs().sum(dim=-1).double() / scale / rows
