"""Numbers as learned features in a fused group: as alone, each network with its own rows, frequencies and bins."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from data.people import HEADER, people
from sweeps.groups import (
    CPU,
    DOUBLE,
    SINGLE,
    assert_fused_equals_alone,
    composed,
    course,
    fused,
    jobs_of,
    option,
    varied,
)
from torch import Tensor

from mlplab.compose import load_config
from mlplab.config import Config
from mlplab.evaluate import evaluate
from mlplab.experiment import run
from mlplab.fused.chunks import chunk_size
from mlplab.fused.layers import Context
from mlplab.fused.plan import plan
from mlplab.fused.stack import Stack
from mlplab.models.build import build
from mlplab.reports.tables import write_csv
from mlplab.sweeps.run import run_batch

KINDS: dict[str, tuple[dict[str, Any], ...]] = {
    "periodic": ({"frequencies": 6, "width": 3, "scale": 0.1}, {"frequencies": 6, "width": 3, "scale": 0.5}),
    "piecewise_linear": ({"bins": 5, "width": 3}, {"bins": 5, "width": 3}),
}


def folds(kind: str, *overrides: str, precision: int = 64) -> list[Config]:
    """Six networks: 7 unstratified folds of 60 rows, so rows, scaling and bins differ; seeds and scales too."""
    rows = ("data.folds=7", "data.fold=0", "data.stratified=false", f"accelerator.precision={precision}")
    base = composed(*rows, *overrides)
    numbers = KINDS[kind]
    return [varied(base, seed=i, data__fold=i, embedding=option("embedding", kind, **numbers[i % 2])) for i in range(6)]


REST = {
    "plain": (),
    "everything": (
        "regularization=[dropout,mixup,input_noise,label_smoothing,gradient_clipping,l1,l2,weight_decay,max_norm]",
        "regularization.max_norm.limit=0.5",
    ),
    "batch of all rows": ("data.batch_size=full", "optimizer=sgd", "optimizer.lr=0.1"),
    "linear": ("model=linear",),
    "decoupled decay": ("optimizer=adamw", "optimizer.weight_decay=0.1"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rest", REST)
def test_fused_equals_alone_in_float64(kind: str, rest: str) -> None:
    together = assert_fused_equals_alone(folds(kind, *REST[rest]), DOUBLE)
    names = ["layers.0.weight", "layers.0.bias", "layers.0.frequencies" if kind == "periodic" else "layers.0.edges"]
    assert list(together[0].best)[:3] == names
    assert not torch.equal(together[0].best[names[2]], together[1].best[names[2]])


@pytest.mark.parametrize("kind", KINDS)
def test_fused_equals_alone_in_float32(kind: str) -> None:
    assert_fused_equals_alone(folds(kind, "regularization=[dropout,weight_decay]", precision=32), SINGLE)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_that_stop_early_leave_the_others_as_they_were(kind: str) -> None:
    stop = ("regularization=early_stopping", "regularization.early_stopping.patience=0", "optimizer.lr=0.03")
    together = assert_fused_equals_alone(folds(kind, *stop, "regularization.early_stopping.min_delta=0.05"), DOUBLE)
    lengths = [len(t.history) for t in together]
    assert min(lengths) < max(lengths), lengths


def test_an_embedding_does_something() -> None:
    plain = fused([varied(c, embedding={"name": "none"}) for c in folds("periodic")])
    for kind in KINDS:
        for with_it, without in zip(fused(folds(kind)), plain, strict=True):
            assert course(with_it.history) != course(without.history)


@pytest.mark.parametrize("kind", KINDS)
def test_the_backward_pass_is_autograds(kind: str) -> None:
    """A step's gradients in the flat buffer, against torch's own of each plain network."""
    configs = folds(kind)
    jobs = jobs_of(configs)
    plain: list[Any] = [build(c, 5, 3, None, 4) for c in configs]  # the fifth feature is not a number
    stack = Stack(plain[0], configs, CPU, torch.float64)
    train = [job.prepared.parts["train"].x for job in jobs]
    stack.fit_edges(train)
    for network, x in zip(plain, train, strict=True):
        if kind == "piecewise_linear":
            network.layers[0].edges.copy_(torch.quantile(x[:, :4], torch.linspace(0, 1, 6).double(), dim=0).T)
    for p in stack.parameters:  # biases too are somewhere
        p.value += 0.1 * torch.randn(p.value.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = torch.randn(6, 9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[0, 0] = 1e30
    logits = stack.forward(x, Context())
    stack.backward(torch.cos(torch.arange(6 * 9 * 3).double()).view(6, 9, 3))
    for m, network in enumerate(plain):
        network.load_state_dict(stack.state(stack.snapshot(), m))
        expected: Tensor = network(x[m])
        torch.testing.assert_close(logits[m], expected, rtol=1e-11, atol=1e-11)
        expected.backward(torch.cos(torch.arange(6 * 9 * 3).double()).view(6, 9, 3)[m])
        for stacked, (name, parameter) in zip(stack.parameters, network.named_parameters(), strict=True):
            assert stacked.name == name
            torch.testing.assert_close(stacked.grad[m], parameter.grad, rtol=1e-9, atol=1e-11)


def test_a_chunk_is_smaller_where_networks_are_larger() -> None:
    sizes = []
    for frequencies in (0, 4, 256):
        chosen = option("embedding", "periodic", frequencies=frequencies) if frequencies else {"name": "none"}
        base = varied(composed("model.hidden=[64,64]"), embedding=chosen)
        (group,), _ = plan(jobs_of([base, varied(base, seed=1)]))
        sizes.append(chunk_size(group, CPU))
    assert sizes[0] > sizes[1] > sizes[2] >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "encode"), list(product(KINDS, ("onehot", "embedding"))))
def test_a_sweep_over_a_table_of_your_own_leaves_what_runs_alone_leave(kind: str, encode: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "people.csv", HEADER, people(200))
    words = (
        *("data=table", f"data.path={tmp_path / 'people.csv'}", f"data.encode={encode}", f"embedding={kind}"),
        *("accelerator=cpu", "trainer.max_epochs=4", "logger=csv", "data.folds=4"),
    )
    configs = [load_config(*words, f"data.fold={fold}", f"seed={fold}") for fold in range(3)]
    together = run_batch(configs, [tmp_path / str(i) for i in range(3)])
    alone = run(configs[1], tmp_path / "alone")
    one = torch.load(tmp_path / "alone/checkpoints/best.ckpt", weights_only=True)["network"]
    other = torch.load(tmp_path / "1/checkpoints/best.ckpt", weights_only=True)["network"]
    assert list(one) == list(other)
    for name, value in one.items():
        assert torch.allclose(value, other[name], atol=1e-5), name
    assert not isinstance(together[1], Exception)
    assert together[1].metrics["test"]["loss"] == pytest.approx(alone.metrics["test"]["loss"], abs=1e-5)
    assert (
        together[1].values["n_parameters"]
        == alone.values["n_parameters"]
        == sum(v.numel() for name, v in one.items() if not name.endswith("edges"))
    )
    assert evaluate(tmp_path / "1").metrics["test"] == pytest.approx(together[1].metrics["test"], abs=1e-6)
    assert json.loads((tmp_path / "1/result.json").read_text())["settings"]["embedding"]["name"] == kind
