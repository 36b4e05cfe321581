"""Pictures of what the tutorials teach: activation functions, and three kinds of gradient descent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "softplus")


def activations(names: Sequence[str] = ACTIVATIONS, limit: float = 4.0) -> Figure:
    """Activation functions and their derivatives (torch's autograd) from -limit to limit, one panel each.

    Args:
        names: options of the group `activation`, with their default settings.
    """
    import torch
    from matplotlib.figure import Figure

    from mlplab.compose import load_config
    from mlplab.models.layers import activation

    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3 * columns, 2.6 * rows), layout="constrained")
    for i, name in enumerate(names):
        z = torch.linspace(-limit, limit, 401, requires_grad=True)
        a = activation(load_config(f"activation={name}").activation)(z)
        (slope,) = torch.autograd.grad(a.sum(), z)
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.plot(z.detach().numpy(), a.detach().numpy(), label="f(z)")
        axes.plot(z.detach().numpy(), slope.numpy(), "--", label="f'(z)")
        axes.set(title=name, xlabel="z", ylim=(-1.5, 2.5))
        axes.grid(alpha=0.3)
        if i == 0:
            axes.legend()
    return figure


def descents(config: Any, sizes: Sequence[int | str] = ("full", 16, 1)) -> Figure:
    """Train a config's network with batches of several sizes, and draw the training loss of each.

    Args:
        config: from `mlplab.compose.load_config`; its data.batch_size is replaced.
        sizes: rows in a batch: `full` is batch, 1 stochastic, anything between mini-batch gradient descent.
    """
    import torch

    from mlplab.data.prepared import prepare
    from mlplab.training import devices
    from mlplab.training.fit import fit

    prepared = prepare(config.data, torch.float64 if config.accelerator.precision == 64 else torch.float32)
    device = devices.resolve(config.accelerator)
    curves = {}
    for size in sizes:
        data = config.data.model_copy(update={"batch_size": size})
        fitted = fit(config.model_copy(update={"data": data}), prepared, device, None, [])
        curves[{"full": "full batch", 1: "stochastic"}.get(size, f"mini-batch of {size}")] = fitted.history
    return descent_curves(curves)


def descent_curves(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Training loss against passes over the data, and against steps: a step is cheap where the batch is small.

    Args:
        curves: label -> rows of metrics.csv, of which train/loss, epoch and step are drawn.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    by_epoch, by_step = figure.subplots(1, 2, sharey=True)
    for label, history in curves.items():
        losses = [row["train/loss"] for row in history]
        by_epoch.plot([row["epoch"] + 1 for row in history], losses, label=label)
        by_step.plot([row["step"] for row in history], losses, label=label)
    by_epoch.set(xlabel="epochs: passes over the training rows", ylabel="training loss", yscale="log")
    by_step.set(xlabel="steps", xscale="log")
    for axes in (by_epoch, by_step):
        axes.grid(alpha=0.3)
    by_epoch.legend()
    return figure
