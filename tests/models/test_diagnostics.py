"""Dead units, vanishing gradients and unbroken symmetry can be seen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlplab.compose import load_config
from mlplab.data.prepared import prepare
from mlplab.experiment import run
from mlplab.models.build import build
from mlplab.models.diagnostics import dead_units
from mlplab.training.fit import fit

BARE = ("accelerator=cpu", "logger.graph=false", "logger.figures=false")


def curves(folder: Path, prefix: str) -> dict[str, list[float]]:
    """Scalars of a run's event file whose tag begins with `prefix`."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {t: [e.value for e in events.Scalars(t)] for t in events.Tags()["scalars"] if t.startswith(prefix)}


@pytest.mark.parametrize("model", ["mlp", "numpy_mlp"])
def test_dead_share_is_exact(model: str) -> None:
    network = build(load_config(f"model={model}", "model.hidden=[8,4]", "regularization=dropout"), 3, 2)
    with torch.no_grad():
        network.layers[0].bias[:2] = -100  # of 8 units, two can never be above 0
        network.layers[3].weight.fill_(-1)  # and all of the next layer see no positive sum
        network.layers[3].bias.fill_(-1)
    network.train()
    x = torch.rand(200, 3) * 2 - 1
    shares = dead_units(network, x)
    assert network.training
    assert shares.keys() == {"dead_units/layers.1", "dead_units/layers.4"}
    alive = (network.layers[0](x) > 0).any(0).double().mean()
    assert shares["dead_units/layers.1"] == pytest.approx(1 - float(alive))
    assert shares["dead_units/layers.1"] >= 0.25
    assert shares["dead_units/layers.4"] == 1
    assert not network.layers[1]._forward_hooks


def test_networks_without_relu_have_no_dead_units() -> None:
    assert dead_units(build(load_config("activation=leaky_relu"), 3, 2), torch.ones(4, 3)) == {}


def test_dead_units_are_logged_for_each_layer(tmp_path: Path) -> None:
    """A rate far too large kills ReLUs within a few epochs."""
    rate = ("optimizer=sgd", "optimizer.lr=3", "trainer.max_epochs=4")
    run(load_config("data=iris", "model.hidden=[16,16]", *rate, *BARE), tmp_path)
    shares = curves(tmp_path, "dead_units/")
    assert shares.keys() == {"dead_units/layers.1", "dead_units/layers.3"}
    assert all(len(values) == 4 for values in shares.values())
    assert max(v[-1] for v in shares.values()) > 0.5


def test_gradients_of_a_deep_sigmoid_network_vanish_towards_the_input(tmp_path: Path) -> None:
    norms = {}
    for activation in ("sigmoid", "relu"):
        config = load_config(
            "data=digits", f"activation={activation}", "model.hidden=32", "model.depth=6", "trainer.max_epochs=2",
            "data.batch_size=64", "optimizer=sgd", *BARE,
        )  # fmt: skip
        run(config, tmp_path / activation)
        found = curves(tmp_path / activation, "gradient_norm/")
        layers = sorted(found, key=lambda tag: int(tag.split(".")[1]))
        assert len(layers) == 7
        norms[activation] = np.array([found[tag] for tag in layers])  # (layers, epochs), from the input on
    sigmoid, relu = norms["sigmoid"], norms["relu"]
    assert (sigmoid[1:-1] < 0.5 * sigmoid[2:]).all(), "each hidden layer on the way back has less"
    assert (sigmoid[0] < 1e-3 * sigmoid[-1]).all()
    assert (relu[0] > 0.05 * relu[-1]).all(), "ReLU hands it through"


def test_gradients_of_a_deep_network_with_large_weights_explode(tmp_path: Path) -> None:
    """With standard normal weights each of seven layers makes what passes it some four times as large."""
    norms = {}
    for initialization in (("initialization=normal", "initialization.std=1"), ("initialization=auto",)):
        config = load_config(
            "data=digits", "model.hidden=32", "model.depth=6", "trainer.max_epochs=1", "data.batch_size=64",
            "optimizer=sgd", "optimizer.lr=1e-12", *initialization, *BARE,
        )  # fmt: skip
        folder = tmp_path / str(len(norms))
        run(config, folder)
        found = curves(folder, "gradient_norm/")
        norms[initialization[0]] = np.array([of_epoch[0] for of_epoch in found.values()])
    exploded, sound = norms.values()
    assert len(exploded) == 7
    assert (exploded > 1000 * sound).all()
    assert (sound < 10).all()


def test_zero_weights_never_break_the_symmetry() -> None:
    common = ("data=digits", "model.hidden=16", "trainer.max_epochs=10", "accelerator=cpu", "logger=none")
    accuracy = {}
    for initialization in ("zeros", "auto"):
        config = load_config(*common, "activation=sigmoid", f"initialization={initialization}")
        fitted = fit(config, prepare(config.data), "cpu", None, [])
        rows = fitted.network.layers[0].weight.detach()
        assert rows.abs().max() > 0.01, "it has trained"
        spread = (rows - rows[0]).abs().max()
        assert spread < 1e-4 if initialization == "zeros" else spread > 0.1
        accuracy[initialization] = fitted.history[-1]["val/accuracy"]
    assert accuracy["zeros"] < 0.4, "sixteen units that are one unit"
    assert accuracy["auto"] > 0.85
    config = load_config(*common, "activation=relu", "initialization=zeros")
    fitted = fit(config, prepare(config.data), "cpu", None, [])
    assert fitted.network.layers[0].weight.abs().max() == 0, "no gradient passes a ReLU at 0 between zeros"
    assert fitted.history[-1]["val/accuracy"] < 0.15
