"""Student's t against scipy's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtr, stdtrit

from mlplab.reports.student import critical, two_sided


@given(st.floats(-1e3, 1e3), st.integers(1, 1000))
def test_probabilities_are_those_of_scipy(t: float, df: int) -> None:
    assert two_sided(t, df) == pytest.approx(2 * stdtr(df, -abs(t)), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("df", [1, 2, 4, 9, 49, 999])
def test_critical_values_are_those_of_scipy(df: int) -> None:
    assert critical(df) == pytest.approx(stdtrit(df, 0.975), rel=1e-9)
    assert two_sided(critical(df), df) == pytest.approx(0.05, rel=1e-12)
    assert two_sided(0.0, df) == 1
