"""Every number of a training's first step: what a learner would write on paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from mlplab.config import Config, SettingError
from mlplab.config.network import NumpyMlp
from mlplab.data.batches import Batches
from mlplab.data.prepared import Prepared
from mlplab.models.numpy_layers import Dense, Elementwise, Layer, output_delta, row_losses, sigmoid
from mlplab.models.numpy_mlp import NumpyMLP, array
from mlplab.training import losses, optimizers, schedulers
from mlplab.training.network import initial_network

MOST_PARAMETERS = 100
"""A longer table is not read by anybody."""


class Number(NamedTuple):
    """One line of the table."""

    stage: str
    """start, forward, loss, backward or update."""
    name: str
    formula: str
    value: float


def first_step(config: Config, prepared: Prepared) -> list[Number]:
    """The first step of a training, on one row, number by number: forward, loss, backward, update.

    Layers are counted from 1: w1[2,1] is the weight from input 1 into unit 2 of the first layer, z its weighted sum, a
    its activation, d (delta) the derivative of the loss in z.

    Raises:
        SettingError: the network is too large to be followed by hand.
    """
    n_outputs = losses.n_outputs(config.loss.name, prepared.n_classes)
    network = initial_network(config, prepared)
    assert isinstance(network, NumpyMLP)
    assert isinstance(config.model, NumpyMlp)
    n_parameters = sum(p.numel() for p in network.parameters())
    if n_parameters > MOST_PARAMETERS:
        raise SettingError(
            f"trainer.show_first_step=true prints every number, and model.hidden={config.model.hidden} makes "
            f"{n_parameters} parameters; use a network of at most {MOST_PARAMETERS}"
        )
    chosen = config.trainer
    batches = Batches(
        prepared.parts["train"], config.data.batch_size, config.seed, limit=chosen.max_batches, fixed=chosen.overfit
    )
    batch = next(iter(batches))
    x = prepared.parts["train"].inputs(batch.x)
    layers = network.written_out(x)
    dense = [layer for layer in layers if isinstance(layer, Dense)]
    before = [array(p).copy() for p in network.parameters()]

    values = array(x)
    for layer in layers:
        values = layer.forward(values)
    targets = F.one_hot(batch.y, prepared.n_classes).numpy().astype(values.dtype)
    gamma = getattr(config.loss, "gamma", 0.0)
    delta = output_delta(config.loss.name, values, targets, gamma)
    deltas: list[np.ndarray] = []
    for layer in reversed(layers):
        if isinstance(layer, Dense):
            deltas.insert(0, delta)
        delta = layer.backward(delta)
    gradients = [g for layer in layers for g in layer.gradients]
    for p, g in zip(network.parameters(), gradients, strict=True):
        p.grad = torch.from_numpy(g)
    optimizer = optimizers.build(config.optimizer, network.parameters())
    factor = schedulers.factor(config.scheduler, 0, len(batches), chosen.max_epochs * len(batches))
    for group in optimizer.param_groups:
        group["lr"] *= factor
    optimizer.step()
    after = [array(p) for p in network.parameters()]

    loss = float(row_losses(config.loss.name, values, targets, gamma)[0])
    names = list(_parameter_names(dense))
    rate = config.optimizer.lr * factor
    rule = "w - {lr:g} dL/dw" if config.optimizer.name == "sgd" and not config.optimizer.weight_decay else "{name}"
    rule = rule.format(lr=rate, name=f"{config.optimizer.name}'s first step, lr {rate:g}")
    return [
        *(Number("start", f"x{j + 1}", "input", float(v)) for j, v in enumerate(dense[0].x[0])),
        Number("start", "t", "class", float(batch.y[0])),
        *_each("start", names, "initial", before),
        *_forward(layers, dense, values, config),
        Number("loss", "L", _LOSS[config.loss.name, n_outputs == 1], loss),
        *_backward(dense, deltas, config, n_outputs),
        *_each("backward", [f"dL/d{n}" for n in names], _gradient_formula, gradients),
        *_each("update", [f"new {n}" for n in names], rule, after),
    ]


_LOSS = {
    ("bce", True): "-t log p - (1 - t) log(1 - p)",
    ("mse", True): "(p - t)^2",
    ("cross_entropy", False): "-log p of class t",
    ("mse", False): "mean over classes c of (p_c - [c = t])^2",
    ("focal", False): "-(1 - p)^gamma log p of class t",
}


def _parameter_names(dense: list[Dense]) -> Iterator[str]:
    for i in range(len(dense)):
        yield f"w{i + 1}"
        if dense[i].bias is not None:
            yield f"b{i + 1}"


def _each(
    stage: str, names: list[str], formula: str | Callable[[str, tuple[int, ...]], str], arrays: list[np.ndarray]
) -> Iterator[Number]:
    for name, values in zip(names, arrays, strict=True):
        for place, value in np.ndenumerate(values):
            text = formula if isinstance(formula, str) else formula(name, place)
            yield Number(stage, name + _index(place), text, float(value))


def _index(place: tuple[int, ...]) -> str:
    return "[" + ",".join(str(i + 1) for i in place) + "]"


def _before(layer: int, j: int) -> str:
    return f"x{j + 1}" if layer == 0 else f"a{layer}[{j + 1}]"


def _gradient_formula(name: str, place: tuple[int, ...]) -> str:
    kind, layer = name.removeprefix("dL/d")[0], int(name.removeprefix("dL/d")[1:])
    own = f"d{layer}[{place[0] + 1}]"
    return f"{own} {_before(layer - 1, place[1])}" if kind == "w" else own


def _forward(layers: list[Layer], dense: list[Dense], logits: np.ndarray, config: Config) -> Iterator[Number]:
    hidden = [layer for layer in layers if isinstance(layer, Elementwise)]
    for i, layer in enumerate(dense):
        z = hidden[i].z[0] if i < len(hidden) else logits[0]
        for k, value in enumerate(z):
            terms = [f"w{i + 1}[{k + 1},{j + 1}] {_before(i, j)}" for j in range(layer.weight.shape[1])]
            terms += [] if layer.bias is None else [f"b{i + 1}[{k + 1}]"]
            yield Number("forward", f"z{i + 1}[{k + 1}]", " + ".join(terms), float(value))
        if i < len(hidden):
            for k, value in enumerate(hidden[i].a[0]):
                formula = f"{config.activation.name}(z{i + 1}[{k + 1}])"
                yield Number("forward", f"a{i + 1}[{k + 1}]", formula, float(value))
    last = len(dense)
    if logits.shape[1] == 1:
        yield Number("forward", "p", f"sigmoid(z{last}[1])", float(sigmoid(logits)[0, 0]))
        return
    e = np.exp(logits[0] - logits[0].max())
    for k, value in enumerate(e / e.sum()):
        yield Number("forward", f"p{k + 1}", f"softmax(z{last})[{k + 1}]", float(value))


def _backward(dense: list[Dense], deltas: list[np.ndarray], config: Config, n_outputs: int) -> Iterator[Number]:
    last = len(dense)
    start = "p - t" if n_outputs == 1 and config.loss.name == "bce" else "dL/dz of loss and output"
    if n_outputs == 1 and config.loss.name == "mse":
        start = "2 (p - t) p (1 - p)"
    for i in range(last, 0, -1):
        for k, value in enumerate(deltas[i - 1][0]):
            formula = start
            if i < last:
                terms = [f"w{i + 1}[{m + 1},{k + 1}] d{i + 1}[{m + 1}]" for m in range(len(dense[i].weight))]
                inner = " + ".join(terms)
                formula = f"({inner}) {config.activation.name}'(z{i}[{k + 1}])"
            yield Number("backward", f"d{i}[{k + 1}]", formula, float(value))
