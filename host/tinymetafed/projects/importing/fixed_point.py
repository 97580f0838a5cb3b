"""Scales as integers: how TensorFlow Lite turns a factor between scales into a multiplier and a shift."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Factor = tuple[int, int]  # multiplier and shift: multiplier / 2^31 * 2^shift
_MORE_BITS = 20  # that a sum of two tensors has


@dataclass(frozen=True)
class Scale:
    """How int8 numbers stand for others: ``scale`` * (q - ``zero_point``)."""

    scale: float
    zero_point: int

    def limits(self, activation: str) -> tuple[int, int]:
        """The lowest and the highest int8 number that an activation gives: "", "relu" or "relu6"."""
        low = max(-128, self.zero_point) if activation else -128
        high = min(127, self.zero_point + half_away(np.float32(6) / np.float32(self.scale))) if activation == "relu6" else 127
        return low, high


def half_away(value: float | np.floating) -> int:
    """The nearest integer of a number >= 0; halves are rounded up."""
    return math.floor(float(value) + 0.5)


def factor(real: float) -> Factor:
    """The multiplier and the shift of a number >= 0.

    Source: QuantizeMultiplier in TensorFlow Lite; Jacob et al., arXiv 1712.05877, section 2.2.
    """
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = half_away(fraction * (1 << 31))
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def parts(real: float) -> tuple[int, int, int]:
    """A positive double below 1024 as (high, low, shift): (high * 2^32 + low) / 2^shift."""
    fraction, exponent = math.frexp(real)
    significand = int(fraction * (1 << 53))
    return significand >> 32, significand & 0xFFFFFFFF, 53 - exponent


def factors_of_sum(first: Scale, second: Scale, output: Scale) -> tuple[Factor, Factor, Factor]:
    """The factors of two tensors and of their sum."""
    twice = 2 * max(first.scale, second.scale)
    return factor(first.scale / twice), factor(second.scale / twice), factor(twice / ((1 << _MORE_BITS) * output.scale))


def factor_of_mean(source: Scale, output: Scale, pixels: int) -> Factor:
    """The factor of a sum over ``pixels`` numbers that makes it their mean."""
    multiplier, shift = factor(source.scale / output.scale)
    places = min(pixels.bit_length() - 1, 32, 31 + shift)
    return (multiplier << places) // pixels, shift - places
