"""From settings and the data's sizes to a network with its initial weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mlplab import randomness
from mlplab.config import Config, SettingError
from mlplab.config.network import CustomModel, NumpyMlp
from mlplab.config.tables import TableFile
from mlplab.dotted import locate
from mlplab.models.embedding import number_embedding
from mlplab.models.ensemble import Calibrated, Ensemble
from mlplab.models.initialization import initialize
from mlplab.models.layers import CategoryEmbedding
from mlplab.models.mlp import MLP
from mlplab.models.numpy_mlp import NumpyMLP
from mlplab.models.packed import PackedMLP

SEEDS = (1 << 62) - 1
"""Seeds of members are so many."""


def dtype_of(config: Config) -> torch.dtype:
    """Number format of weights and features."""
    return torch.float64 if config.accelerator.precision == 64 else torch.float32


def members(config: Config) -> list[Config]:
    """Settings of each network of an ensemble; the first is the network that a run without ensemble trains."""
    if config.ensemble.networks == 1:
        return [config]
    alone = {"ensemble": config.ensemble.model_copy(update={"size": 1})}
    seeds = [config.seed, *(randomness.key(config.seed, "member", i) & SEEDS for i in range(1, config.ensemble.size))]
    return [config.model_copy(update=alone | {"seed": seed}) for seed in seeds]


def together(config: Config, networks: Sequence[nn.Module], temperature: float | None = None) -> nn.Module:
    """What answers for a run: its network, or the mean of several, divided by the temperature if there is one."""
    network = Ensemble(networks) if config.ensemble.networks > 1 else networks[0]
    return network if temperature is None else Calibrated(network, temperature)


def build(
    config: Config, n_features: int, n_outputs: int, categories: list[int] | None = None, n_numbers: int = 0
) -> nn.Module:
    """The network that the settings name, with initial weights addressed by `config.seed`.

    float32, or float64 with accelerator.precision=64.

    Args:
        categories: number of codes of each category where the last features are codes (`Prepared.categories`).
        n_numbers: how many of the first features are numbers (`Prepared.n_numbers`).

    A person's own module is built as target(n_features, n_outputs, **kwargs) under torch's generator seeded from
    `config.seed`; its weights stay its own with initialization=auto.

    Raises:
        SettingError: a person's own module cannot be built.
    """
    model = config.model
    if isinstance(model, CustomModel):
        made = locate(model.target, "model.target")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(randomness.key(config.seed, "custom model"))
            try:
                network = made(n_features, n_outputs, **model.kwargs)
            except TypeError as error:
                raise SettingError(
                    f"model.target={model.target} could not be built as "
                    f"target(n_features={n_features}, n_outputs={n_outputs}, **{model.kwargs}): {error}"
                ) from None
        if not isinstance(network, nn.Module):
            kind = type(network).__name__
            raise SettingError(f"model.target={model.target} must build a torch.nn.Module, not {kind}")
        if config.initialization.name == "auto":
            return network.to(dtype_of(config))
    else:
        sizes = n_features, model.widths, n_outputs, model.bias
        rest = config.activation, config.regularization, config.seed
        if isinstance(model, NumpyMlp):
            network = NumpyMLP(*sizes, *rest)
        else:
            embeddings = _embeddings(config, n_features, categories, n_numbers)
            if config.ensemble.name == "packed":
                network = PackedMLP(config.ensemble.size, *sizes, *rest, embeddings)
            else:
                network = MLP(*sizes, *rest, embeddings)
    network.to(dtype_of(config))  # before the weights: a float64 network gets float64 draws
    initialize(network, config.initialization, config.activation, config.seed)
    return network


def _embeddings(config: Config, n_features: int, categories: list[int] | None, n_numbers: int) -> list[nn.Module]:
    """The first layers: numbers, then the codes of categories, which stay the last features."""
    found: list[nn.Module] = []
    if numbers := number_embedding(config.embedding, n_features, n_numbers):
        found.append(numbers)
        n_features = numbers.n_out
    if categories and isinstance(config.data, TableFile):
        found.append(CategoryEmbedding(n_features - len(categories), categories, config.data.embedding_width))
    return found
