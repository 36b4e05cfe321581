"""Packed ensembles in a fused group: each network as alone, its members, their scales and its files included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sweeps.groups import (
    CPU,
    DOUBLE,
    SINGLE,
    assert_fused_equals_alone,
    composed,
    jobs_of,
    option,
    varied,
)

from mlplab.compose import load_config
from mlplab.config import Config
from mlplab.evaluate import evaluate
from mlplab.experiment import run
from mlplab.fused.chunks import chunk_size
from mlplab.fused.layers import Context
from mlplab.fused.plan import plan
from mlplab.fused.stack import Stack
from mlplab.models.build import build
from mlplab.sweeps.run import run_batch


def folds(*overrides: str, precision: int = 64) -> list[Config]:
    """Five networks with seeds, rates and rows of their own: 7 unstratified folds of 60 rows."""
    rows = ("data.folds=7", "data.fold=0", "data.stratified=false", f"accelerator.precision={precision}")
    base = composed("ensemble=packed", "ensemble.size=3", *rows, *overrides)
    adam = [option("optimizer", "adam", lr=0.003 * (i + 1)) for i in range(5)]
    return [varied(base, seed=i, data__fold=i, optimizer=adam[i]) for i in range(5)]


REST = {
    "plain": (),
    "everything": (
        "regularization=[dropout,layer_norm,mixup,input_noise,label_smoothing,gradient_clipping,l1,l2,weight_decay,max_norm]",
        "regularization.max_norm.limit=0.5",
    ),
    "embedded": ("embedding=periodic", "activation=prelu", "initialization=torch"),
    "bins, no biases": ("embedding=piecewise_linear", "model.bias=false", "initialization=orthogonal"),
    "weighted": ("loss=focal", "loss.class_weights=balanced", "model.hidden=[6]"),
    "batch of all rows": ("data.batch_size=full", "optimizer.lr=0.05"),
}


@pytest.mark.parametrize("rest", REST)
def test_fused_equals_alone_in_float64(rest: str) -> None:
    together = assert_fused_equals_alone(folds(*REST[rest]), DOUBLE)
    first = next(name for name in together[0].best if name.endswith("before"))
    assert not torch.equal(together[0].best[first], together[1].best[first])


@pytest.mark.parametrize("rest", ["plain", "everything"])
def test_fused_equals_alone_in_float32(rest: str) -> None:
    assert_fused_equals_alone(folds(*REST[rest], precision=32), SINGLE)


def test_two_classes_from_one_output() -> None:
    base = composed("data=moons", "data.samples=60", "loss=bce", "activation=tanh", "ensemble=packed")
    assert_fused_equals_alone([varied(base, seed=seed) for seed in range(3)])


def test_networks_that_stop_early_leave_the_others_as_they_were() -> None:
    stop = ("regularization=early_stopping", "regularization.early_stopping.patience=0")
    together = assert_fused_equals_alone(folds(*stop, "regularization.early_stopping.min_delta=0.02"), DOUBLE)
    lengths = [len(t.history) for t in together]
    assert min(lengths) < max(lengths), lengths


def test_the_backward_pass_is_autograds() -> None:
    """A step's gradients in the flat buffer, against torch's own of each plain network."""
    configs = folds("model.hidden=[6,4]", "activation=elu", "embedding=periodic", "embedding.width=2")
    plain: list[Any] = [build(c, 5, 3, None, 4) for c in configs]
    stack = Stack(plain[0], configs, CPU, torch.float64)
    for p in stack.parameters:
        p.value += 0.2 * torch.randn(p.value.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = torch.randn(5, 9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits, weights = stack.forward(x, Context()), torch.cos(torch.arange(5 * 9 * 3 * 3).double()).view(5, 9 * 3, 3)
    stack.backward(weights)
    answer = stack.forward(x, Context(training=False))
    torch.testing.assert_close(stack.answer(logits), answer, rtol=1e-12, atol=1e-12)
    for m, network in enumerate(plain):
        network.load_state_dict(stack.state(stack.snapshot(), m))
        expected = network.train()(x[m])
        torch.testing.assert_close(logits[m].view(9, 3, 3), expected, rtol=1e-12, atol=1e-12)
        expected.backward(weights[m].view(9, 3, 3))
        for stacked, (name, parameter) in zip(stack.parameters, network.named_parameters(), strict=True):
            assert stacked.name == name
            torch.testing.assert_close(stacked.grad[m], parameter.grad, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(answer[m], network.eval()(x[m]), rtol=1e-12, atol=1e-12)


def test_packed_and_plain_networks_are_groups_of_their_own() -> None:
    packed, plain = folds()[:2], composed()
    one = varied(plain, ensemble={"name": "packed", "size": 1})
    groups, alone = plan(jobs_of([*packed, plain, one, varied(packed[0], ensemble__size=4)]))
    assert not alone
    assert sorted(len(g.jobs) for g in groups) == [1, 1, 1, 2]
    sizes = []
    for size in (1, 3, 300):
        (group,), _ = plan(jobs_of([varied(packed[0], ensemble__size=size)]))
        sizes.append(chunk_size(group, CPU))
    assert sizes[0] > sizes[1] > sizes[2] >= 1


def test_a_sweep_leaves_what_runs_alone_leave(tmp_path: Path) -> None:
    words = ("ensemble=packed", "ensemble.size=4", "trainer.max_epochs=4", "accelerator=cpu", "logger=csv")
    configs = [load_config(*words, "data=wine", f"seed={seed}") for seed in range(2)]
    together = run_batch(configs, [tmp_path / str(i) for i in range(2)])
    alone = run(configs[1], tmp_path / "alone")
    assert not isinstance(together[1], Exception)
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("1", "alone")]
    assert results[0]["n_parameters"] == results[1]["n_parameters"]
    one, other = (r["ensemble"] for r in results)
    assert (one["size"], one["trained"]) == (other["size"], other["trained"]) == (4, 4)
    for part in ("train", "val", "test"):
        assert one["members"][part] == pytest.approx(other["members"][part], abs=1e-5)
        assert results[0]["metrics"][part] == pytest.approx(results[1]["metrics"][part], abs=1e-5)
        assert one["members"][part]["log_loss"] > results[0]["metrics"][part]["log_loss"], "the mean is better"
    assert evaluate(tmp_path / "1").metrics["test"] == pytest.approx(alone.metrics["test"], abs=1e-5)
