"""Are the gradients right? Backpropagation against finite differences, entry by entry."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlplab import randomness
from mlplab.config import Config
from mlplab.config.tools import GradientCheck
from mlplab.data.batches import Batch, Batches
from mlplab.data.prepared import Prepared
from mlplab.models.embedding import NumberEmbedding, fit_edges
from mlplab.training import losses
from mlplab.training.classifier import Classifier
from mlplab.training.network import initial_network

FLOOR = 1e-4
"""Below this the error counts as if the gradient were as large: finite differences are good to about 1e-11."""


class Checked(NamedTuple):
    """One parameter's comparison, at its worst entry."""

    parameter: str
    entry: str
    """Indices of the entry with the largest error."""
    backprop: float
    numeric: float
    """By finite differences."""
    error: float
    """|difference| / the larger of the two (or FLOOR)."""
    entries: int
    """Number of entries compared."""


def check_gradients(config: Config, prepared: Prepared, how: GradientCheck) -> list[Checked]:
    """Compare the gradient of a run's first training step with central finite differences, in float64.

    The function is the one that training follows: with penalties, dropout, noise and mixup, whose draws are addressed
    and so the same at each evaluation. (f(w + h) - f(w - h)) / 2h differs from f'(w) by h^2 f'''/6.

    Args:
        prepared: data in float64.

    Returns:
        One row for each parameter, the worst first.
    """
    train = prepared.parts["train"]
    network = initial_network(config, prepared).double()
    fit_edges(network, train.x)
    for module in network.modules():
        if isinstance(module, NumberEmbedding):  # a number at its first edge stands at ReLU's corner: no derivative
            nn.init.constant_(module.bias, 0.1)
    batch = next(iter(Batches(train, min(how.rows, len(train)), config.seed)))
    weights = losses.class_weights(config.loss, train.y, prepared.n_classes)
    classifier = Classifier(network, config, prepared.n_classes, weights, 1, train.preprocess)
    objective(classifier, batch).backward()
    found = [
        _compare(classifier, batch, name, parameter, randomness.key(config.seed, "gradcheck", name), how)
        for name, parameter in network.named_parameters()
    ]
    return sorted(found, key=lambda checked: -checked.error)


def objective(classifier: Classifier, batch: Batch) -> Tensor:
    """What the first step of a training descends: loss and penalties of one batch."""
    classifier.seen.clear()
    return classifier.total_loss(batch, 0)


def _compare(
    classifier: Classifier, batch: Batch, name: str, parameter: nn.Parameter, address: int, how: GradientCheck
) -> Checked:
    flat = parameter.data.view(-1)
    grad = torch.zeros_like(flat) if parameter.grad is None else parameter.grad.reshape(-1)
    entries = randomness.permutation(address, flat.numel())[: how.entries].tolist()
    worst = Checked(name, "", 0.0, 0.0, -1.0, len(entries))
    with torch.no_grad():
        for i in entries:
            kept, values = flat[i].item(), []
            for step in (how.step, -how.step):
                flat[i] = kept + step
                values.append(objective(classifier, batch).item())
            flat[i] = kept
            numeric, exact = (values[0] - values[1]) / (2 * how.step), grad[i].item()
            error = abs(numeric - exact) / max(abs(numeric), abs(exact), FLOOR)
            if not error <= worst.error:  # NaN is the worst
                place = torch.unravel_index(torch.tensor(i), parameter.shape)
                worst = Checked(name, str([int(p) for p in place]), exact, numeric, error, len(entries))
    return worst
