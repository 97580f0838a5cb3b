"""The core's elementary functions against double precision, and their bits against those recorded for every machine."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt
import pytest
from core_harness import Core

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def between(low: float, high: float) -> Floats:
    """Evenly spaced numbers, and magnitudes of every binary order."""
    even = np.linspace(low, high, 60_001)
    orders = np.logspace(-30, np.log10(min(-low, high)), 10_000)
    return np.concatenate([even, orders, -orders]).astype(np.float32)


def ulps(got: Floats, exact: Doubles) -> Doubles:
    """Errors in units of the last place of the exact result."""
    return np.abs(got.astype(np.float64) - exact) / np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)


def test_exp_is_within_0_88_ulp(core: Core) -> None:
    x = between(-87, 88.72)
    assert ulps(core.exp(x), np.exp(x.astype(np.float64))).max() < 0.88


def test_exp_underflows_gradually(core: Core) -> None:
    x = np.linspace(-103.9, -87, 5001).astype(np.float32)
    assert np.abs(core.exp(x).astype(np.float64) - np.exp(x.astype(np.float64))).max() < 2.0**-149


@pytest.mark.parametrize(
    ("x", "want"),
    [(0, 1), (-0.0, 1), (88.73, np.inf), (1e30, np.inf), (np.inf, np.inf), (-104.1, 0), (-3e38, 0), (-np.inf, 0)],
)
def test_exp_at_the_extremes(core: Core, x: float, want: float) -> None:
    assert core.exp(np.array([x], dtype=np.float32))[0] == want


def test_nan_stays_nan(core: Core) -> None:
    nan = np.array([np.nan], dtype=np.float32)
    for function in (core.exp, core.sin, core.tanh, core.sqrt, core.expm1, core.log1p, core.erf):
        assert np.isnan(function(nan)).all()


def test_sin_is_within_1_8_ulp_and_8e_8(core: Core) -> None:
    near_roots = (np.arange(-5, 6) * np.pi)[:, None] + np.linspace(-1e-3, 1e-3, 2001)
    x = np.concatenate([between(-16, 16), near_roots.ravel().astype(np.float32)])
    exact = np.sin(x.astype(np.float64))
    assert ulps(core.sin(x), exact).max() < 1.8
    assert np.abs(core.sin(x) - exact).max() < 8.2e-8


def test_sin_is_odd(core: Core) -> None:
    x = between(-16, 16)
    x = x[x != 0]  # zero gives +0 for either sign
    assert np.array_equal(core.sin(-x).view(np.uint32), (-core.sin(x)).view(np.uint32))


def test_tanh_is_within_1_7_ulp_and_odd(core: Core) -> None:
    x = between(-10, 10)
    assert ulps(core.tanh(x), np.tanh(x.astype(np.float64))).max() < 1.7
    assert np.array_equal(core.tanh(-x), -core.tanh(x))
    assert list(core.tanh(np.array([0, 20, -20, np.inf, -np.inf], np.float32))) == [0, 1, -1, 1, -1]


def test_sqrt_is_within_1_ulp(core: Core) -> None:
    x = np.concatenate([np.logspace(-37.9, 38.5, 20_001), np.linspace(0.25, 4, 20_001)]).astype(np.float32)
    assert ulps(core.sqrt(x), np.sqrt(x.astype(np.float64))).max() < 1
    assert list(core.sqrt(np.array([0, 1e-39, 1, 4, np.inf], np.float32))) == [0, 0, 1, 2, np.inf]


def test_expm1_is_within_3_2_ulp(core: Core) -> None:
    x = between(-20, 20)
    assert ulps(core.expm1(x), np.expm1(x.astype(np.float64))).max() < 3.2
    assert list(core.expm1(np.array([0, -200, -np.inf, np.inf], np.float32))) == [0, -1, -1, np.inf]


def test_log1p_is_within_2_ulp_from_0_to_1(core: Core) -> None:
    x = np.concatenate([np.linspace(0, 1, 60_001), np.logspace(-30, 0, 10_000)]).astype(np.float32)
    assert ulps(core.log1p(x), np.log1p(x.astype(np.float64))).max() < 2


def test_log2_is_within_3_1e_7_and_half_an_ulp(core: Core) -> None:
    x = np.concatenate([np.logspace(-37.9, 38.5, 40_001), np.linspace(0.5, 2, 60_001)]).astype(np.float32)
    exact = np.log2(x.astype(np.float64))
    assert (np.abs(core.log2(x) - exact) - np.spacing(np.abs(exact).astype(np.float32)) / 2).max() < 3.1e-7
    assert list(core.log2(np.array([1, 2, 0.5, 2.0**-126, 2.0**127], np.float32))) == [0, 1, -1, -126, 127]


def test_erf_is_within_2_ulp_and_odd(core: Core) -> None:
    x = between(-5, 5)
    exact = np.array([math.erf(each) for each in x.tolist()])
    assert ulps(core.erf(x), exact).max() < 2
    assert np.array_equal(core.erf(-x), -core.erf(x))
    assert list(core.erf(np.array([0, 4, -4, 1e30, np.inf, -np.inf], np.float32))) == [0, 1, -1, 1, 1, -1]


def test_bits_equal_those_recorded_for_every_machine(core: Core) -> None:
    # Recorded on x86-64 and equal on a Cortex-M4F; a change here changes every trained weight.
    steps = np.arange(-208 * 64, 178 * 64, dtype=np.float32) * np.float32(1 / 128)
    angles = np.arange(-(1 << 13), 1 << 13, dtype=np.float32) * np.float32(1 / 512)
    digest = hashlib.sha256(core.exp(steps).tobytes() + core.sin(angles).tobytes()).hexdigest()
    assert digest[:16] == "773acee29c7bb89d"
    digest = hashlib.sha256(core.tanh(angles).tobytes() + core.sqrt(np.abs(angles)).tobytes()).hexdigest()
    assert digest[:16] == "96e626df462b8d96"
    halves = np.abs(angles[(angles >= -1) & (angles <= 1)])
    digest = hashlib.sha256(
        core.expm1(angles).tobytes() + core.log1p(halves).tobytes() + core.erf(angles).tobytes()
    ).hexdigest()
    assert digest[:16] == "aae04599df6caac3"
