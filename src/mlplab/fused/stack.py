"""Many networks of one structure: their parameters in one flat buffer, their forward and backward passes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlplab import randomness
from mlplab.config import Config
from mlplab.config.embedding import Periodic
from mlplab.fused.embedding import StackedNumbers, StackedPeriodic, StackedPiecewiseLinear
from mlplab.fused.layers import (
    Context,
    Layer,
    Stacked,
    StackedActivation,
    StackedBatchNorm,
    StackedDropout,
    StackedEmbedding,
    StackedLayerNorm,
    StackedLinear,
    StackedPReLU,
)
from mlplab.fused.packed import StackedHeads, StackedPacked
from mlplab.models.embedding import PeriodicEmbedding, PiecewiseLinearEmbedding, quantile_edges
from mlplab.models.initialization import (
    address_of,
    draw,
    draw_embedding,
    draw_frequencies,
    draw_signs,
    draw_units,
)
from mlplab.models.layers import CategoryEmbedding, Dropout
from mlplab.models.mlp import MLP
from mlplab.models.packed import Heads, PackedLinear, PackedMLP


class Stack:
    """The stacked form of several networks of one structure.

    Args:
        template: a plain network of that structure, built by `mlplab.models.build`.
        configs: settings of each network: its initial weights, dropout and normalization.
    """

    def __init__(self, template: MLP, configs: Sequence[Config], device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.parameters: list[Stacked] = []
        self.buffers: list[Stacked] = []
        self.layers: list[Layer] = []
        self.n = len(configs)
        n_dropouts = 0
        for i, module in enumerate(template.layers):
            self.layers.append(self._stacked(f"layers.{i}", module, configs, n_dropouts))
            n_dropouts += isinstance(module, Dropout)
        self.values = torch.empty(0)
        self.grads = torch.empty(0)
        self._allocate()
        self._initialize(template, configs)

    def _stacked(self, name: str, module: nn.Module, configs: Sequence[Config], n_dropouts: int) -> Layer:
        def own(part: str, to: list[Stacked] = self.parameters) -> Stacked:
            made = Stacked(f"{name}.{part}", tuple(getattr(module, part).shape))
            to.append(made)
            return made

        if isinstance(module, PackedLinear):
            first = not any(isinstance(layer, StackedPacked) for layer in self.layers)
            weight, bias = own("weight"), own("bias") if module.bias is not None else None
            return StackedPacked(module, weight, bias, own("before"), own("after"), first)
        if isinstance(module, Heads):
            return StackedHeads(module, own("weight"), own("bias") if module.bias is not None else None)
        if isinstance(module, nn.Linear):
            weight = own("weight")
            return StackedLinear(weight, own("bias") if module.bias is not None else None)
        if isinstance(module, CategoryEmbedding):
            return StackedEmbedding(module, own("weight"))
        if isinstance(module, PeriodicEmbedding):
            return StackedPeriodic(module, own("weight"), own("bias"), own("frequencies"))
        if isinstance(module, PiecewiseLinearEmbedding):
            return StackedPiecewiseLinear(module, own("weight"), own("bias"), own("edges", self.buffers))
        if isinstance(module, Dropout):
            keys = [randomness.key(c.seed, "dropout", n_dropouts) for c in configs]
            rates = [c.regularization.dropout.p for c in configs if c.regularization.dropout]
            addresses = torch.tensor(keys, dtype=torch.int64, device=self.device)
            return StackedDropout(torch.tensor(rates, dtype=torch.float64), addresses)
        if isinstance(module, nn.PReLU):
            return StackedPReLU(own("weight"))
        if isinstance(module, nn.LayerNorm):
            return StackedLayerNorm(own("weight"), own("bias"), module.eps)
        if isinstance(module, nn.BatchNorm1d):
            weight, bias = own("weight"), own("bias")
            mean, var, count = (own(part, self.buffers) for part in _STATISTICS)
            norms = [c.regularization.batch_norm for c in configs if c.regularization.batch_norm]
            eps = torch.tensor([n.eps for n in norms], dtype=torch.float64, device=self.device)
            momentum = torch.tensor([n.momentum for n in norms], dtype=torch.float64, device=self.device)
            return StackedBatchNorm(weight, bias, mean, var, count, eps, momentum)
        return StackedActivation(module)

    def _initialize(self, template: MLP, configs: Sequence[Config]) -> None:
        plain = template.state_dict()
        for p in (*self.parameters, *self.buffers):
            p.value.copy_(plain[p.name])  # normalization and slopes start alike in all networks
        all_seeds = [config.seed for config in configs]
        for layer in self.layers:
            if isinstance(layer, StackedEmbedding):
                layer.weight.value.copy_(draw_embedding(_keys(all_seeds, "embedding"), layer.module))
            if isinstance(layer, StackedNumbers):
                layer.weight.value.copy_(draw_units(_keys(all_seeds, "number embedding"), layer.weight.shape))
            if isinstance(layer, StackedPeriodic):
                scales = [c.embedding.scale for c in configs if isinstance(c.embedding, Periodic)]
                (n,), of_each = layer.frequencies.shape, torch.tensor(scales, dtype=torch.float64)[:, None]
                layer.frequencies.value.copy_(draw_frequencies(_keys(all_seeds, "frequencies"), n, of_each))
            if isinstance(layer, StackedPacked) and layer.first:
                assert isinstance(template, PackedMLP)
                signs = draw_signs(_keys(all_seeds, "signs"), template.size, template.columns())
                layer.before.value.copy_(signs.flatten(1))
        linear = [layer for layer in self.layers if isinstance(layer, StackedLinear | StackedPacked | StackedHeads)]
        kinds: dict[str, list[int]] = {}
        for m, config in enumerate(configs):
            kinds.setdefault(config.initialization.model_dump_json(), []).append(m)
        for members in kinds.values():
            first, seeds = configs[members[0]], [configs[m].seed for m in members]
            for i, layer in enumerate(linear):
                heads = layer.size if isinstance(layer, StackedHeads) else None
                address = address_of(seeds, "weight", i, heads), address_of(seeds, "bias", i, heads)
                n_out, n_in = layer.weight.shape[0] // (heads or 1), layer.weight.shape[1]
                last = i == len(linear) - 1
                drawn = draw(first.initialization, first.activation, address, n_out, n_in, last)
                layer.weight.value[members] = drawn[0].reshape(len(members), *layer.weight.shape).to(self.values)
                if layer.bias is not None:
                    biases = drawn[1].reshape(len(members), -1)
                    of_each = biases.repeat(1, layer.bias.shape[0] // biases.shape[1])
                    layer.bias.value[members] = of_each.to(self.values)

    def fit_edges(self, x: Sequence[Tensor]) -> None:
        """Give each network the bins of its own training rows, one x a network; nothing where there are no bins."""
        for layer in self.layers:
            if isinstance(layer, StackedPiecewiseLinear):
                distinct = {id(of_one): of_one for of_one in x}
                found = {i: quantile_edges(one[:, : layer.n], layer.n_encoded) for i, one in distinct.items()}
                layer.edges.value.copy_(torch.stack([found[id(of_one)] for of_one in x]))

    def _allocate(self) -> None:
        n = self.n
        total = sum(n * math.prod(p.shape) for p in self.parameters)
        self.values = torch.zeros(total, device=self.device, dtype=self.dtype)
        self.grads = torch.zeros_like(self.values)
        for p, value, grad in zip(self.parameters, self.views(self.values), self.views(self.grads), strict=True):
            p.value, p.grad = value, grad
        for b in self.buffers:
            kind = torch.int64 if b.name.endswith("num_batches_tracked") else self.dtype
            b.value = torch.zeros(n, *b.shape, device=self.device, dtype=kind)

    def views(self, flat: Tensor) -> list[Tensor]:
        """Each parameter's part of a flat buffer, as (networks, *shape)."""
        sizes = [self.n * math.prod(p.shape) for p in self.parameters]
        return [part.view(self.n, *p.shape) for part, p in zip(flat.split(sizes), self.parameters, strict=True)]

    def snapshot(self) -> list[Tensor]:
        """Copies of all parameters and buffers, each (networks, *shape)."""
        return [p.value.clone() for p in (*self.parameters, *self.buffers)]

    def refresh(self, snapshot: list[Tensor], which: Tensor) -> None:
        """Bring some networks of a snapshot up to date."""
        for copy, p in zip(snapshot, (*self.parameters, *self.buffers), strict=True):
            copy[which] = p.value[which]

    def restore(self, snapshot: list[Tensor]) -> None:
        """Give all networks the parameters and buffers of a snapshot."""
        for copy, p in zip(snapshot, (*self.parameters, *self.buffers), strict=True):
            p.value.copy_(copy)

    def state(self, snapshot: list[Tensor], m: int) -> dict[str, Tensor]:
        """The state_dict of network m in a snapshot, on the CPU, as the plain network would give it."""
        names = [p.name for p in (*self.parameters, *self.buffers)]
        order = {name: copy[m].to("cpu", copy=True) for name, copy in zip(names, snapshot, strict=True)}
        return {name: order[name] for name in sorted(order, key=_place)}

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Logits (networks, rows, n_outputs) of features (networks, rows, n_features)."""
        for layer in self.layers:
            x = layer.forward(x, context)
        return x

    def answer(self, logits: Tensor) -> Tensor:
        """What networks answer, (networks, rows, n_outputs), of the logits that they train on."""
        last = self.layers[-1]
        return last.answer(logits) if isinstance(last, StackedHeads) else logits

    def backward(self, grad: Tensor) -> None:
        """Fill `grads` from the gradient of the logits."""
        first = len(self.layers) - 1
        for i, layer in enumerate(reversed(self.layers)):
            grad = layer.backward(grad, needs_input=i < first)

    def compact(self, keep: Tensor, flats: list[Tensor]) -> list[Tensor]:
        """Leave only some networks; returns the flat buffers (optimizer state) cut down alike."""
        cut = [[v[keep] for v in self.views(flat)] for flat in (self.values, *flats)]
        buffers = [b.value[keep] for b in self.buffers]
        self.n = len(keep)
        self._allocate()
        for p, value in zip(self.parameters, cut[0], strict=True):
            p.value.copy_(value)
        for b, value in zip(self.buffers, buffers, strict=True):
            b.value = value
        for layer in self.layers:
            layer.compact(keep)
        return [torch.cat([v.reshape(-1) for v in parts]) for parts in cut[1:]]


def _keys(seeds: list[int], *purpose: str | int) -> Tensor:
    return torch.tensor([randomness.key(seed, *purpose) for seed in seeds], dtype=torch.int64)


_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_PARTS = ("weight", "bias", "before", "after", "frequencies", "edges", *_STATISTICS)


def _place(name: str) -> tuple[int, int]:
    _, layer, part = name.split(".")
    return int(layer), _PARTS.index(part)
