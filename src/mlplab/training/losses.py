"""Losses of logits against target probabilities, row by row, for one network or many at once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mlplab.config.training import Regularization


def n_outputs(loss: str, n_classes: int) -> int:
    """Logits that a network needs: one (a sigmoid) for bce, and for mse of two classes; else one a class."""
    return 1 if n_classes == 2 and loss in ("bce", "mse") else n_classes


def row_losses(settings: Any, logits: Tensor, targets: Tensor) -> Tensor:
    """Loss of each row.

    Args:
        settings: settings of the group `loss`.
        logits: shape (..., rows, n_outputs).
        targets: probabilities of the classes, shape (..., rows, n_classes).

    Returns:
        Shape (..., rows). cross_entropy: -sum_c t_c log p_c. bce: the same with p from one sigmoid. mse: mean over
        the outputs of (p - t)^2. focal: -sum_c t_c (1 - p_c)^gamma log p_c (Lin et al. 2017).
    """
    if logits.shape[-1] == 1:
        logit, target = logits[..., 0], targets[..., 1]
        if settings.name == "mse":
            return (logit.sigmoid() - target).square()
        return F.binary_cross_entropy_with_logits(logit, target, reduction="none")
    match settings.name:
        case "cross_entropy":
            return -(targets * logits.log_softmax(-1)).sum(-1)
        case "mse":
            return (logits.softmax(-1) - targets).square().mean(-1)
        case "focal":
            log_p = logits.log_softmax(-1)
            wrong = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)  # 0^gamma has no slope below gamma=1
            return -(targets * wrong.pow(settings.gamma) * log_p).sum(-1)
    raise AssertionError(settings.name)


def class_weights(settings: Any, y: Tensor, n_classes: int) -> Tensor | None:
    """Weight of each class, float64 of shape (n_classes,), or None where all are 1.

    Args:
        y: classes of the training rows; `balanced` is rows / (n_classes * rows of the class) (King and Zeng 2001).
    """
    if settings.class_weights == "none":
        return None
    if settings.class_weights == "balanced":
        counts = torch.bincount(y, minlength=n_classes).double()
        return len(y) / (n_classes * counts.clamp(min=1))
    return torch.tensor(settings.class_weights, dtype=torch.float64)


def weighted_mean(losses: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over rows of shape (..., rows), each weighted by its target's class weights."""
    if weights is None:
        return losses.mean(-1)
    of_row = targets @ weights
    return (losses * of_row).sum(-1) / of_row.sum(-1)


def smooth(targets: Tensor, epsilon: float | Tensor) -> Tensor:
    """(1 - epsilon) t + epsilon / n_classes (Szegedy et al. 2016)."""
    return targets * (1 - epsilon) + epsilon / targets.shape[-1]


def penalty_factors(regularization: Regularization) -> tuple[float, float]:
    """Factors of the sums of absolute and of squared weights that are added to the loss."""
    l1 = regularization.l1.strength if regularization.l1 else 0.0
    l2 = regularization.l2.strength if regularization.l2 else 0.0
    if both := regularization.elastic_net:
        l1, l2 = both.l1, both.l2
    return l1, l2


def penalty(weights: list[Tensor], l1: float, l2: float) -> Tensor | float:
    """l1 sum |w| + l2 sum w^2 over all weights; 0.0 where both factors are 0."""
    total: Tensor | float = 0.0
    for w in weights:
        if l1:
            total = total + l1 * w.abs().sum()
        if l2:
            total = total + l2 * w.square().sum()
    return total
