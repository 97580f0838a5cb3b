"""The interval of a mean over independent units: its coverage, its limits, and the same numbers every time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.learn import cluster_bootstrap, prng, student_t
from tinymetafed.learn.cluster_bootstrap import RESAMPLES, half_width

VALUES = st.lists(st.floats(0, 1), min_size=2, max_size=12)


def equal(n: int) -> list[float]:
    return [1 / n] * n


@settings(max_examples=15)
@given(VALUES, st.data())
def test_it_is_the_widened_percentile_interval_of_drawn_units(values: list[float], data: st.DataObject) -> None:
    """Against a plain loop over resamples and units."""
    n = len(values)
    weights = np.array(data.draw(st.lists(st.floats(0.1, 1), min_size=n, max_size=n)))
    shares = (weights / weights.sum()).tolist()
    words, _ = prng.threefry((0xB007, n), np.repeat(np.arange(RESAMPLES), n), np.tile(np.arange(n), RESAMPLES))
    estimates = []
    for resample in (words % n).reshape(RESAMPLES, n).tolist():
        total = sum(shares[i] for i in resample)
        estimates.append(sum(shares[i] * values[i] for i in resample) / total)
    mean = sum(share * value for share, value in zip(shares, values, strict=True))
    low, high = np.quantile(estimates, 0.025), np.quantile(estimates, 0.975)
    widening = student_t.quantile(0.95, n - 1) / 1.959963984540054 * math.sqrt(n / (n - 1))
    assert half_width(values, shares) == pytest.approx(widening * max(mean - low, high - mean, 0), abs=1e-12)


@settings(max_examples=30)
@given(VALUES, st.floats(-2, 2), st.floats(0.1, 4))
def test_it_scales_with_the_scores_and_is_the_same_again(values: list[float], shift: float, scale: float) -> None:
    width = half_width(values, equal(len(values)))
    assert width is not None and width == half_width(values, equal(len(values))) and width >= 0
    moved = half_width([shift + scale * value for value in values], equal(len(values)))
    assert moved == pytest.approx(scale * width, abs=1e-9)
    assert half_width([0.5] * len(values), equal(len(values))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n", [3, 6, 30])
def test_it_covers_the_mean_of_a_normal_distribution_in_95_of_100_cases(n: int) -> None:
    draws = np.random.default_rng(n).normal(size=(300, n))
    covered = [abs(float(row.mean())) <= (half_width(row.tolist(), equal(n)) or 0) for row in draws]
    assert 0.92 <= np.mean(covered) <= 0.985


def test_too_few_units_and_diverged_ones_have_none() -> None:
    assert half_width([0.5], equal(1)) is None and (half_width([0.5, 0.9], equal(2)) or 0) > 1
    assert half_width([0.5, math.nan, 0.6], equal(3)) is None
    assert half_width([0.5, math.inf, 0.6], equal(3)) is None


def test_of_very_many_units_the_mean_is_taken_as_normally_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(900).tolist()
    drawn = half_width(values, equal(900))
    monkeypatch.setattr(cluster_bootstrap, "_MOST_UNITS", 100)
    assert half_width(values, equal(900)) == pytest.approx(drawn, rel=0.06)
