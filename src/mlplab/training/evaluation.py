"""Scores of a network on one part of the data, without training on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlplab.config import Config
from mlplab.data.prepared import Part
from mlplab.training import losses
from mlplab.training.metrics import compute, probabilities

ROWS_AT_ONCE = 8192
ROWS_AT_LEAST = 32
"""Fewer rows take other matrix kernels, with other roundings; filled up, a row gets the same bits in any batch."""


@dataclass(frozen=True)
class Scores:
    """What a network does on one part."""

    metrics: dict[str, float]
    """`loss` and the metrics of mlplab.training.metrics."""
    probs: Tensor
    """Probability of each class, shape (rows, n_classes), on the CPU."""


@contextmanager
def number_format(precision: int | str, device: torch.device) -> Iterator[None]:
    """Run what is inside in the mixed precision that training used, if it used one."""
    kinds: dict[int | str, torch.dtype] = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    if precision in kinds:
        with torch.autocast(device.type, kinds[precision]):
            yield
    else:
        yield


@torch.no_grad()
def logits_of(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Logits of all rows, a few thousand at a time, at least float32: shape (rows, n_outputs)."""
    parts = [_filled_up(network, chunk) for chunk in x.split(ROWS_AT_ONCE)]
    logits = parts[0] if len(parts) == 1 else torch.cat(parts)
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _filled_up(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not 0 < len(x) < ROWS_AT_LEAST:
        return network(x)
    return network(torch.cat([x, x[-1:].expand(ROWS_AT_LEAST - len(x), *x.shape[1:])]))[: len(x)]


@torch.no_grad()
def score(network: nn.Module, part: Part, config: Config, n_classes: int, weights: Tensor | None) -> Scores:
    """Loss (without penalties and label smoothing) and metrics of a network in evaluation mode.

    Args:
        weights: class weights of the loss, or None.
    """
    was_training = network.training
    network.eval()
    with number_format(config.accelerator.precision, part.x.device):
        logits = logits_of(lambda x: network(part.inputs(x)), part.x)
    network.train(was_training)
    targets = F.one_hot(part.y, n_classes).to(logits.dtype)
    rows = losses.row_losses(config.loss, logits, targets)
    loss = losses.weighted_mean(rows, targets, None if weights is None else weights.to(logits))
    probs = probabilities(logits)
    metrics = {name: float(value) for name, value in compute(probs, part.y).items()}
    return Scores({"loss": float(loss), **metrics}, probs.cpu())


@torch.no_grad()
def mean_score(
    networks: Sequence[nn.Module], part: Part, config: Config, n_classes: int, weights: Tensor | None
) -> dict[str, float]:
    """The mean over several networks, in evaluation mode, of the metrics of `score`."""
    modes = [network.training for network in networks]
    for network in networks:
        network.eval()
    with number_format(config.accelerator.precision, part.x.device):
        whole: list[Callable[[Tensor], Tensor]] = [partial(_of_part, network, part) for network in networks]
        logits = torch.stack([logits_of(one, part.x) for one in whole])
    for network, was_training in zip(networks, modes, strict=True):
        network.train(was_training)
    targets = F.one_hot(part.y, n_classes).to(logits.dtype).expand(len(networks), -1, -1)
    rows = losses.row_losses(config.loss, logits, targets)
    loss = losses.weighted_mean(rows, targets, None if weights is None else weights.to(logits)).mean()
    found = compute(probabilities(logits), part.y.expand(len(networks), -1))
    return {"loss": float(loss), **{name: float(values.double().mean()) for name, values in found.items()}}


def _of_part(network: nn.Module, part: Part, x: Tensor) -> Tensor:
    logits: Tensor = network(part.inputs(x))
    return logits


def probabilities_of(
    network: nn.Module, preprocess: nn.Module, precision: int | str = 32
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from raw features (rows, n_features) to probabilities (rows, n_classes), both NumPy."""
    parameter = next(network.parameters())

    def predict(x: np.ndarray) -> np.ndarray:
        was_training = network.training
        network.eval()
        inputs = preprocess(torch.from_numpy(x)).to(parameter.device, parameter.dtype)
        with number_format(precision, parameter.device):
            probs = probabilities(logits_of(network, inputs))
        network.train(was_training)
        return probs.cpu().numpy()

    return predict
