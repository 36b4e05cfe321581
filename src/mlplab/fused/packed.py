"""The layers of many packed ensembles: mlplab.models.packed, with backward passes written out.

A row and a member of its network are one row here, (networks, rows * members, width), a row's members next to each
other: activations, normalization and dropout work on that as they are, and draw what they draw alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlplab.fused.layers import Context, Layer, Stacked
from mlplab.models.ensemble import mean_logits
from mlplab.models.packed import Heads, PackedLinear


class StackedPacked(Layer):
    """after * (W (before * x)) + bias, with `before`, `after` and `bias` of each member.

    Args:
        first: whether x comes without members, all of which take it.
    """

    def __init__(
        self, module: PackedLinear, weight: Stacked, bias: Stacked | None, before: Stacked, after: Stacked, first: bool
    ) -> None:
        self.size, self.first = module.size, first
        self.weight, self.bias, self.before, self.after = weight, bias, before, after

    def _each(self, of_members: Tensor) -> Tensor:
        """Members' numbers as (networks, 1, members, width)."""
        return of_members.view(len(of_members), 1, self.size, -1)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = x.unsqueeze(2) if self.first else x.view(len(x), -1, self.size, x.shape[2])
        inputs = (x * self._each(self.before.value)).flatten(1, 2)
        sums = torch.bmm(inputs, self.weight.value.mT).view(len(x), -1, self.size, self.weight.shape[0])
        after = self._each(self.after.value)
        out = sums * after if self.bias is None else torch.addcmul(self._each(self.bias.value), sums, after)
        self.kept = (x, inputs, sums) if context.training else None
        return out.flatten(1, 2)

    def backward(self, grad: Tensor, needs_input: bool) -> Tensor:
        assert self.kept is not None
        (x, inputs, sums), self.kept = self.kept, None
        grad = grad.view_as(sums)
        if self.bias is not None:
            torch.sum(grad, 1, out=self.bias.grad.view(len(x), self.size, -1))
        torch.sum(grad * sums, 1, out=self.after.grad.view(len(x), self.size, -1))
        grad = (grad * self._each(self.after.value)).flatten(1, 2)
        torch.bmm(grad.mT, inputs, out=self.weight.grad)
        grad = torch.bmm(grad, self.weight.value).view(len(x), -1, self.size, self.weight.shape[1])
        torch.sum(grad * x, 1, out=self.before.grad.view(len(x), self.size, -1))
        if not needs_input:
            return grad
        grad = grad * self._each(self.before.value)
        return grad.sum(2) if self.first else grad.flatten(1, 2)


class StackedHeads(Layer):
    """The members' own output layers; in evaluation mode, the mean of their probabilities."""

    def __init__(self, module: Heads, weight: Stacked, bias: Stacked | None) -> None:
        self.size, self.n_out = module.size, module.out_features
        self.weight, self.bias = weight, bias

    def _by_member(self, x: Tensor) -> Tensor:
        """(networks, rows * members, width) to (networks * members, rows, width)."""
        return x.view(len(x), -1, self.size, x.shape[2]).transpose(1, 2).flatten(0, 1)

    def _by_row(self, x: Tensor) -> Tensor:
        """The way back."""
        return x.view(-1, self.size, *x.shape[1:]).transpose(1, 2).flatten(1, 2)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        self.x = self._by_member(x)
        w = self.weight.value.view(len(self.x), self.n_out, -1).mT
        bias = None if self.bias is None else self.bias.value.view(len(self.x), 1, self.n_out)
        logits = self._by_row(torch.bmm(self.x, w) if bias is None else torch.baddbmm(bias, self.x, w))
        return logits if context.training else self.answer(logits)

    def backward(self, grad: Tensor, needs_input: bool) -> Tensor:
        grad = self._by_member(grad)
        torch.bmm(grad.mT, self.x, out=self.weight.grad.view(len(grad), self.n_out, -1))
        if self.bias is not None:
            torch.sum(grad, 1, out=self.bias.grad.view(len(grad), self.n_out))
        del self.x
        return self._by_row(torch.bmm(grad, self.weight.value.view(len(grad), self.n_out, -1)))

    def answer(self, logits: Tensor) -> Tensor:
        """Logits of the mean of the members' probabilities, (networks, rows, n_outputs), of those of the members."""
        by_member = logits.view(len(logits), -1, self.size, self.n_out).movedim(2, 0).flatten(1, 2)
        weights = logits.new_full((self.size,), -math.log(self.size))
        return mean_logits(by_member, weights).view(len(logits), -1, self.n_out)
