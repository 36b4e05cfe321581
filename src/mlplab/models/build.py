"""From settings and the data's sizes to a network with its initial weights."""

from __future__ import annotations

import torch
from torch import nn

from mlplab import randomness
from mlplab.config import Config, SettingError
from mlplab.config.network import CustomModel, NumpyMlp
from mlplab.dotted import locate
from mlplab.models.initialization import initialize
from mlplab.models.mlp import MLP
from mlplab.models.numpy_mlp import NumpyMLP


def build(config: Config, n_features: int, n_outputs: int) -> nn.Module:
    """The network that the settings name, float32, with initial weights addressed by `config.seed`.

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
            raise SettingError(f"model.target={model.target} must build a torch.nn.Module, not {type(network).__name__}")
        if config.initialization.name == "auto":
            return network
    else:
        kind = NumpyMLP if isinstance(model, NumpyMlp) else MLP
        network = kind(
            n_features, model.widths, n_outputs, model.bias, config.activation, config.regularization, config.seed
        )
    initialize(network, config.initialization, config.activation, config.seed)
    return network
