"""Sums of int8 products brought to another scale, against exact integers and against doubles."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from core_harness import Core

from tinymetafed.projects.importing import fixed_point


def scaled(x: int, multiplier: int, shift: int) -> int:
    """gemmlowp's arithmetic: rounded to the nearest integer, then shifted; halves of the shift round away from 0."""
    product = (x << max(shift, 0)) * multiplier
    nudged = product + ((1 << 30) if product >= 0 else 1 - (1 << 30))
    high = nudged // (1 << 31) if nudged >= 0 else -(-nudged // (1 << 31))
    divisor = 1 << max(-shift, 0)
    rounded = (2 * abs(high) + divisor) // (2 * divisor)
    return rounded if high >= 0 else -rounded


def test_scaled_is_exact(core: Core) -> None:
    random = np.random.default_rng(1)
    x = np.concatenate([random.integers(-(1 << 30), 1 << 30, 3000), random.integers(-2000, 2000, 3000), [0, 1, -1, 3, -3]])
    multiplier = np.concatenate([random.integers(1 << 30, (1 << 31) - 1, 6000), [1 << 30] * 5])
    shift = np.concatenate([random.integers(-31, 1, 3000), random.integers(-12, 8, 3000), [0, 0, 0, -1, -1]])
    given = core.scaled(*(column.astype(np.int32) for column in (x, multiplier, shift)))
    assert given.tolist() == [scaled(*map(int, row)) for row in zip(x, multiplier, shift, strict=True)]


def test_a_factor_is_the_nearest_of_31_bits() -> None:
    for real in (1.0, 0.5, 0.999999999999, 0.00077, 3.25, 1e-9, 2.0**-31, 12345.678):
        multiplier, shift = fixed_point.factor(real)
        assert 1 << 30 <= multiplier < 1 << 31
        assert abs(Fraction(multiplier) * Fraction(2) ** (shift - 31) - Fraction(real)) <= Fraction(2) ** (shift - 32)
    assert fixed_point.factor(0.0) == (0, 0) and fixed_point.factor(1e-11) == (0, 0)


def test_double_product_is_that_of_doubles(core: Core) -> None:
    random = np.random.default_rng(2)
    reals = np.concatenate([10 ** random.uniform(-6, 2.9, 4000), 2.0 ** random.integers(-20, 9, 500), [1 / 3, 0.1, 1e-20]])
    rows, expected = [], []
    for real in reals:
        high, low, shift = fixed_point.parts(float(real))
        # Numbers near the half between two results, where a wrong rounding shows, and any others.
        near = int(np.clip((random.integers(-300, 300) + 0.5) / real, -(2**30), 2**30))
        for x in (near - 1, near, near + 1, int(random.integers(-(1 << 31), 1 << 31))):
            product = float(x) * float(real)
            rounded = math.floor(abs(product) + 0.5)
            if abs(product) + 0.5 > 1 << 20:
                rounded = 1 << 20  # far beyond int8
            rows.append((x, high, low - (1 << 32) if low >= 1 << 31 else low, shift))
            expected.append(int(math.copysign(rounded, product)) if rounded else 0)
    given = core.double_product(*np.array(rows, np.int64).astype(np.int32).T)
    assert given.tolist() == expected
