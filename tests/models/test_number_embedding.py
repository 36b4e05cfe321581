"""Numbers as learned features: the formulas in NumPy, the laws of the encodings, their start and their limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

from mlplab.compose import load_config
from mlplab.config import Config
from mlplab.config.tools import GradientCheck
from mlplab.data.prepared import Prepared, prepare
from mlplab.models.build import build
from mlplab.models.embedding import (
    NumberEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    fit_edges,
    quantile_edges,
)
from mlplab.training.checks import check_fits
from mlplab.training.gradients import check_gradients

KINDS = ("periodic", "piecewise_linear")


def composed(kind: str, *overrides: str) -> Config:
    return load_config(f"embedding={kind}", "accelerator=cpu", "accelerator.precision=64", *overrides)


def first_layer(kind: str, *overrides: str, features: int = 7, numbers: int = 4) -> Any:
    network: Any = build(composed(kind, *overrides), features, 3, None, numbers)
    return network.layers[0]


def rows(n: int, features: int, seed: int = 0) -> Tensor:
    return torch.randn(n, features, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_hand(encoded: np.ndarray, layer: NumberEmbedding, x: np.ndarray) -> np.ndarray:
    """Each column's linear layer and ReLU, then the features as they were; encoded is (rows, columns, n_encoded)."""
    weight = layer.weight.detach().numpy().reshape(layer.n_numbers, layer.width, -1)
    bias = layer.bias.detach().numpy().reshape(layer.n_numbers, layer.width)
    units = [np.maximum(encoded[:, j] @ weight[j].T + bias[j], 0) for j in range(layer.n_numbers)]
    return np.concatenate([*units, x], 1)


def test_periodic_is_the_formula() -> None:
    layer = first_layer("periodic", "embedding.frequencies=5", "embedding.width=3", "embedding.scale=0.7")
    nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(1))
    x = rows(9, 7)
    angles = 2 * np.pi * x.numpy()[:, :4, None] * layer.frequencies.detach().numpy().reshape(4, 5)
    expected = by_hand(np.concatenate([np.cos(angles), np.sin(angles)], -1), layer, x.numpy())
    assert layer.n_out == expected.shape[1] == 4 * (3 + 1) + 3
    assert layer(x).detach().numpy() == pytest.approx(expected, abs=1e-13)


def places(x: float, edges: np.ndarray) -> list[float]:
    """Equation 1 of Gorishniy et al. 2022, bin by bin."""
    n, found = len(edges) - 1, []
    for t in range(1, n + 1):
        if x < edges[t - 1] and t > 1:
            found.append(0.0)
        elif x >= edges[t] and t < n:
            found.append(1.0)
        else:
            found.append((x - edges[t - 1]) / (edges[t] - edges[t - 1]))
    return found


def test_piecewise_linear_is_the_formula() -> None:
    layer = first_layer("piecewise_linear", "embedding.bins=6", "embedding.width=3")
    nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(1))
    fit_edges(layer, rows(200, 7))
    x = rows(50, 7, 1) * 3  # beyond the outer edges too
    edges = np.quantile(rows(200, 7).numpy()[:, :4], np.linspace(0, 1, 7), axis=0).T
    assert layer.edges.numpy() == pytest.approx(edges, abs=1e-14)
    encoded = np.array([[places(value, edges[j]) for j, value in enumerate(row[:4])] for row in x.numpy()])
    assert (encoded < 0).any()
    assert (encoded > 1).any()
    assert layer(x).detach().numpy() == pytest.approx(by_hand(encoded, layer, x.numpy()), abs=1e-12)


COLUMNS = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 40), st.just(1)),
    elements=st.one_of(
        st.floats(-1e30, 1e30).map(lambda v: v if abs(v) > 1e-30 else 0.0),
        st.integers(-3, 3).map(float),
        st.floats(-1, 1, width=32),
    ),
)


@given(COLUMNS, st.integers(1, 20), COLUMNS)
def test_places_in_bins_rise_with_the_number_and_add_up(train: np.ndarray, bins: int, x: np.ndarray) -> None:
    layer = PiecewiseLinearEmbedding(1, 1, 1, bins).double()
    fit_edges(layer, torch.from_numpy(train))
    edges = np.unique(layer.edges.numpy())
    x = np.sort(np.concatenate([x.ravel(), edges]))
    encoded = layer.encode(torch.from_numpy(x)[:, None])[0].numpy()
    assert np.isfinite(encoded).all()
    assert (np.diff(encoded, axis=0) >= 0).all()
    assert (encoded[:, len(edges) - 1 :] == 0).all(), "a column of fewer bins leaves the rest at 0"
    at_edges = encoded[np.searchsorted(x, edges)].sum(1)
    assert at_edges == pytest.approx(np.arange(len(edges)), rel=1e-6), "at the t-th edge t bins are full"


@given(COLUMNS, st.integers(1, 20))
def test_edges_are_quantiles_each_once(column: np.ndarray, bins: int) -> None:
    edges = quantile_edges(torch.from_numpy(column), bins)[0].numpy()
    found = np.unique(edges)
    assert len(edges) == bins + 1
    assert (edges == np.pad(found, (0, bins + 1 - len(found)), mode="edge")).all()
    assert found.tolist() == np.unique(np.quantile(column, np.linspace(0, 1, bins + 1))).tolist()


def test_the_start_is_what_was_promised() -> None:
    layer = first_layer(
        "periodic", "embedding.frequencies=100", "embedding.scale=0.3", "embedding.width=50", features=40, numbers=40
    )
    frequencies, weight = layer.frequencies.detach(), layer.weight.detach()
    assert float(frequencies.std()) == pytest.approx(0.3, rel=0.05)
    assert float(frequencies.mean()) == pytest.approx(0, abs=0.02)
    bound = 1 / np.sqrt(200)
    assert float(weight.abs().max()) == pytest.approx(bound, rel=1e-3)
    assert float(weight.std()) == pytest.approx(bound / np.sqrt(3), rel=0.01)
    assert not layer.bias.any()
    again, other = (first_layer("periodic", f"seed={seed}") for seed in (0, 1))
    assert torch.equal(again.frequencies, first_layer("periodic").frequencies)
    assert not torch.equal(again.frequencies, other.frequencies)
    assert not torch.equal(again.weight, other.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_any_size_give_numbers(kind: str, dtype: torch.dtype) -> None:
    layer = first_layer(kind, "embedding.scale=100" if kind == "periodic" else "embedding.bins=7").to(dtype)
    train = rows(100, 7).to(dtype)
    train[:, 1] = 3  # constant
    train[:, 2] = torch.where(train[:, 2] > 0, 1e-38, 0)  # steps at the end of float32
    train[:50, 3] = 1e30
    fit_edges(layer, train)
    x = torch.tensor([-1e30, -1e10, -1.0, 0.0, 1e-38, 3.0, 1e10, 1e30], dtype=dtype)[:, None].expand(-1, 7)
    out = layer(torch.cat([x, train]))
    assert out.isfinite().all()
    out.clamp(max=1e6).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_waves_of_numbers_within_a_million_are_exact_in_float64() -> None:
    layer = first_layer("periodic")
    x = torch.tensor([[1e6, -1e6, 12345.678, 0, 0, 0, 0]], dtype=torch.float64)
    c = layer.frequencies.detach().view(4, -1).numpy()
    expected = np.cos(2 * np.pi * x.numpy()[0, :4, None] * c)
    assert layer.encode(x[:, :4])[:, 0, :16].detach().numpy() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", ["none", "[dropout,batch_norm,l2,mixup,input_noise]"])
def test_gradients_are_finite_differences(kind: str, more: str) -> None:
    config = composed(kind, f"regularization={more}", "model.hidden=6", "activation=tanh", "embedding.width=3")
    how = GradientCheck(rows=30, entries=12, step=1e-5, tolerance=1e-6)
    checked = check_gradients(config, prepare(config.data, torch.float64), how)
    told = {c.parameter for c in checked}
    assert {"layers.0.weight", "layers.0.bias"} < told
    assert ("layers.0.frequencies" in told) == (kind == "periodic")
    assert checked[0].error < how.tolerance
    moved = {c.parameter for c in checked if c.backprop}
    assert "layers.0.weight" in moved


@pytest.mark.parametrize("kind", KINDS)
def test_it_stands_before_the_vectors_of_categories(kind: str) -> None:
    config = composed(kind, "data=table", "data.path=my.csv", "data.encode=embedding", "data.embedding_width=2")
    network: Any = build(config, 3 + 1 + 2, 2, [4, 3], 3)  # three numbers, a column that tells gaps, two codes
    train = rows(50, 6)
    train[:, 4], train[:, 5] = torch.arange(50) % 4, torch.arange(50) % 3
    fit_edges(network, train)
    out = network.layers[1](network.layers[0](train))
    width = config.embedding.width
    assert out.shape == (50, 3 * width + 3 + 1 + 2 * 2)
    assert torch.equal(out[:, 3 * width : 3 * width + 4], train[:, :4])
    table, offsets = network.layers[1].weight, torch.tensor([0, 4])
    codes = train[:, 4:].long() + offsets
    assert torch.equal(out[:, 3 * width + 4 :], table[codes].flatten(1))


def test_penalties_and_bounds_pass_the_frequencies_by() -> None:
    from mlplab.training.classifier import Classifier

    network: Any = build(composed("periodic", "regularization=[l2,max_norm]"), 4, 3, None, 4)
    of_penalty = Classifier(network, composed("periodic"), 3, None, 1)._weights
    assert any(w is network.layers[0].weight for w in of_penalty)
    assert all(w is not network.layers[0].frequencies for w in of_penalty)


def test_data_without_numbers_are_refused(tmp_path: Any) -> None:
    lines = [f"{'ab'[i % 2]},{'xyz'[i % 3]},{['no', 'yes'][i % 5 > 2]}" for i in range(60)]
    (tmp_path / "my.csv").write_text("one,two,y\n" + "\n".join(lines) + "\n")
    config = composed("periodic", "data=table", f"data.path={tmp_path / 'my.csv'}")
    found: Prepared = prepare(config.data)
    with pytest.raises(ValueError, match=r"embedding=periodic is for numeric columns.*embedding=none"):
        check_fits(config, found)


def test_the_layer_says_what_it_is() -> None:
    assert "4 columns, 16 frequencies and 8 units each" in repr(first_layer("periodic"))
    assert "4 columns, 16 bins and 8 units each" in repr(first_layer("piecewise_linear"))
    assert isinstance(first_layer("periodic"), PeriodicEmbedding)
