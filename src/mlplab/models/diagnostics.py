"""What can be read off a network's hidden layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mlplab.models.mlp import MLP

ROWS_PROBED = 1024
"""As many training rows tell a dead unit from a sleepy one well enough."""


@torch.no_grad()
def dead_units(network: nn.Module, x: Tensor) -> dict[str, float]:
    """Share of each ReLU layer's units that are 0 for every row: no gradient reaches them, they cannot learn.

    Args:
        x: what the network is given, shape (rows, n_features).

    Returns:
        `dead_units/<name of the ReLU module>` -> share; nothing for networks without nn.ReLU.
    """
    shares: dict[str, float] = {}

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            shares[f"dead_units/{name}"] = float((output.flatten(1) <= 0).all(0).double().mean())

        return hook

    hooks = [m.register_forward_hook(watch(n)) for n, m in network.named_modules() if isinstance(m, nn.ReLU)]
    if not hooks:
        return {}
    modes = [(module, module.training) for module in network.modules()]
    parameter = next(network.parameters())
    try:
        network.eval()
        x = x.to(parameter.device, parameter.dtype)
        if isinstance(network, MLP):
            network.layers(x.flatten(1))  # torch's modules, also where NumPy does the work: they have the hooks
        else:
            network(x)
    finally:
        for module, training in modes:
            module.training = training
        for hook in hooks:
            hook.remove()
    return shares
