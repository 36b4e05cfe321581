"""The pieces of a network: activations, normalization, and dropout whose masks are addressed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
        """Shape (batch, width) in and out."""
        if not self.training or self.p == 0:
            return x
        address = randomness.at(self.address, self.clock.step)
        kept = randomness.keep(address, len(x), x.shape[1], self.p, self.clock.first_row, x.device, x.dtype)
        return x * kept.mul_(1 / (1 - self.p))

    def extra_repr(self) -> str:
        return f"p={self.p}"
