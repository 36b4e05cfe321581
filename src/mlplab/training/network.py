"""The network of a run: its settings with the sizes of its data."""

from __future__ import annotations

from torch import nn

from mlplab.config import Config
from mlplab.data.prepared import Prepared
from mlplab.models.build import build
from mlplab.training import losses


def initial_network(config: Config, prepared: Prepared) -> nn.Module:
    """The network that `models.build.build` makes for these data, with its initial weights."""
    n_outputs = losses.n_outputs(config.loss.name, prepared.n_classes)
    return build(config, prepared.n_inputs, n_outputs, prepared.categories, prepared.n_numbers)
