"""The layers of many networks of one structure, with forward and backward passes written out.

The backward kernels are those that torch's autograd itself calls; calling them directly saves the graph's
bookkeeping, which costs more than the arithmetic of small networks, and lets gradients land in their flat buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlplab import randomness
from mlplab.models.layers import CategoryEmbedding

aten = torch.ops.aten


@dataclass
class Context:
    """What a training step's random layers need.

    Attributes:
        step: optimizer steps taken so far.
        training: whether dropout draws and batch statistics are taken.
    """

    step: int = 0
    training: bool = True


class Stacked:
    """One parameter (or buffer) of all networks: `value` and `grad` are views (networks, *shape) of flat buffers."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape
        self.value: Tensor = torch.empty(0)
        self.grad: Tensor = torch.empty(0)


def distinct(of_network: Sequence[Any], device: torch.device) -> tuple[list[int], Tensor | None]:
    """Networks that stand for all that are like them, and for each network the place of its own (None: all differ)."""
    first: dict[Any, int] = {}
    places = [first.setdefault(value, len(first)) for value in of_network]
    if len(first) == len(places):
        return list(range(len(places))), None
    return [places.index(place) for place in range(len(first))], torch.tensor(places, device=device)


class Layer:
    """One layer of all networks: `forward` keeps what `backward` needs."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """(networks, rows, n_in) to (networks, rows, n_out)."""
        raise NotImplementedError

    def backward(self, grad: Tensor, needs_input: bool) -> Tensor:
        """Gradient of the output to gradient of the input; writes those of the parameters. Frees what was kept."""
        raise NotImplementedError

    def compact(self, keep: Tensor) -> None:
        """Leave only the networks whose numbers are in `keep`; parameters are rebound by the Stack."""


class StackedLinear(Layer):
    """x W' + b."""

    def __init__(self, weight: Stacked, bias: Stacked | None) -> None:
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor, context: Context) -> Tensor:
        self.x = x
        w = self.weight.value.mT
        return torch.bmm(x, w) if self.bias is None else torch.baddbmm(self.bias.value.unsqueeze(1), x, w)

    def backward(self, grad: Tensor, needs_input: bool) -> Tensor:
        torch.bmm(grad.mT, self.x, out=self.weight.grad)
        if self.bias is not None:
            torch.sum(grad, 1, out=self.bias.grad)
        del self.x
        return torch.bmm(grad, self.weight.value) if needs_input else grad


class StackedEmbedding(Layer):
    """Codes as rows of each network's own table, behind the numbers: only numbers' own layers may be in front."""

    def __init__(self, module: CategoryEmbedding, weight: Stacked) -> None:
        self.module, self.weight = module, weight
        self.offsets = module.offsets

    def forward(self, x: Tensor, context: Context) -> Tensor:
        n_numbers, codes = self.module.n_numbers, self.weight.shape[0]
        of_network = torch.arange(len(x), device=x.device).mul_(codes).view(-1, 1, 1)
        self.rows = x[..., n_numbers:].long() + self.offsets.to(x.device) + of_network
        vectors = self.weight.value.flatten(0, 1)[self.rows]
        return torch.cat([x[..., :n_numbers], vectors.flatten(2)], 2)

    def backward(self, grad: Tensor, needs_input: bool) -> Tensor:
        self.weight.grad.zero_()
        of_vectors = grad[..., self.module.n_numbers :].reshape(-1, self.module.width)
        self.weight.grad.view(-1, self.module.width).index_add_(0, self.rows.flatten(), of_vectors)
        del self.rows
        return grad


class StackedActivation(Layer):
    """An elementwise activation, by torch's own forward and backward kernels."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.kernel = KERNELS[type(module)](module)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        y = self.module(x)
        self.kept = (x, y)
        return y

    def backward(self, grad: Tensor, needs_input: bool) -> Tensor:
        x, y = self.kept
        del self.kept
        return self.kernel(grad, x, y)


Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]

KERNELS: dict[type[nn.Module], Callable[[Any], Kernel]] = {
    nn.ReLU: lambda m: lambda g, x, y: aten.threshold_backward(g, y, 0),
    nn.LeakyReLU: lambda m: lambda g, x, y: aten.leaky_relu_backward(g, x, m.negative_slope, False),
    nn.ELU: lambda m: lambda g, x, y: aten.elu_backward(g, m.alpha, 1, 1, False, x),
    nn.GELU: lambda m: lambda g, x, y: aten.gelu_backward(g, x),
    nn.SiLU: lambda m: lambda g, x, y: aten.silu_backward(g, x),
    nn.Mish: lambda m: lambda g, x, y: aten.mish_backward(g, x),
    nn.SELU: lambda m: lambda g, x, y: aten.elu_backward(g, 1.6732632423543772848, 1.0507009873554804934, 1, False, x),
    nn.Softplus: lambda m: lambda g, x, y: aten.softplus_backward(g, x, m.beta, m.threshold),
    nn.Sigmoid: lambda m: lambda g, x, y: aten.sigmoid_backward(g, y),
    nn.Tanh: lambda m: lambda g, x, y: aten.tanh_backward(g, y),
    nn.Identity: lambda m: lambda g, x, y: g,
}


class StackedPReLU(Layer):
    """max(x, 0) + a min(x, 0), one learned a a network."""

    def __init__(self, slope: Stacked) -> None:
        self.slope = slope

    def forward(self, x: Tensor, context: Context) -> Tensor:
        self.x = x
        return torch.where(x > 0, x, self.slope.value.view(-1, 1, 1) * x)

    def backward(self, grad: Tensor, needs_input: bool) -> Tensor:
        negative = self.x <= 0
        self.slope.grad.copy_((grad * self.x * negative).sum((1, 2)).view_as(self.slope.grad))
        del self.x
        return torch.where(negative, grad * self.slope.value.view(-1, 1, 1), grad)


WORDS_AT_ONCE = 1 << 15
"""Random words that are drawn at a time for several steps of dropout: as many as stay in the cache."""


class StackedDropout(Layer):
    """Dropout with the mask that each network would have alone; p may differ from network to network."""

    def __init__(self, p: Tensor, addresses: Tensor) -> None:
        self.p, self.addresses = p, addresses
        self._prepare()

    def _prepare(self) -> None:
        limits = [randomness.threshold(float(p)) for p in self.p]
        which, self.of = distinct(list(zip(self.addresses.tolist(), limits, strict=True)), self.addresses.device)
        self.drawn_for = self.addresses[which]  # networks of one seed and one p have the same masks
        p = self.p[which]
        self.same = float(p[0]) if bool((p == p[0]).all()) else None
        self.limits = torch.tensor(limits, dtype=torch.int16, device=self.addresses.device)[which]
        self.scale = (1 / (1 - p)).view(-1, 1, 1).to(self.addresses.device)
        self.drawn = torch.empty(0)  # masks of steps to come, (steps, distinct networks, rows, width)
        self.first_step = 0

    def forward(self, x: Tensor, context: Context) -> Tensor:
        if not context.training or self.same == 0:
            self.mask = None
            return x
        ahead, rows = context.step - self.first_step, x.shape[1]
        if not (0 <= ahead < len(self.drawn) and rows <= self.drawn.shape[2]):
            self._draw(context.step, x)
            ahead = 0
        mask = self.drawn[ahead, :, :rows]  # a place in the batch has its own bits, whatever rows follow it
        self.mask = mask if self.of is None else mask.index_select(0, self.of)
        return x * self.mask

    def _draw(self, step: int, x: Tensor) -> None:
        """Masks of several steps: small draws cost less together."""
        (_, rows, width), n = x.shape, len(self.drawn_for)
        n_steps = max(1, WORDS_AT_ONCE // (n * rows * width // 4 + 1))
        steps = torch.arange(step, step + n_steps, device=x.device)
        address = randomness.at(self.drawn_for, steps[:, None])
        assert isinstance(address, Tensor)
        p = self.limits.repeat(n_steps) if self.same is None else self.same
        kept = randomness.keep(address.view(-1), rows, width, p, dtype=x.dtype).view(n_steps, n, rows, width)
        self.drawn = kept.mul_(self.scale.to(x.dtype) if self.same is None else 1 / (1 - self.same))
        self.first_step = step

    def backward(self, grad: Tensor, needs_input: bool) -> Tensor:
        mask, self.mask = self.mask, None
        return grad if mask is None else grad * mask

    def compact(self, keep: Tensor) -> None:
        self.p, self.addresses = self.p[keep.cpu()], self.addresses[keep]
        self._prepare()


class StackedNorm(Layer):
    """Layer or batch normalization, differentiated by autograd over this layer alone."""

    def __init__(self, weight: Stacked, bias: Stacked) -> None:
        self.weight, self.bias = weight, bias

    def normalized(self, x: Tensor, context: Context) -> Tensor:
        """x with mean 0 and variance 1 over whatever is normalized."""
        raise NotImplementedError

    def forward(self, x: Tensor, context: Context) -> Tensor:
        if not context.training:
            return self._affine(self.normalized(x, context))
        with torch.enable_grad():
            self.leaf = x.detach().requires_grad_()
            self.out = self.normalized(self.leaf, context)
        self.plain = self.out.detach()
        return self._affine(self.plain)

    def _affine(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias.value.unsqueeze(1), x, self.weight.value.unsqueeze(1))

    def backward(self, grad: Tensor, needs_input: bool) -> Tensor:
        torch.sum(grad * self.plain, 1, out=self.weight.grad)
        torch.sum(grad, 1, out=self.bias.grad)
        (result,) = torch.autograd.grad(self.out, self.leaf, grad * self.weight.value.unsqueeze(1))
        del self.leaf, self.out, self.plain
        return result


class StackedLayerNorm(StackedNorm):
    """Over the units of each row."""

    def __init__(self, weight: Stacked, bias: Stacked, eps: float) -> None:
        super().__init__(weight, bias)
        self.eps = eps

    def normalized(self, x: Tensor, context: Context) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=self.eps)


class StackedBatchNorm(StackedNorm):
    """Over the rows of each network's batch; running statistics as nn.BatchNorm1d keeps them."""

    def __init__(
        self, weight: Stacked, bias: Stacked, mean: Stacked, var: Stacked, count: Stacked, eps: Tensor, momentum: Tensor
    ) -> None:
        super().__init__(weight, bias)
        self.mean, self.var, self.count = mean, var, count
        self.eps, self.momentum = eps.view(-1, 1, 1), momentum.view(-1, 1)

    def normalized(self, x: Tensor, context: Context) -> Tensor:
        if not context.training:
            mean, var = self.mean.value.unsqueeze(1), self.var.value.unsqueeze(1)
            return (x - mean) * torch.rsqrt(var + self.eps.to(x.dtype))
        mean = x.mean(1, keepdim=True)
        centered = x - mean
        var = centered.square().mean(1, keepdim=True)
        with torch.no_grad():
            n, share = x.shape[1], self.momentum.to(x.dtype)
            self.mean.value.lerp_(mean.squeeze(1), share.expand_as(self.mean.value))
            self.var.value.lerp_(var.squeeze(1) * (n / max(n - 1, 1)), share.expand_as(self.var.value))
            self.count.value.add_(1)
        return centered * torch.rsqrt(var + self.eps.to(x.dtype))

    def compact(self, keep: Tensor) -> None:
        self.eps, self.momentum = self.eps[keep.cpu()], self.momentum[keep.cpu()]
