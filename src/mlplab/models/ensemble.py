"""Several networks as one: the mean of their probabilities; and logits divided by a temperature."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def log_probabilities(logits: Tensor) -> Tensor:
    """From (..., n_outputs) to (..., n_classes); one output is the logit of class 1 of two."""
    if logits.shape[-1] == 1:
        return torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], -1)
    return logits.log_softmax(-1)


def mean_logits(logits: Tensor, log_weights: Tensor) -> Tensor:
    """Logits of the weighted mean of the members' probabilities.

    Args:
        logits: shape (members, rows, n_outputs).
        log_weights: logarithms of the members' weights, which add up to 1, shape (members,).

    Returns:
        (rows, n_outputs): log sum_m w_m p_m, or for a single output the log-odds of that.
    """
    mean = (log_probabilities(logits) + log_weights.to(logits).view(-1, 1, 1)).logsumexp(0)
    return mean[:, 1:] - mean[:, :1] if logits.shape[-1] == 1 else mean


class Ensemble(nn.Module):
    """Networks whose probabilities are averaged; each takes the same input.

    Args:
        members: from (batch, n_features) to logits (batch, n_outputs).
        weights: of the members; None gives all the same.
    """

    log_weights: Tensor

    def __init__(self, members: Sequence[nn.Module], weights: Tensor | None = None) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        weights = torch.ones(len(members), dtype=torch.float64) if weights is None else weights.double()
        self.register_buffer("log_weights", (weights / weights.sum()).log())

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the mean of the members' probabilities, (batch, n_outputs)."""
        return mean_logits(torch.stack([member(x) for member in self.members]), self.log_weights)


class Blend(Ensemble):
    """An ensemble whose members see features of their own: each takes a stretch of the columns.

    Args:
        stretches: first column and column after the last of each member's features.
    """

    def __init__(self, members: Sequence[nn.Module], stretches: Sequence[tuple[int, int]], weights: Tensor) -> None:
        super().__init__(members, weights)
        self.stretches = list(stretches)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the weighted mean of the members' probabilities, (batch, n_outputs)."""
        found = [member(x[:, a:b]) for member, (a, b) in zip(self.members, self.stretches, strict=True)]
        return mean_logits(torch.stack(found), self.log_weights)


class Calibrated(nn.Module):
    """A network whose logits are divided by a temperature (Guo et al. 2017): above 1 it becomes less sure of itself."""

    temperature: Tensor

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (batch, n_outputs)."""
        logits = self.network(x)
        return logits / self.temperature.to(logits)
