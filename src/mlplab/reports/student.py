"""Student's t distribution, without the third of a second that importing scipy.special takes."""

from __future__ import annotations

import math
from functools import cache


def two_sided(t: float, df: int) -> float:
    """Probability of |T| >= |t|: the incomplete beta function at df / (df + t^2)."""
    return _incomplete_beta(df / 2, 0.5, df / (df + t * t), t * t / (df + t * t))


@cache
def critical(df: int, level: float = 0.05) -> float:
    """The t that |T| exceeds with probability `level`; by bisection, to the last bit."""
    low, high = 0.0, 1.0
    while two_sided(high, df) > level:
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if two_sided(middle, df) > level else (low, middle)
    return middle


def _incomplete_beta(a: float, b: float, x: float, y: float) -> float:
    """Regularized, by its continued fraction (Press et al. 2007, 6.4); y is 1 - x without its rounding."""
    if x <= 0 or y <= 0:
        return float(x > 0)
    log = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(y)
    if x < (a + 1) / (a + b + 2):
        return math.exp(log) * _fraction(a, b, x) / a
    return 1 - math.exp(log) * _fraction(b, a, y) / b


def _fraction(a: float, b: float, x: float) -> float:
    """Lentz's method."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            found *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return found
