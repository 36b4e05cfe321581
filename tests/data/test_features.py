"""The preprocessing of tables equals scikit-learn's and its formulas, and survives a checkpoint."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, QuantileTransformer, RobustScaler, StandardScaler

from mlplab.data.preprocess import Features, Quantile, Robust, Scaler, fit_scaling

KINDS = ["standard", "minmax", "robust", "quantile", "none"]


@pytest.fixture
def x() -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.stack([rng.normal(5, 2, 3001), rng.exponential(1e4, 3001), rng.integers(0, 3, 3001).astype(float)], 1)


def test_robust_is_the_robust_scaler_drawn_in_smoothly(x: np.ndarray) -> None:
    z = RobustScaler().fit_transform(x)
    expected = z / np.sqrt(1 + (z / 3) ** 2)
    assert np.allclose(Robust.fit(x, "robust")(torch.from_numpy(x)), expected, rtol=1e-12)


def test_robust_of_a_column_that_is_mostly_one_value_uses_its_range() -> None:
    x = np.zeros((100, 1))
    x[0] = 50
    assert Scaler.fit(x, "robust")(torch.from_numpy(x)).flatten()[:2].tolist() == [1, 0]


def test_quantile_is_near_the_quantile_transformer(x: np.ndarray) -> None:
    ours = Quantile.fit(x)(torch.from_numpy(x)).numpy()
    theirs = QuantileTransformer(output_distribution="normal", n_quantiles=1000, subsample=None).fit_transform(x)
    inside = np.abs(theirs[:, :2]) < 2  # the ends are scikit-learn's own choice
    assert np.abs(ours[:, :2] - theirs[:, :2])[inside].max() < 0.02
    assert np.allclose(ours[:, :2].std(0), 1, atol=0.01)


def test_quantile_of_ties_is_the_middle_of_their_ranks() -> None:
    from scipy.special import ndtri

    x = np.array([[0.0]] * 6 + [[1.0]] * 2 + [[5.0]] * 2)
    found = Quantile.fit(x)(torch.tensor([[0.0], [1.0], [5.0], [-9.0], [9.0], [3.0]], dtype=torch.float64)).flatten()
    at = ndtri([0.3, 0.7, 0.9])
    assert np.allclose(found, [*at, at[0], at[2], (at[1] + at[2]) / 2])


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 9, 1000, 1024, 1025, 5000])
def test_quantile_finds_its_place_among_any_number_of_knots(n: int) -> None:
    x = np.random.default_rng(n).normal(size=(n, 2))
    quantile = Quantile.fit(x)
    given = np.random.default_rng(0).normal(size=(500, 2)) * 1.5
    found = quantile(torch.from_numpy(given)).numpy()
    for column in range(2):
        knots = quantile.knots[column].numpy()
        known = np.isfinite(knots)
        expected = np.interp(given[:, column], knots[known], quantile.scores[column].numpy()[known])
        assert np.allclose(found[:, column], expected)


def test_features_are_scikit_learns_pipeline() -> None:
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(500, 3))
    numbers[rng.random((500, 3)) < 0.2] = np.nan
    numbers[:, 2] = rng.normal(size=500)
    codes = np.stack([rng.integers(1, 5, 500), rng.integers(1, 3, 500)], 1)
    raw = np.concatenate([numbers, codes], 1)
    ours = Features.fit(raw, 3, [5, 3], True, "standard")(torch.from_numpy(raw)).numpy()
    imputed = SimpleImputer(strategy="median", add_indicator=True).fit_transform(numbers)
    scaled = StandardScaler().fit_transform(imputed[:, :3])
    onehot = OneHotEncoder(sparse_output=False).fit_transform(codes)
    assert np.allclose(ours, np.concatenate([scaled, imputed[:, 3:], onehot], 1), atol=1e-12)


def test_minmax_of_imputed_numbers() -> None:
    raw = np.array([[1.0], [np.nan], [3.0], [2.0], [7.0]])
    found = Features.fit(raw, 1, [], True, "minmax")(torch.from_numpy(raw)).numpy()
    assert np.allclose(found[:, :1], MinMaxScaler().fit_transform([[1], [2.5], [3], [2], [7]]))
    assert found[:, 1].tolist() == [0, 1, 0, 0, 0]


def test_a_gap_in_a_column_that_had_none_gets_the_median_too() -> None:
    features = Features.fit(np.array([[1.0], [2.0], [9.0]]), 1, [], True, "none")
    assert features(torch.tensor([[float("nan")]])).tolist() == [[2.0]]


def test_embedded_categories_pass_as_codes_and_unknown_is_all_zeros_of_onehot() -> None:
    raw = np.array([[0.5, 1, 2], [1.5, 2, 1]])
    unseen = torch.tensor([[0.5, 0.0, 0.0]])
    assert Features.fit(raw, 1, [3, 3], False, "none")(unseen).tolist() == [[0.5, 0, 0]]
    assert Features.fit(raw, 1, [3, 3], True, "none")(unseen).tolist() == [[0.5, 0, 0, 0, 0]]


@pytest.mark.parametrize("onehot", [True, False])
@pytest.mark.parametrize("scaling", KINDS)
def test_features_survive_a_checkpoint(scaling: str, onehot: bool, x: np.ndarray) -> None:
    raw = np.concatenate([x, 1 + np.arange(len(x))[:, None] % 4], 1)
    raw[::7, 1] = np.nan
    fitted = Features.fit(raw, 3, [5], onehot, scaling)  # type: ignore[arg-type]
    file = io.BytesIO()
    torch.save(fitted.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    again = Features.of_state(state, 3, [5], onehot, scaling)  # type: ignore[arg-type]
    given = torch.from_numpy(raw)
    assert torch.equal(again(given), fitted(given))
    assert fitted(given).isfinite().all()


@pytest.mark.parametrize("scaling", KINDS)
def test_each_row_is_scaled_by_itself(scaling: str, x: np.ndarray) -> None:
    scaler = fit_scaling(x, scaling)  # type: ignore[arg-type]
    given = torch.from_numpy(x)
    assert torch.equal(scaler(given)[:5], scaler(given[:5]))
