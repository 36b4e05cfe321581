"""A training through mlplab, and the same training as a plain torch loop, to be compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from mlplab.compose import load_config
from mlplab.config import Config
from mlplab.data.batches import Batches
from mlplab.data.prepared import Prepared, prepare
from mlplab.models.build import build
from mlplab.training.epochs import Row
from mlplab.training.fit import Fitted, fit
from mlplab.training.losses import n_outputs

TINY = ("data=iris", "data.batch_size=32", "model.hidden=[5,4]", "activation=tanh", "trainer.max_epochs=3")
PLACE = ("accelerator=cpu", "accelerator.precision=64", "logger=none")


@cache
def config_of(*overrides: str) -> Config:
    """Iris in 3 batches an epoch, a small network, float64, nothing written; later overrides win."""
    last = {text.split("=")[0]: text for text in (*TINY, *PLACE, *overrides)}
    if last.get("model", "model=mlp") != "model=mlp":
        del last["model.hidden"]
    return load_config(*last.values())


def data_of(config: Config) -> Prepared:
    """The config's data, in its number format."""
    return prepare(config.data, torch.float64 if config.accelerator.precision == 64 else torch.float32)


@dataclass
class Watch:
    """An observer that keeps the weights after each epoch."""

    weights: list[Tensor] = field(default_factory=list)
    networks: list[dict[str, Tensor]] = field(default_factory=list)
    n_batches: int = 0
    between: Callable[[], object] = lambda: None

    def on_epoch(self, row: Row, classifier: Any) -> None:
        self.weights.append(parameters_to_vector(classifier.network.parameters()).detach().clone())
        self.networks.append({k: v.detach().clone() for k, v in classifier.network.state_dict().items()})

    def on_batch(self, epoch: int, batch: int, n_batches: int) -> None:
        self.n_batches += 1
        self.between()

    def close(self) -> None:
        pass


def trained(config: Config, watch: Watch | None = None) -> tuple[Fitted, Watch]:
    """The training by mlplab."""
    watch = watch or Watch()
    return fit(config, data_of(config), "cpu", None, [watch]), watch


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y)


def by_hand(
    config: Config,
    optimizers: Callable[[nn.Module], torch.optim.Optimizer | list[torch.optim.Optimizer]],
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    penalty: Callable[[nn.Module], Tensor | float] = lambda network: 0.0,
    before_step: Callable[[nn.Module], object] = lambda network: None,
    after_step: Callable[[nn.Module], object] = lambda network: None,
    rates: Sequence[float] | None = None,
) -> list[Tensor]:
    """Weights after each epoch of a plain loop over the same batches from the same initial weights.

    Args:
        rates: learning rate of each step.
    """
    prepared = data_of(config)
    network = build(config, prepared.n_features, n_outputs(config.loss.name, prepared.n_classes)).double()
    made = optimizers(network)
    together = made if isinstance(made, list) else [made]
    epochs = range(config.trainer.max_epochs)
    order = [Batches(prepared.parts["train"], config.data.batch_size, config.seed, epoch=lambda e=e: e) for e in epochs]
    weights, step = [], 0

    def closure(x: Tensor, y: Tensor) -> Tensor:
        network.zero_grad()
        value = loss(network(x), y) + penalty(network)
        value.backward()
        before_step(network)
        return value

    for batches in order:
        for batch in batches:
            for optimizer in together:
                for group in optimizer.param_groups:
                    group["lr"] = rates[step] if rates else group["lr"]
            if isinstance(together[0], torch.optim.LBFGS):
                together[0].step(lambda batch=batch: closure(batch.x, batch.y))
            else:
                closure(batch.x, batch.y)
                for optimizer in together:
                    optimizer.step()
            after_step(network)
            step += 1
        weights.append(parameters_to_vector(network.parameters()).detach().clone())
    return weights


def assert_same_course(config: Config, expected: Sequence[Tensor], rtol: float = 1e-9) -> None:
    """mlplab's weights equal the plain loop's after every epoch, and they move."""
    _, watch = trained(config)
    assert len(watch.weights) == len(expected) >= 2
    assert not torch.equal(expected[0], expected[-1])
    for epoch, (ours, theirs) in enumerate(zip(watch.weights, expected, strict=True)):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=1e-12, msg=lambda m, e=epoch: f"epoch {e}: {m}")


def matrices(network: nn.Module) -> list[Tensor]:
    """The weights that penalties act on: not biases, not normalization."""
    return [layer.weight for layer in network.modules() if isinstance(layer, nn.Linear)]
