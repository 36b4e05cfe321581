"""Initial weights as addressed draws: a function of (seed, layer, position)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlplab import randomness
from mlplab.models.embedding import NumberEmbedding, PeriodicEmbedding
from mlplab.models.layers import CategoryEmbedding
from mlplab.models.packed import Heads, PackedLinear, PackedMLP
from mlplab.randomness import Key

RELU_FAMILY = ("relu", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus", "prelu")


def initialize(network: nn.Module, settings: Any, activation: Any, seed: int) -> None:
    """Draw the weights and biases of every linear layer in place.

    Args:
        settings: settings of the group `initialization`.
        activation: settings of the group `activation`, which `auto` and `he` follow.
    """
    linear = [m for m in network.modules() if isinstance(m, nn.Linear | Heads)]
    for i, layer in enumerate(linear):
        heads = layer.size if isinstance(layer, Heads) else None
        weights, biases = (address_of([seed], what, i, heads) for what in ("weight", "bias"))
        is_output = i == len(linear) - 1
        weight, bias = draw(settings, activation, (weights, biases), layer.out_features, layer.in_features, is_output)
        with torch.no_grad():
            layer.weight.copy_(weight.reshape(layer.weight.shape))
            if layer.bias is not None:  # members that share a layer's weights begin with the same biases
                layer.bias.view(-1, bias.numel()).copy_(bias.reshape(1, -1))
    if isinstance(network, PackedMLP):
        with torch.no_grad():
            first = next(layer for layer in linear if isinstance(layer, PackedLinear))
            first.before.copy_(draw_signs(randomness.key(seed, "signs"), network.size, network.columns()).flatten())

    for module in network.modules():
        with torch.no_grad():
            if isinstance(module, CategoryEmbedding):
                module.weight.copy_(draw_embedding(randomness.key(seed, "embedding"), module))
            if isinstance(module, NumberEmbedding):
                module.weight.copy_(draw_units(randomness.key(seed, "number embedding"), tuple(module.weight.shape)))
            if isinstance(module, PeriodicEmbedding):
                n, of_frequencies = len(module.frequencies), randomness.key(seed, "frequencies")
                module.frequencies.copy_(draw_frequencies(of_frequencies, n, module.scale))


def address_of(seeds: Sequence[int], what: str, i: int, heads: int | None = None) -> Tensor:
    """Keys of the i-th linear layer's draws, one for each seed; of members' own output layers one for each member of
    each seed, the first that of a network without members."""
    return torch.tensor(
        [
            key
            for seed in seeds
            for key in [
                randomness.key(seed, what, i),
                *(randomness.key(seed, what, i, m) for m in range(1, heads or 1)),
            ]
        ],
        dtype=torch.int64,
    )


def draw_signs(address: Key, size: int, columns: Tensor) -> Tensor:
    """Scales (members, inputs) of 1 or -1, by which members begin to differ: one for each member and feature, float64.

    Args:
        columns: which feature each input comes from (`PackedMLP.columns`).
    """
    n = int(columns.max()) + 1
    signs = torch.where(randomness.uniform(address, (size, n)) < 0.5, -1.0, 1.0).double()
    return signs[..., columns]


def draw_embedding(address: Key, embedding: CategoryEmbedding) -> Tensor:
    """Vectors (codes, width), float64, normal with variance 1 / width; with keys of several networks, a leading
    dimension. Those of code 0 are 0."""
    vectors = randomness.normal(address, tuple(embedding.weight.shape)).div_(math.sqrt(embedding.width))
    vectors[..., embedding.offsets.cpu(), :] = 0
    return vectors


def draw_units(address: Key, shape: tuple[int, ...]) -> Tensor:
    """Weights (units, n_in) of columns' own layers, float64, uniform in +-1/sqrt(n_in); with keys of several networks,
    a leading dimension. Their biases start at 0."""
    bound = 1 / math.sqrt(shape[-1])
    return randomness.uniform(address, shape).mul_(2 * bound).sub_(bound)


def draw_frequencies(address: Key, n: int, scale: float | Tensor) -> Tensor:
    """Frequencies (n,), float64, normal; with keys and scales of several networks, a leading dimension."""
    return randomness.normal(address, (n,)).mul_(scale)


def draw(
    settings: Any, activation: Any, address: tuple[Key, Key], n_out: int, n_in: int, is_output: bool
) -> tuple[Tensor, Tensor]:
    """Weights (n_out, n_in) and biases (n_out,), float64; with keys of several networks, a leading dimension.

    auto: He et al. 2015 for the ReLU family, LeCun et al. 1998 for selu (as Klambauer et al. 2017 ask), Glorot and
    Bengio 2010 for the others and for the output layer. torch: both uniform in +-1/sqrt(n_in), nn.Linear's own.
    Biases start at 0 in all but torch.
    """
    weights, biases = address
    shape = (n_out, n_in)
    fan_in = max(n_in, 1)

    def uniform(bound: float) -> Tensor:
        return randomness.uniform(weights, shape).mul_(2 * bound).sub_(bound)

    def normal(std: float) -> Tensor:
        return randomness.normal(weights, shape).mul_(std)

    lead = weights.shape if isinstance(weights, Tensor) else ()
    bias = torch.zeros(*lead, n_out, dtype=torch.float64)
    match settings.name:
        case "auto" if is_output or activation.name not in (*RELU_FAMILY, "selu"):
            return uniform(math.sqrt(6 / (n_in + n_out))), bias
        case "auto" if activation.name == "selu":
            return normal(math.sqrt(1 / fan_in)), bias
        case "auto" | "he":
            slope = getattr(activation, "slope", 0.25 if activation.name == "prelu" else 0.0)
            std = math.sqrt(2 / (1 + slope**2) / fan_in)
            is_uniform = getattr(settings, "distribution", "normal") == "uniform"
            return uniform(std * math.sqrt(3)) if is_uniform else normal(std), bias
        case "xavier":
            std = math.sqrt(2 / (n_in + n_out))
            return uniform(std * math.sqrt(3)) if settings.distribution == "uniform" else normal(std), bias
        case "normal":
            return normal(settings.std), bias
        case "uniform":
            return uniform(settings.bound), bias
        case "orthogonal":
            return _orthogonal(randomness.normal(weights, (max(shape), min(shape))), shape).mul_(settings.gain), bias
        case "zeros":
            return torch.zeros(*lead, *shape, dtype=torch.float64), bias
        case "torch":
            bound = 1 / math.sqrt(fan_in)
            return uniform(bound), randomness.uniform(biases, (n_out,)).mul_(2 * bound).sub_(bound)
    raise AssertionError(settings.name)


def _orthogonal(tall: Tensor, shape: tuple[int, int]) -> Tensor:
    if tall.ndim > 2:  # one by one: a batch of matrices may round differently
        return torch.stack([_orthogonal(one.clone(), shape) for one in tall])
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)  # makes the law uniform (Mezzadri 2007)
    return (q if shape[0] >= shape[1] else q.mT).contiguous()
