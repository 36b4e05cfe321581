"""An ensemble packed into one network: its members as plain networks, its start, its loss, and runs with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from scripts.killed import assert_same_training
from sweeps.groups import composed
from torch import Tensor

from mlplab.compose import load_config
from mlplab.config import Config
from mlplab.config.tools import Export, GradientCheck
from mlplab.data.batches import Batch
from mlplab.data.prepared import prepare
from mlplab.evaluate import evaluate, load
from mlplab.experiment import run
from mlplab.export import export
from mlplab.models.build import build
from mlplab.models.packed import Heads, PackedLinear, PackedMLP
from mlplab.resume import resume
from mlplab.training import losses
from mlplab.training.classifier import Classifier
from mlplab.training.gradients import check_gradients
from mlplab.training.metrics import probabilities


def packed(*overrides: str, features: int = 5, outputs: int = 3, numbers: int = 5) -> Any:
    """A packed network in float64 whose every parameter is somewhere."""
    network: Any = build(composed("ensemble=packed", "ensemble.size=4", *overrides), features, outputs, None, numbers)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return network


def rows(n: int, features: int = 5) -> Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_hand(network: Any, x: Tensor, m: int) -> Tensor:
    """A member's logits: each hidden layer's weights between its own scales, then its own output layer."""
    hidden, k = [layer for layer in network.layers if isinstance(layer, PackedLinear)], network.size
    for layer in hidden:
        n_out, n_in = layer.weight.shape
        before, after = layer.before.view(k, n_in)[m], layer.after.view(k, n_out)[m]
        x = (torch.einsum("bi,oi->bo", x * before, layer.weight) * after + layer.bias.view(k, n_out)[m]).clamp(min=0)
    heads = network.layers[-1]
    weight = heads.weight.view(k, heads.out_features, -1)[m]
    return torch.einsum("bi,oi->bo", x, weight) + heads.bias.view(k, -1)[m]


@pytest.mark.parametrize("outputs", [1, 3])
def test_members_are_the_formula_and_the_answer_is_the_mean_of_their_probabilities(outputs: int) -> None:
    network = packed(outputs=outputs)
    x = rows(7)
    expected = torch.stack([by_hand(network, x, m) for m in range(4)], 1)
    torch.testing.assert_close(network.train()(x), expected, rtol=1e-12, atol=1e-12)
    answer = network.eval()(x)
    assert answer.shape == (7, outputs)
    torch.testing.assert_close(probabilities(answer), probabilities(expected).mean(1), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(expected[:, 0], expected[:, 1])


@pytest.mark.parametrize("more", [(), ("regularization=layer_norm",), ("embedding=periodic",), ("model.bias=false",)])
def test_each_member_is_a_plain_network(more: tuple[str, ...]) -> None:
    network = packed(*more)
    told = network.train()(rows(9))
    for m, member in enumerate(network.members):
        torch.testing.assert_close(member(rows(9)), told[:, m], rtol=1e-11, atol=1e-11)


def test_one_member_without_signs_is_the_plain_network_with_the_same_gradients() -> None:
    words = ("model.hidden=[8,6]", "activation=tanh", "initialization=torch")
    plain: Any = build(composed(*words), 5, 3)
    one: Any = build(composed(*words, "ensemble=packed", "ensemble.size=1"), 5, 3)
    assert one.layers[0].before.abs().unique().tolist() == [1.0]
    with torch.no_grad():
        one.layers[0].before.fill_(1)
    torch.testing.assert_close(one.eval()(rows(9)).softmax(-1), plain.eval()(rows(9)).softmax(-1), rtol=0, atol=1e-14)
    logits, packed_logits = plain.train()(rows(9)), one.train()(rows(9))
    torch.testing.assert_close(packed_logits[:, 0], logits, rtol=1e-13, atol=1e-13)
    logits.square().sum().backward()
    packed_logits.square().sum().backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(one.get_parameter(name).grad.view_as(parameter), parameter.grad)


def test_members_begin_with_signs_of_their_own_and_scales_of_one() -> None:
    config = composed("ensemble=packed", "ensemble.size=32", "embedding=periodic", "embedding.width=3")
    network: Any = build(config, 9, 3, None, 5)
    first, second = (layer for layer in network.layers if isinstance(layer, PackedLinear))
    signs = first.before.detach().view(32, -1)
    assert signs.abs().unique().tolist() == [1.0]
    assert 0.4 < float((signs > 0).double().mean()) < 0.6
    assert len({tuple(row) for row in signs.tolist()}) == 32
    columns = network.columns()
    assert columns.tolist() == [j for j in range(5) for _ in range(3)] + list(range(9))
    for feature in range(9):  # all that comes from one feature has one sign
        of_feature = signs[:, columns == feature]
        assert torch.equal(of_feature, of_feature[:, :1].expand_as(of_feature))
    for scales in (first.after, second.before, second.after):
        assert (scales == 1).all()
    assert not first.bias.any()
    heads = network.layers[-1].weight.detach().view(32, 3, -1)
    assert not torch.equal(heads[0], heads[1])
    again: Any = build(config, 9, 3, None, 5)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    other: Any = build(config.model_copy(update={"seed": 1}), 9, 3, None, 5)
    assert not torch.equal(other.layers[1].before, first.before)


def test_vectors_of_a_category_have_one_sign() -> None:
    words = ("data=table", "data.path=my.csv", "data.encode=embedding", "data.embedding_width=2", "embedding=periodic")
    config = load_config(*words, "embedding.width=2", "ensemble=packed", "accelerator=cpu")
    network: Any = build(config, 2 + 1 + 2, 2, [4, 3], 2)  # two numbers, a column that tells gaps, two codes
    assert network.columns().tolist() == [0, 0, 1, 1, 0, 1, 2, 3, 3, 4, 4]
    assert network.train()(torch.zeros(3, 5)).shape == (3, 32, 2)


def test_it_has_far_fewer_parameters_than_as_many_networks() -> None:
    sizes = [
        sum(p.numel() for p in build(load_config(f"ensemble={e}", "model.hidden=[256,256]"), 60, 2).parameters())
        for e in ("independent", "packed")
    ]
    assert sizes[0] < sizes[1] < 32 * sizes[0] / 10


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("loss.class_weights=balanced",),
        ("regularization=[mixup,label_smoothing]",),
        ("loss=focal", "regularization=[l2,input_noise]"),
    ],
)
def test_the_loss_is_the_mean_of_the_members_losses(more: tuple[str, ...]) -> None:
    config = composed("data=iris", "ensemble=packed", "ensemble.size=3", *more)
    prepared = prepare(config.data, torch.float64)
    train = prepared.parts["train"]
    weights = losses.class_weights(config.loss, train.y, 3)
    network: Any = build(config, 4, 3)
    batch = Batch(train.x[:20], train.y[:20], 0, 1.0)
    classifier = Classifier(network, config, 3, weights, 1)
    found = classifier.total_loss(batch, 0)
    told = []
    for m in range(3):

        class One(torch.nn.Module):
            """A member, seen through the whole network."""

            def forward(self, x: Tensor, m: int = m) -> Tensor:
                return network(x)[:, m]

        alone = Classifier(One(), config, 3, weights, 1)
        alone._weights = classifier._weights
        told.append(alone.total_loss(batch, 0))
    assert float(found.detach()) == pytest.approx(float(sum(told).detach()) / 3, rel=1e-12)
    assert classifier.seen[0][1].shape == (20, 3)


@pytest.mark.parametrize("more", ["none", "[dropout,layer_norm,l1,l2]"])
def test_gradients_are_finite_differences(more: str) -> None:
    words = ("ensemble=packed", "ensemble.size=3", "model.hidden=[7,5]", "activation=elu", "embedding=periodic")
    config = load_config(*words, f"regularization={more}", "embedding.width=2")
    how = GradientCheck(rows=20, entries=10, step=1e-5, tolerance=1e-6)
    checked = check_gradients(config, prepare(config.data, torch.float64), how)
    assert {"layers.1.before", "layers.1.after"} < {c.parameter for c in checked}
    assert checked[0].error < how.tolerance


def test_each_member_drops_units_of_its_own() -> None:
    network = packed(
        "regularization=dropout", "regularization.dropout.p=0.5", "model.hidden=[64]", "activation=sigmoid"
    )
    dropped = network.layers[:3].train()(rows(5)) == 0
    assert dropped.shape == (5, 4, 64)
    assert 0.4 < float(dropped.double().mean()) < 0.6
    assert not torch.equal(dropped[:, 0], dropped[:, 1])


def test_penalties_and_bounds_are_of_matrices() -> None:
    network = packed()
    names = {name for name, p in network.named_parameters() if p.ndim >= 2}
    assert names == {"layers.0.weight", "layers.2.weight", "layers.4.weight"}


FAST = ("ensemble=packed", "ensemble.size=6", "trainer.max_epochs=6", "accelerator=cpu", "logger=csv")


def exported(folder: Path, file: Path) -> Export:
    rest: Any = {"allow_targets": [], "format": "onnx", "overwrite": False, "check_rows": 100, "tolerance": 1e-5}
    return Export(run=str(folder), output=str(file), **rest)


@pytest.mark.parametrize("words", [("data=moons", "loss=bce"), ("data=wine", "calibration=temperature")], ids=" ".join)
def test_it_is_one_run(words: tuple[str, ...], tmp_path: Path) -> None:
    result = run(load_config(*FAST, *words), tmp_path / "run")
    assert evaluate(tmp_path / "run").metrics == result.metrics
    loaded = load(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["ensemble"]["size"] == 6
    told = result.values["ensemble"]["members"]["test"]
    network = loaded.network if isinstance(loaded.network, PackedMLP) else loaded.network.network
    test = loaded.prepared.parts["test"]
    alone = [(probabilities(m(test.x)).argmax(1) == test.y).double().mean() for m in network.members]
    assert told["accuracy"] == pytest.approx(float(sum(alone)) / 6)
    assert result.values["n_parameters"] == sum(p.numel() for p in network.parameters())
    assert export(exported(tmp_path / "run", tmp_path / "model.onnx")).difference < 1e-6
    raw = loaded.prepared.raw[:7]
    answer = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"features": raw})[0]
    kept = loaded.restored.probabilities(torch.from_numpy(raw))
    torch.testing.assert_close(torch.from_numpy(answer), kept, rtol=1e-5, atol=1e-6)


def test_it_resumes_bitwise(tmp_path: Path) -> None:
    words = (*FAST[:2], *FAST[3:], "data=wine", "regularization=[dropout,mixup]", "embedding=piecewise_linear")
    run(load_config(*words, "trainer.max_epochs=7"), tmp_path / "whole")
    run(load_config(*words, "trainer.max_epochs=3"), tmp_path / "halves")
    resume([f"resume={tmp_path / 'halves'}", "trainer.max_epochs=7"])
    assert_same_training(tmp_path / "halves", tmp_path / "whole")


def test_the_same_settings_give_the_same_bits(tmp_path: Path) -> None:
    config: Config = load_config(*FAST, "data=wine", "accelerator.precision=bf16-mixed", "optimizer=muon")
    one, other = (run(config, tmp_path / name) for name in ("one", "other"))
    assert one.metrics == other.metrics
    assert one.status == "completed"


@pytest.mark.parametrize("of", ["he", "orthogonal", "xavier", "torch", "zeros", "normal", "uniform", "auto"])
def test_members_of_an_odd_number_of_weights_start_as_one_network_would(of: str) -> None:
    alone: Any = build(composed("model.hidden=3", f"initialization={of}", "activation=selu"), 3, 3, None, 3)
    network = build(
        composed("ensemble=packed", "ensemble.size=4", "model.hidden=3", f"initialization={of}", "activation=selu"),
        *(3, 3, None, 3),
    )
    heads = [m for m in network.modules() if isinstance(m, Heads)]
    assert heads
    last = [m for m in alone.modules() if isinstance(m, torch.nn.Linear)][-1]
    assert torch.equal(heads[-1].member(0).weight, last.weight)
