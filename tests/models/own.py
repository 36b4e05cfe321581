"""Parts of one's own, as a person would write them, for the `custom` options."""

from typing import ClassVar

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """A network with a dropout that draws from torch's own generator."""

    def __init__(self, n_features: int, n_outputs: int, width: int = 4) -> None:
        super().__init__()
        self.inside = nn.Linear(n_features, width)
        self.out = nn.Linear(width, n_outputs)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.dropout(self.inside(x).tanh()))


class Recorder(nn.Module):
    """A linear classifier that keeps every training batch it is given."""

    batches: ClassVar[list[Tensor]] = []

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.out = nn.Linear(n_features, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.batches.append(x.detach().clone())
        return self.out(x)


class Swish(nn.Module):
    """x sigmoid(beta x)."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


class NoModule:
    def __init__(self, n_features: int, n_outputs: int) -> None:
        pass


class Untraceable(nn.Module):
    """A linear classifier whose path depends on the values, which no graph can hold."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.out = nn.Linear(n_features, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(x)
        return y if float(y.detach().mean()) > 0 else 2 * y
