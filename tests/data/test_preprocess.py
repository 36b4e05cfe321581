"""Scaling is fitted on the training part only, exact, and finite for whatever numbers."""

import numpy as np
import pytest
import torch
from torch import Tensor
from training.loops import config_of

from mlplab.data.prepared import Prepared, prepare
from mlplab.data.preprocess import Scaler


def prepared(*overrides: str) -> Prepared:
    return prepare(config_of(*overrides).data, torch.float64)


def special(kind: str, scaling: str) -> dict[str, Tensor]:
    given = prepared(
        "data=custom", "data.target=data.own.columns", f"+data.kwargs.kind={kind}", f"data.scaling={scaling}"
    )
    return {name: part.x for name, part in given.parts.items()}


def test_standard_gives_training_columns_mean_0_and_deviation_1() -> None:
    parts = prepared("data=wine").parts
    x = parts["train"].x
    assert x.mean(0).abs().max() < 1e-12
    assert (x.std(0, unbiased=False) - 1).abs().max() < 1e-12
    assert parts["test"].x.mean(0).abs().max() > 1e-3, "fitted on more than the training part"


def test_minmax_gives_training_columns_0_to_1() -> None:
    parts = prepared("data=wine", "data.scaling=minmax").parts
    assert parts["train"].x.amin(0).abs().max() < 1e-15
    assert (parts["train"].x.amax(0) - 1).abs().max() < 1e-12
    assert parts["test"].x.max() > 1 or parts["test"].x.min() < 0, "fitted on more than the training part"


def test_none_leaves_the_numbers_as_they_were() -> None:
    given = prepared("data=wine", "data.scaling=none")
    for part in given.parts.values():
        assert np.array_equal(part.x.numpy(), given.raw[part.rows])


@pytest.mark.parametrize("scaling", ["standard", "minmax"])
def test_other_rows_change_nothing_of_the_scaling(scaling: str) -> None:
    given = prepared("data=wine", f"data.scaling={scaling}")
    train = given.raw[given.parts["train"].rows]
    alone = Scaler.fit(train, scaling)
    assert torch.equal(alone.center, given.preprocess.scaler.center)
    assert torch.equal(alone.scale, given.preprocess.scaler.scale)
    for part in given.parts.values():
        assert torch.equal(alone(torch.from_numpy(given.raw[part.rows])), part.x)


@pytest.mark.parametrize("scaling", ["standard", "minmax"])
@pytest.mark.parametrize("kind", ["constant", "zero"])
def test_constant_columns_become_0(kind: str, scaling: str) -> None:
    for x in special(kind, scaling).values():
        assert not x[:, 2].any()
        assert x[:, :2].isfinite().all()


@pytest.mark.parametrize("kind", ["huge", "vast", "tiny", "shifted"])
def test_large_and_small_numbers_scale_like_any_others(kind: str) -> None:
    """The third column is the first one in another unit."""
    for scaling in ("standard", "minmax"):
        x = special(kind, scaling)["train"]
        torch.testing.assert_close(x[:, 2], x[:, 0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scaling", ["standard", "minmax"])
def test_the_whole_range_of_float64_stays_finite(scaling: str) -> None:
    x = np.array([[-1.7e308], [0.0], [1.7e308]])
    scaled = Scaler.fit(x, scaling)(torch.from_numpy(x)).flatten()
    assert scaled.isfinite().all()
    assert scaled[0] < scaled[1] < scaled[2]


def test_a_new_value_in_a_constant_column_stays_0() -> None:
    scaler = Scaler.fit(np.array([[1.0, 3.0], [2.0, 3.0]]), "standard")
    assert scaler(torch.tensor([[1.5, 4.0]])).tolist() == [[0.0, 0.0]]


def test_the_scaler_is_saved_as_tensors() -> None:
    given = prepared("data=wine")
    loaded = Scaler(13)
    loaded.load_state_dict(given.preprocess.scaler.state_dict())
    x = torch.from_numpy(given.raw)
    assert torch.equal(loaded(x), given.preprocess(x))


def test_the_fingerprint_is_that_of_values_and_split() -> None:
    def mark(*overrides: str) -> str:
        return prepared(*overrides).fingerprint

    assert mark("data=iris") == mark("data=iris", "seed=4", "data.scaling=none", "data.batch_size=1")
    others = [mark("data=iris", "data.split_seed=1"), mark("data=iris", "data.split=[0.8,0.2]"), mark("data=wine")]
    assert len({mark("data=iris"), *others}) == 4
