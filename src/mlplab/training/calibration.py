"""One number that makes probabilities honest: the temperature that the logits are divided by."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlplab.config import Config, SettingError
from mlplab.data.prepared import Prepared
from mlplab.models.ensemble import Calibrated, log_probabilities
from mlplab.runs import RunFolder
from mlplab.training import checkpoints
from mlplab.training.evaluation import logits_of, number_format

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures are kept between these."""
HALVINGS = 60


def fit_temperature(logits: Tensor, y: Tensor) -> float:
    """The temperature with the least cross-entropy on rows that were not trained on (Guo et al. 2017).

    The cross-entropy is convex in 1 / temperature, so the place where its slope is 0 is found by halving. Targets are
    smoothed by Laplace's rule as in Platt (1999), (n + 1) / (n + classes) for the row's class, without which rows that
    are all told rightly would ask for a temperature of 0.

    Args:
        logits: shape (rows, n_outputs).
        y: classes, shape (rows,).
    """
    z = log_probabilities(logits.double())
    rows, n_classes = z.shape
    if not rows or not bool(z.isfinite().all()):
        return 1.0
    targets = (F.one_hot(y, n_classes).double() * rows + 1) / (rows + n_classes)
    wanted = (targets * z).sum(1).mean()
    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        slope = ((z * middle).softmax(1) * z).sum(1).mean() - wanted
        if bool(slope > 0):
            high = middle
        else:
            low = middle
    return float(torch.tensor(2 / (low + high), dtype=torch.float32))  # in the bits that float32 networks divide by


def calibrated(network: nn.Module, config: Config, prepared: Prepared, folder: RunFolder) -> Calibrated:
    """The network with the temperature that suits the validation part, which the best checkpoint then has as well.

    Raises:
        SettingError: there are no validation rows.
    """
    val = prepared.parts["val"]
    if not len(val):
        raise SettingError("calibration=temperature is fitted on validation rows, and there are none")
    with number_format(config.accelerator.precision, val.x.device):
        logits = logits_of(lambda x: network(val.inputs(x)), val.x)
    temperature = fit_temperature(logits, val.y)
    checkpoints.save(checkpoints.load(folder.best) | {"temperature": temperature}, folder.best)
    return Calibrated(network, temperature).eval()
