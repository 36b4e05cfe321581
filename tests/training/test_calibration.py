"""The temperature is the one with the least cross-entropy, and changes no class."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy, one_hot

from mlplab.models.ensemble import Calibrated, log_probabilities
from mlplab.training.calibration import COLDEST, HOTTEST, fit_temperature


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_it_is_the_minimum_of_the_smoothed_cross_entropy(n_outputs: int, sharpness: float) -> None:
    torch.manual_seed(n_outputs)
    logits = torch.randn(300, n_outputs).double()
    full = log_probabilities(logits)
    y = torch.multinomial(full.exp(), 1).squeeze(1)  # right at temperature 1
    found = fit_temperature(logits * sharpness, y)
    classes = full.shape[1]
    targets = (one_hot(y, classes) * 300 + 1) / (300 + classes)

    def loss(t: float) -> float:
        return float(cross_entropy(log_probabilities(logits * sharpness) / t, targets))

    best = minimize_scalar(loss, bounds=(COLDEST, HOTTEST), method="bounded", options={"xatol": 1e-9})
    assert found == pytest.approx(best.x, rel=1e-3)
    assert found == pytest.approx(sharpness, rel=0.35)


def test_rows_that_are_all_told_rightly_ask_for_no_certainty() -> None:
    logits = 4 * one_hot(torch.arange(30) % 3).double()
    found = fit_temperature(logits, torch.arange(30) % 3)
    sure = (logits / found).softmax(1).max(1).values
    torch.testing.assert_close(sure, torch.full((30,), 31 / 33).double(), rtol=1e-5, atol=0)


def test_it_changes_no_class_and_nothing_at_1() -> None:
    network, x = torch.nn.Linear(3, 4), torch.randn(20, 3)
    assert torch.equal(Calibrated(network, 1.0)(x), network(x))
    assert torch.equal(Calibrated(network, 2.5)(x).argmax(1), network(x).argmax(1))


def test_no_rows_or_no_numbers_leave_the_logits_alone() -> None:
    assert fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)) == 1.0
    assert fit_temperature(torch.full((2, 3), float("nan")), torch.zeros(2, dtype=torch.int64)) == 1.0
