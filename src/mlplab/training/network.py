"""The network of a run: its settings with the sizes of its data."""

from __future__ import annotations

import threading

import torch
from torch import nn

from mlplab.config import Config
from mlplab.data.prepared import Prepared
from mlplab.models.build import build
from mlplab.training import losses

_GENERATOR = threading.Lock()
"""Layers draw from torch's one generator when they are made; what it gives is overwritten."""


def initial_network(config: Config, prepared: Prepared) -> nn.Module:
    """The network that `models.build.build` makes for these data, with its initial weights."""
    n_outputs = losses.n_outputs(config.loss.name, prepared.n_classes)
    with _GENERATOR, torch.random.fork_rng(devices=[]):
        return build(config, prepared.n_inputs, n_outputs, prepared.categories, prepared.n_numbers)
