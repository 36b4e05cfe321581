"""An ensemble packed into one network: shared weights, scales of each member's own.

Sources: Wen, Tran and Ba (2020), "BatchEnsemble"; Gorishniy, Kotelnikov and Babenko (2025), "TabM".
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlplab.models.ensemble import mean_logits
from mlplab.models.mlp import MLP, Linear


class PackedLinear(Linear):
    """after * (W (before * x)) + bias: one W, and `before`, `after` and `bias` of each member.

    The members' own numbers are flat, as biases are: what is penalized and bounded are matrices.

    Args:
        size: members.
    """

    def __init__(self, size: int, n_in: int, n_out: int, bias: bool) -> None:
        super().__init__(n_in, n_out, bias=False)
        self.size = size
        if bias:
            self.bias = nn.Parameter(torch.zeros(size * n_out))
        self.before = nn.Parameter(torch.ones(size * n_in))
        self.after = nn.Parameter(torch.ones(size * n_out))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_in), which all members share, or (batch, members, n_in), to (batch, members, n_out)."""
        shared = x.unsqueeze(1) if x.ndim == 2 else x
        out = F.linear(shared * self.before.view(self.size, -1), self.weight) * self.after.view(self.size, -1)
        return out if self.bias is None else out + self.bias.view(self.size, -1)

    def member(self, m: int) -> Linear:
        """The plain layer that a member's is."""
        before, after = self.before.view(self.size, 1, -1)[m], self.after.view(self.size, -1, 1)[m]
        bias = None if self.bias is None else self.bias.view(self.size, -1)[m]
        return _plain(after * self.weight * before, bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, members={self.size}"


class Heads(nn.Module):
    """The output layers of the members, each with weights of its own; a row of `weight` is an output's.

    Args:
        size: members.
    """

    def __init__(self, size: int, n_in: int, n_out: int, bias: bool) -> None:
        super().__init__()
        self.size, self.in_features, self.out_features = size, n_in, n_out
        self.weight = nn.Parameter(torch.zeros(size * n_out, n_in))
        self.bias = nn.Parameter(torch.zeros(size * n_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(batch, members, n_in) to (batch, members, n_out)."""
        weight = self.weight.view(self.size, self.out_features, -1).mT
        out = torch.bmm(x.transpose(0, 1), weight).transpose(0, 1)
        return out if self.bias is None else out + self.bias.view(self.size, -1)

    def member(self, m: int) -> Linear:
        """The plain layer that a member's is."""
        weight = self.weight.view(self.size, self.out_features, -1)[m]
        return _plain(weight, None if self.bias is None else self.bias.view(self.size, -1)[m])

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, members={self.size}"


def _plain(weight: Tensor, bias: Tensor | None) -> Linear:
    layer = Linear(weight.shape[1], weight.shape[0], bias is not None, weight.device, weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


class PackedMLP(MLP):
    """Many multilayer perceptrons in one: their hidden layers share weights, scaled differently for each.

    While training, its answer is every member's; otherwise, the mean of their probabilities.

    Args:
        size: members; the rest is MLP's.
    """

    def __init__(self, size: int, n_features: int, *rest: Any) -> None:
        kinds: Any = {"hidden": partial(PackedLinear, size), "output": partial(Heads, size)}
        super().__init__(n_features, *rest, **kinds)
        self.size, self.n_features = size, n_features

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, n_features) to logits (batch, members, n_outputs), or (batch, n_outputs) in evaluation mode."""
        logits = super().forward(x)
        return logits if self.training else self.answer(logits)

    def answer(self, logits: Tensor) -> Tensor:
        """Logits of the mean of the members' probabilities, (batch, n_outputs), of (batch, members, n_outputs)."""
        weights = logits.new_full((self.size,), -math.log(self.size))
        return mean_logits(logits.transpose(0, 1), weights)

    @property
    def members(self) -> list[nn.Module]:
        """Each member as a plain network, for evaluation only."""

        def own(layer: nn.Module, m: int) -> nn.Module:
            return layer.member(m) if isinstance(layer, PackedLinear | Heads) else layer

        found = [nn.Sequential(nn.Flatten(), *(own(layer, m) for layer in self.layers)) for m in range(self.size)]
        return [member.train(self.training) for member in found]

    def columns(self) -> Tensor:
        """Which feature each input of the first hidden layer comes from."""
        found = torch.arange(self.n_features)
        for layer in self.layers:
            if isinstance(layer, PackedLinear):
                break
            found = layer.columns(found)  # type: ignore[operator]
        return found
