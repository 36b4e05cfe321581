"""The columns' own layers of many networks: mlplab.models.embedding, with backward passes written out.

Columns and rows are the last dimensions while a column is by itself, so that each kernel runs over long stretches; one
matrix product for each column of each network does the sums. Always the first layer: nothing is in front of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mlplab.fused.layers import Context, Layer, Stacked, aten
from mlplab.models.embedding import FARTHEST, NumberEmbedding, PeriodicEmbedding, PiecewiseLinearEmbedding, bins_of


class StackedNumbers(Layer):
    """Each number as units of its column's own linear layer, in front of all features as they were."""

    def __init__(self, module: NumberEmbedding, weight: Stacked, bias: Stacked) -> None:
        self.n, self.n_encoded, self.width = module.n_numbers, module.n_encoded, module.width
        self.weight, self.bias = weight, bias

    def encode(self, numbers: Tensor, training: bool) -> Tensor:
        """(networks, n_numbers, rows) to (networks, n_numbers, n_encoded, rows)."""
        raise NotImplementedError

    def forward(self, x: Tensor, context: Context) -> Tensor:
        networks, rows, n_features = x.shape
        numbers = x[..., : self.n].mT.contiguous()
        encoded = self.encode(numbers, context.training).view(-1, self.n_encoded, rows)
        weight = self.weight.value.view(-1, self.width, self.n_encoded)
        units = torch.baddbmm(self.bias.value.view(-1, self.width, 1), weight, encoded).view(networks, -1, rows)
        out = x.new_empty(networks, rows, units.shape[1] + n_features)
        torch.clamp_min(units.mT, 0, out=out[..., : units.shape[1]])
        out[..., units.shape[1] :] = x
        self.kept = (numbers, encoded, out) if context.training else None
        return out

    def backward(self, grad: Tensor, needs_input: bool) -> Tensor:
        assert self.kept is not None
        (numbers, encoded, out), self.kept = self.kept, None
        units = self.n * self.width
        of_units = aten.threshold_backward(grad[..., :units], out[..., :units], 0).mT.contiguous()
        torch.sum(of_units, 2, out=self.bias.grad)
        of_units = of_units.view(-1, self.width, of_units.shape[2])
        torch.bmm(of_units, encoded.mT, out=self.weight.grad.view(-1, self.width, self.n_encoded))
        self.finish(of_units, numbers, encoded)
        return grad

    def finish(self, of_units: Tensor, numbers: Tensor, encoded: Tensor) -> None:
        """Gradients of the encoding's own parameters.

        Args:
            of_units: gradient at the units before ReLU, (networks * n_numbers, width, rows).
        """


class StackedPeriodic(StackedNumbers):
    """Sines and cosines, each network at its own frequencies."""

    def __init__(self, module: PeriodicEmbedding, weight: Stacked, bias: Stacked, frequencies: Stacked) -> None:
        super().__init__(module, weight, bias)
        self.frequencies = frequencies
        self.waves = torch.empty(0)

    def encode(self, numbers: Tensor, training: bool) -> Tensor:
        k, shape = self.n_encoded // 2, (*numbers.shape[:2], self.n_encoded, numbers.shape[2])
        if training and self.waves.shape == shape:
            waves = self.waves
        else:
            waves = numbers.new_empty(shape)
            if training:
                self.waves = waves
        per_unit = (2 * math.pi * self.frequencies.value).view(*shape[:2], k, 1)
        angles = numbers.clamp(-FARTHEST, FARTHEST).unsqueeze(2) * per_unit
        torch.cos(angles, out=waves[:, :, :k])
        torch.sin(angles, out=waves[:, :, k:])
        return waves

    def finish(self, of_units: Tensor, numbers: Tensor, encoded: Tensor) -> None:
        # d cos(2 pi c x) / dc = -2 pi x sin, d sin / dc = 2 pi x cos: x goes to the side of the units, of which there
        # are fewer, and one more product of matrices does the sum over the rows
        reached = numbers.clamp(-FARTHEST, FARTHEST).view(-1, 1, numbers.shape[2])
        sums = torch.bmm(of_units.mul_(reached), encoded.mT)
        weight = self.weight.value.view(sums.shape)
        k = self.n_encoded // 2
        by_frequency = weight[..., k:] * sums[..., :k] - weight[..., :k] * sums[..., k:]
        self.frequencies.grad.copy_(by_frequency.sum(1).mul_(2 * math.pi).view_as(self.frequencies.grad))

    def compact(self, keep: Tensor) -> None:
        self.waves = torch.empty(0)


class StackedPiecewiseLinear(StackedNumbers):
    """Places in bins, each network with the edges of its own training rows."""

    def __init__(self, module: PiecewiseLinearEmbedding, weight: Stacked, bias: Stacked, edges: Stacked) -> None:
        super().__init__(module, weight, bias)
        self.edges = edges
        self.bins: Sequence[Tensor] = ()

    def encode(self, numbers: Tensor, training: bool) -> Tensor:
        self.bins = self.bins or [part.unsqueeze(-1) for part in bins_of(self.edges.value)]
        low, slope, least, most = self.bins
        place = (numbers.unsqueeze(2) - low).mul_(slope)
        return torch.minimum(torch.maximum(place, least, out=place), most, out=place)

    def compact(self, keep: Tensor) -> None:
        self.bins = ()
