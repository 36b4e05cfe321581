"""Numbers as learned features, each column by itself (Gorishniy, Rubachev and Babenko 2022)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mlplab.config.embedding import Periodic, PiecewiseLinear

FARTHEST = 1e6
"""Waves are taken of numbers within this: beyond, float32 does not tell where in its period a wave is."""
LARGEST = 1e30
"""Places in bins are kept within this, as scaled numbers are: a row to predict may be far beyond the outer edges."""


class NumberEmbedding(nn.Module):
    """Each number as `width` units: an encoding, then a linear layer of the column's own and ReLU.

    The units stand in front, column by column; behind them all features as they were, the numbers among them.

    Args:
        n_features: columns of the input, numbers first.
        n_numbers: how many of them are numbers.
        n_encoded: features that the encoding makes of a number.
        width: units of a column.
    """

    def __init__(self, n_features: int, n_numbers: int, n_encoded: int, width: int) -> None:
        super().__init__()
        self.n_numbers, self.n_encoded, self.width = n_numbers, n_encoded, width
        self.n_out = n_features + n_numbers * width
        # a row holds a unit's incoming weights, as in nn.Linear
        self.weight = nn.Parameter(torch.zeros(n_numbers * width, n_encoded))
        self.bias = nn.Parameter(torch.zeros(n_numbers * width))

    def encode(self, numbers: Tensor) -> Tensor:
        """(batch, n_numbers) to (n_numbers, batch, n_encoded)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_features) to (batch, n_numbers * width + n_features)."""
        n, width = self.n_numbers, self.width
        encoded = self.encode(x[:, :n])
        units = torch.baddbmm(self.bias.view(n, 1, width), encoded, self.weight.view(n, width, -1).mT).relu()
        return torch.cat([units.transpose(0, 1).flatten(1), x], 1)

    def columns(self, of: Tensor) -> Tensor:
        """Which feature each output comes from, given that of each input."""
        return torch.cat([of[: self.n_numbers].repeat_interleave(self.width), of])


class PeriodicEmbedding(NumberEmbedding):
    """cos(2 pi c x) and sin(2 pi c x) at learned frequencies c: "PLR", with the value kept beside it.

    Args:
        frequencies: of each column.
        scale: standard deviation of their start.
    """

    def __init__(self, n_features: int, n_numbers: int, width: int, frequencies: int, scale: float) -> None:
        super().__init__(n_features, n_numbers, 2 * frequencies, width)
        self.scale = scale
        # flat, as biases are: what is penalized and bounded are matrices
        self.frequencies = nn.Parameter(torch.zeros(n_numbers * frequencies))

    def encode(self, numbers: Tensor) -> Tensor:
        per_unit = (2 * math.pi * self.frequencies).view(self.n_numbers, 1, -1)
        angles = numbers.clamp(-FARTHEST, FARTHEST).T.unsqueeze(-1) * per_unit
        return torch.cat([angles.cos(), angles.sin()], -1)

    def extra_repr(self) -> str:
        return f"{self.n_numbers} columns, {self.n_encoded // 2} frequencies and {self.width} units each"


class PiecewiseLinearEmbedding(NumberEmbedding):
    """How far a number has come through each bin of its column: 0 before it, 1 behind it, linear within.

    The first bin goes on below and the last one above. `fit_edges` gives the edges, which are kept in the checkpoint.
    """

    edges: Tensor

    def __init__(self, n_features: int, n_numbers: int, width: int, bins: int) -> None:
        super().__init__(n_features, n_numbers, bins, width)
        self.register_buffer("edges", torch.zeros(n_numbers, bins + 1))

    def encode(self, numbers: Tensor) -> Tensor:
        low, slope, least, most = bins_of(self.edges.unsqueeze(1))
        return torch.minimum(torch.maximum((numbers.T.unsqueeze(-1) - low) * slope, least), most)

    def extra_repr(self) -> str:
        return f"{self.n_numbers} columns, {self.n_encoded} bins and {self.width} units each"


def bins_of(edges: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a place in a bin comes from: min(max((x - low) * slope, least), most), each of shape (..., bins).

    Args:
        edges: ascending, (..., bins + 1); where a column has fewer bins the last edge is repeated, and those are 0.
    """
    low, size = edges[..., :-1], edges[..., 1:] - edges[..., :-1]
    real = size > 0
    steepest = torch.finfo(edges.dtype).max  # not infinity, which times 0 is no number
    slope = torch.where(real, (1 / torch.where(real, size, 1)).clamp(max=steepest), 0)
    is_first = torch.arange(low.shape[-1], device=edges.device) == 0
    is_last = real & ~torch.cat([real[..., 1:], torch.zeros_like(real[..., :1])], -1)
    least = torch.where(is_first, -LARGEST, 0.0).to(edges.dtype).expand_as(low)
    return low, slope, least, torch.where(is_last, LARGEST, 1.0).to(edges.dtype)


def quantile_edges(numbers: Tensor, bins: int) -> Tensor:
    """Edges of bins that hold equally many rows, each edge once.

    Args:
        numbers: shape (rows, n_numbers).

    Returns:
        Shape (n_numbers, bins + 1), on the CPU; where a column has fewer bins its last edge is repeated.
    """
    kind = torch.empty(0, dtype=numbers.dtype).numpy().dtype
    shares = np.linspace(0, 1, bins + 1)
    edges = np.empty((numbers.shape[1], bins + 1), kind)
    for column, values in zip(edges, numbers.T.double().cpu().numpy(), strict=True):
        found = np.unique(np.quantile(values, shares).astype(kind))
        column[:] = np.pad(found, (0, bins + 1 - len(found)), mode="edge")
    return torch.from_numpy(edges)


def fit_edges(network: nn.Module, x: Tensor) -> None:
    """Fit the bins of a network that has them on training rows, as the network is given them."""
    for module in network.modules():
        if isinstance(module, PiecewiseLinearEmbedding):
            module.edges.copy_(quantile_edges(x[:, : module.n_numbers], module.n_encoded))


def number_embedding(settings: Any, n_features: int, n_numbers: int) -> NumberEmbedding | None:
    """The layer that the settings of the group `embedding` name, or None."""
    if isinstance(settings, Periodic):
        return PeriodicEmbedding(n_features, n_numbers, settings.width, settings.frequencies, settings.scale)
    if isinstance(settings, PiecewiseLinear):
        return PiecewiseLinearEmbedding(n_features, n_numbers, settings.width, settings.bins)
    return None
