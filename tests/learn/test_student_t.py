"""Quantiles of Student's t: compared with published tables and with the closed form for integer degrees of freedom."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from tinymetafed.learn.student_t import coverage, quantile

# Two-sided 95 %, as printed in tables (for instance NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2).
TABLE = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228,
    11: 2.201, 12: 2.179, 13: 2.160, 14: 2.145, 15: 2.131, 16: 2.120, 17: 2.110, 18: 2.101, 19: 2.093, 20: 2.086,
    21: 2.080, 22: 2.074, 23: 2.069, 24: 2.064, 25: 2.060, 26: 2.056, 27: 2.052, 28: 2.048, 29: 2.045, 30: 2.042,
    40: 2.021, 50: 2.009, 60: 2.000, 80: 1.990, 100: 1.984, 120: 1.980, 200: 1.972,
}  # fmt: skip
OTHER_SHARES = {(0.99, 1): 63.657, (0.99, 10): 3.169, (0.9, 5): 2.015, (0.999, 30): 3.646, (0.5, 1): 1.0}


def closed_form(t: float, degrees: int) -> float:
    """P(|T| < t): Abramowitz and Stegun, 26.7.3 and 26.7.4, a finite sum of positive terms."""
    theta = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = 0.0 if degrees == 1 else term
    for k in range(2 + odd, degrees - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (theta + sine * total) if odd else sine * total


@pytest.mark.parametrize(("degrees", "t"), TABLE.items())
def test_95_percent_agrees_with_tables(degrees: int, t: float) -> None:
    assert round(quantile(0.95, degrees), 3) == t


@pytest.mark.parametrize(("asked", "t"), OTHER_SHARES.items())
def test_other_shares_agree_with_tables(asked: tuple[float, int], t: float) -> None:
    assert round(quantile(*asked), 3) == t


def test_every_number_of_degrees_agrees_with_the_closed_form() -> None:
    for degrees in (*range(1, 201), 999, 1_000, 20_001):
        t = quantile(0.95, degrees)
        assert closed_form(t, degrees) == pytest.approx(0.95, abs=1e-11), degrees
        for other in (0.01, 0.7, 3.0, 40.0):
            assert coverage(other, degrees) == pytest.approx(closed_form(other, degrees), abs=1e-10), (degrees, other)


def test_it_falls_with_the_degrees_towards_the_normal_quantile() -> None:
    quantiles = [quantile(0.95, degrees) for degrees in (*range(1, 201), 1_000, 99_999)]
    assert quantiles == sorted(quantiles, reverse=True) and len(set(quantiles)) == len(quantiles)
    assert quantiles[-1] == pytest.approx(NormalDist().inv_cdf(0.975), rel=2e-5)


@pytest.mark.parametrize(("share", "degrees"), [(0.95, 0), (0.0, 5), (1.0, 5), (float("nan"), 5)])
def test_arguments_out_of_range_are_refused(share: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="expected 0 < share < 1"):
        quantile(share, degrees)
