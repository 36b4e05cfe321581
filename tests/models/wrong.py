"""An activation with the derivative of a beginner, for the gradient check to find."""

from typing import Any

import torch
from torch import Tensor, nn


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z.tanh()

    @staticmethod
    def backward(ctx: Any, *deltas: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return deltas[0] * (1 - z**2)


class WrongTanh(nn.Module):
    """tanh(z), with 1 - z^2 for its derivative instead of 1 - tanh(z)^2."""

    def forward(self, z: Tensor) -> Tensor:
        return _Tanh.apply(z)
