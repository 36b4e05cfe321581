"""The pieces of a network: activations, normalization, and dropout whose masks are addressed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from mlplab import randomness
from mlplab.config.network import CustomActivation, Elu, LeakyRelu
from mlplab.dotted import locate

ACTIVATIONS: dict[str, Callable[[Any], nn.Module]] = {
    "relu": lambda settings: nn.ReLU(),
    "leaky_relu": lambda settings: nn.LeakyReLU(settings.slope),
    "elu": lambda settings: nn.ELU(settings.alpha),
    "gelu": lambda settings: nn.GELU(),
    "silu": lambda settings: nn.SiLU(),
    "mish": lambda settings: nn.Mish(),
    "selu": lambda settings: nn.SELU(),
    "softplus": lambda settings: nn.Softplus(),
    "prelu": lambda settings: nn.PReLU(),
    "sigmoid": lambda settings: nn.Sigmoid(),
    "tanh": lambda settings: nn.Tanh(),
    "identity": lambda settings: nn.Identity(),
    "custom": lambda settings: locate(settings.target, "activation.target")(**settings.kwargs),
}


def activation(settings: LeakyRelu | Elu | CustomActivation | Any) -> nn.Module:
    """The elementwise nonlinearity that the settings name."""
    return ACTIVATIONS[settings.name](settings)


class Clock:
    """Where in the training a network stands: read by the layers whose draws are addressed.

    Attributes:
        step: optimizer steps taken so far.
        first_row: place of the batch's first row in the batch that all processes share.
    """

    def __init__(self) -> None:
        self.step = 0
        self.first_row = 0


class CategoryEmbedding(nn.Module):
    """Codes of categories as learned vectors behind the numbers (Guo and Berkhahn 2016), all columns in one table.

    The vector of code 0, unknown, stays 0: no training row has it.

    Args:
        n_numbers: columns before the codes, which pass as they are.
        sizes: number of codes of each category.
        width: numbers in a vector.
    """

    offsets: Tensor

    def __init__(self, n_numbers: int, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.n_numbers, self.width, self.n_out = n_numbers, width, n_numbers + len(sizes) * width
        self.weight = nn.Parameter(torch.zeros(sum(sizes), width))
        starts = [0, *accumulate(sizes)][: len(sizes)]
        self.register_buffer("offsets", torch.tensor(starts, dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_numbers + categories) to (batch, n_numbers + categories * width)."""
        rows = x[:, self.n_numbers :].long() + self.offsets
        return torch.cat([x[:, : self.n_numbers], self.weight[rows].flatten(1)], 1)

    def columns(self, of: Tensor) -> Tensor:
        """Which feature each output comes from, given that of each input."""
        return torch.cat([of[: self.n_numbers], of[self.n_numbers :].repeat_interleave(self.width)])

    def extra_repr(self) -> str:
        return f"{len(self.weight)} vectors of {self.width}"


class Dropout(nn.Module):
    """While training, sets units to 0 with probability p and divides the others by 1 - p (Srivastava et al. 2014).

    The mask is a function of (seed, layer, step, row, unit): see mlplab.randomness.

    Args:
        address: key of this layer's draws.
    """

    def __init__(self, p: float, address: int, clock: Clock) -> None:
        super().__init__()
        self.p, self.address, self.clock = p, address, clock

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, width), or (batch, members, width), in and out."""
        if not self.training or self.p == 0:
            return x
        address, units = randomness.at(self.address, self.clock.step), x[0].numel()
        kept = randomness.keep(address, len(x), units, self.p, self.clock.first_row, x.device, x.dtype)
        return x * kept.mul_(1 / (1 - self.p)).view_as(x)

    def extra_repr(self) -> str:
        return f"p={self.p}"
