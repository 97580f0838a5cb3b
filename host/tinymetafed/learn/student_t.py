"""Quantiles of Student's t distribution, for confidence intervals of means."""

from __future__ import annotations

import math
from functools import cache

_LEAST = 1e-300  # replaces a denominator of 0
_LIMIT = 100_000  # terms; about the square root of `degrees` are needed


@cache
def quantile(share: float, degrees: int) -> float:
    """The t for which |T| < t has the probability ``share``, where T has Student's distribution.

    Args:
        share: between 0 and 1, both excluded; 0.95 for a 95 % interval.
        degrees: of freedom, one less than there are values; 1 or more.

    Returns:
        t, correct to about 12 digits.

    Raises:
        ValueError: ``share`` or ``degrees`` is out of range.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.1.
    """
    if not 0 < share < 1 or degrees < 1:
        raise ValueError(f"share {share}, degrees of freedom {degrees}: expected 0 < share < 1 and at least 1 degree")
    low, high = 0.0, 1.0
    while coverage(high, degrees) < share:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if coverage(middle, degrees) < share else (low, middle)
    return high


def coverage(t: float, degrees: int) -> float:
    """The probability of |T| < ``t``, for ``t`` >= 0."""
    square = t * t
    return _incomplete_beta(square / (degrees + square), 0.5, degrees / 2)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), 0 <= x < 1.

    The continued fraction converges fast below the mean; above it I_x(a, b) = 1 - I_{1-x}(b, a) is used.
    Source: Press et al., Numerical Recipes, 6.4 (modified Lentz's method).
    """
    if x == 0:
        return 0.0
    factor = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return factor * _continued_fraction(x, a, b) / a
    return 1 - factor * _continued_fraction(1 - x, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, _LIMIT):
        before = result
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _nonzero(1 + numerator * d)
            c = _nonzero(1 + numerator / c)
            result *= c * d
        if abs(result - before) <= 1e-15 * abs(result):
            return result
    raise AssertionError(f"the continued fraction of I_{x}({a}, {b}) does not converge")


def _nonzero(value: float) -> float:
    return value if abs(value) > _LEAST else _LEAST
