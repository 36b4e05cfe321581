"""The multilayer perceptron with its forward and backward passes written out in NumPy, without autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mlplab.models.layers import Dropout
from mlplab.models.mlp import MLP
from mlplab.models.numpy_layers import (
    Dense,
    Elementwise,
    Layer,
    Mask,
    Normalize,
    activation,
    output_delta,
    row_losses,
)


class NumpyMLP(MLP):
    """Computes what MLP computes, from the same parameters under the same names: a checkpoint of one fits the other.

    torch holds the parameters, so that every optimizer works on them; the network and its derivatives are those of
    mlplab.models.numpy_layers. It is the network of the source articles, and the oracle that MLP is tested against.
    """

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, n_features), or images of as many pixels, to logits (batch, n_outputs)."""
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            return super().forward(x)  # a graph can be drawn or exported of torch's operations only
        logits: Tensor = _Network.apply(self, x.flatten(1), *self.parameters())
        return logits

    def row_losses(self, settings: Any, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of each row, as mlplab.training.losses.row_losses; its derivative written out too."""
        rows: Tensor = _Loss.apply(settings.name, getattr(settings, "gamma", 0.0), logits, targets)
        return rows

    def written_out(self, x: Tensor) -> list[Layer]:
        """The layers in NumPy, with views of the parameters as they are now (copies where they are on a GPU)."""
        return [_written_out(module, x, self.training) for module in self.layers]


def _written_out(module: nn.Module, x: Tensor, training: bool) -> Layer:
    match module:
        case nn.Linear():
            return Dense(array(module.weight), None if module.bias is None else array(module.bias))
        case nn.LayerNorm():
            return Normalize(array(module.weight), array(module.bias), module.eps, axis=1)
        case nn.BatchNorm1d():
            return _BatchNorm(module, training)
        case Dropout():
            return _DropoutMask(module, x)
    name, slope, alpha = _ACTIVATIONS[type(module)](module)
    return Elementwise(activation(name, slope, alpha))


_ACTIVATIONS: dict[type[nn.Module], Any] = {
    nn.Sigmoid: lambda module: ("sigmoid", 0.0, 1.0),
    nn.Tanh: lambda module: ("tanh", 0.0, 1.0),
    nn.ReLU: lambda module: ("relu", 0.0, 1.0),
    nn.LeakyReLU: lambda module: ("leaky_relu", module.negative_slope, 1.0),
    nn.ELU: lambda module: ("elu", 0.0, module.alpha),
}


class _DropoutMask(Mask):
    """The addressed mask that torch's MLP draws too."""

    def __init__(self, module: Dropout, x: Tensor) -> None:
        super().__init__(np.ones(()))
        self.module, self.like = module, x

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.mask = array(self.module(self.like.new_ones(x.shape)))
        return super().forward(x)


class _BatchNorm(Normalize):
    """Batch normalization: the batch's moments while training, which also move the running ones; those otherwise."""

    def __init__(self, module: nn.BatchNorm1d, training: bool) -> None:
        assert module.running_mean is not None
        assert module.running_var is not None
        running = None if training else (array(module.running_mean), array(module.running_var))
        super().__init__(array(module.weight), array(module.bias), module.eps, axis=0, moments=running)
        self.module = module

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = super().forward(x)
        if self.fixed is None:
            if len(x) == 1:
                raise ValueError(f"regularization=batch_norm needs more than one row in each batch: got {x.shape}")
            mean, variance = (torch.from_numpy(m[0]) for m in self.moments)
            module, share = self.module, self.module.momentum
            assert module.running_mean is not None
            assert module.running_var is not None
            assert share is not None
            assert module.num_batches_tracked is not None
            with torch.no_grad():
                module.running_mean.lerp_(mean.to(module.running_mean), share)
                module.running_var.lerp_((variance * (len(x) / (len(x) - 1))).to(module.running_var), share)
                module.num_batches_tracked += 1
        return y


def array(tensor: Tensor) -> np.ndarray:
    """A tensor's values in NumPy, without a copy where it is in the computer's memory."""
    return tensor.detach().cpu().numpy()


def _told_elsewhere() -> np.errstate:
    """Numbers that overflow are a divergence, which the training tells in its own words."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


class _Network(torch.autograd.Function):
    """Lends the NumPy network to torch: given dL/d(logits), NumPy's backward passes give all other derivatives."""

    @staticmethod
    def forward(ctx: Any, network: NumpyMLP, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.layers = network.written_out(x)
        values = array(x)
        with _told_elsewhere():
            for layer in ctx.layers:
                values = layer.forward(values)
        return torch.from_numpy(values).to(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        delta = array(grad)
        with _told_elsewhere():
            for layer in reversed(ctx.layers):
                delta = layer.backward(delta)
        # the layers' gradients stand in the order of nn.Module.parameters(): layer by layer, weight before bias
        found = [torch.from_numpy(g).to(grad) for layer in ctx.layers for g in layer.gradients]
        return None, torch.from_numpy(delta).to(grad), *found


class _Loss(torch.autograd.Function):
    """Lends the NumPy losses to torch."""

    @staticmethod
    def forward(ctx: Any, name: str, gamma: float, logits: Tensor, targets: Tensor) -> Tensor:
        z, t = array(logits), array(targets)
        with _told_elsewhere():
            ctx.delta = output_delta(name, z, t, gamma)
            return torch.from_numpy(row_losses(name, z, t, gamma)).to(logits)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, torch.from_numpy(array(grad)[:, None] * ctx.delta).to(grad), None
