"""Learned vectors of categories: their layer, their start, and a sweep that trains them as a run does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.data.prepared import prepare
from mlplab.evaluate import evaluate
from mlplab.experiment import run
from mlplab.models.build import build
from mlplab.models.layers import CategoryEmbedding
from mlplab.sweeps.run import run_batch


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "my.csv"
    shapes, colours = ("cube", "ball", "cone"), ("red", "green", "blue", "black")
    lines = [
        f"{i % 17},{shapes[i * 7 % 3]},{colours[i * 5 % 11 % 4]},{(i * 7 % 3 + i * 5 % 11) % 2}" for i in range(200)
    ]
    path.write_text("size,shape,colour,y\n" + "\n".join(lines) + "\n")
    return path


def overrides(table: Path, *more: str) -> tuple[str, ...]:
    small = ("data.encode=embedding", "data.embedding_width=3", "model.hidden=[6]", "trainer.max_epochs=3")
    return ("data=table", f"data.path={table}", "accelerator=cpu", *small, *more)


def test_the_layer_puts_each_codes_vector_behind_the_numbers() -> None:
    layer = CategoryEmbedding(1, [3, 4], 2)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(14.0).view(7, 2))
    assert layer(torch.tensor([[0.5, 2.0, 1.0], [0.1, 0.0, 3.0]])).tolist() == [
        pytest.approx([0.5, 4, 5, 8, 9]),
        pytest.approx([0.1, 0, 1, 12, 13]),
    ]


def test_vectors_start_normal_and_that_of_unknown_stays_zero(table: Path) -> None:
    config = load_config(*overrides(table, "data.embedding_width=256"))
    network = build(config, 3, 2, [300, 4])
    layer = network.layers[0]  # type: ignore[index]
    assert isinstance(layer, CategoryEmbedding)
    assert float(layer.weight[[0, 300]].detach().abs().sum()) == 0
    assert float(layer.weight[1:300].detach().std()) == pytest.approx(1 / 16, rel=0.02)
    layer(torch.tensor([[0.0, 5.0, 1.0]])).sum().backward()
    assert layer.weight.grad is not None
    assert float(layer.weight.grad[[0, 300]].abs().sum()) == 0


@pytest.mark.parametrize("more", [(), ("regularization=[l2,max_norm,dropout]",), ("model=linear", "~model.hidden")])
def test_a_fused_sweep_trains_embeddings_as_a_run_alone(more: tuple[str, ...], table: Path, tmp_path: Path) -> None:
    given = [o for o in overrides(table) if not (more and more[0] == "model=linear" and o.startswith("model.hidden"))]
    given += [m for m in more if not m.startswith("~")]
    configs = [load_config(*given, f"seed={seed}") for seed in (0, 1)]
    alone = run(configs[0], tmp_path / "alone")
    together = run_batch(configs, [tmp_path / "0", tmp_path / "1"])
    one, other = (torch.load(tmp_path / name / "checkpoints/best.ckpt", weights_only=True) for name in ("alone", "0"))
    assert list(one["network"]) == list(other["network"])
    for name, value in one["network"].items():
        assert torch.allclose(value, other["network"][name], atol=1e-6), name
    first = together[0]
    assert not isinstance(first, Exception)
    assert first.metrics["test"]["loss"] == pytest.approx(alone.metrics["test"]["loss"], abs=1e-6)
    assert evaluate(tmp_path / "1").metrics["test"] == pytest.approx(together[1].metrics["test"], abs=1e-6)  # type: ignore[union-attr]
    assert (tmp_path / "0" / "data.json").read_text() == (tmp_path / "alone" / "data.json").read_text()


@pytest.mark.parametrize("more", ["model=numpy_mlp", "regularization=mixup", "regularization=input_noise"])
def test_what_embeddings_cannot_be_with_is_refused(more: str, table: Path) -> None:
    with pytest.raises(SettingError, match=r"data\.encode=onehot"):
        load_config(*overrides(table, more))


def test_codes_are_what_the_network_is_given(table: Path) -> None:
    data = prepare(load_config(*overrides(table)).data)
    assert data.categories == [4 + 1, 3 + 1] or data.categories == [3 + 1, 4 + 1]
    assert data.feature_names == ["size", "shape", "colour"]
    assert set(data.parts["train"].x[:, 1].tolist()) == {1.0, 2.0, 3.0}
