"""Layers over int8 in plain NumPy, written from the published arithmetic: Jacob et al. (arXiv 1712.05877) and gemmlowp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def scaled(x: Array, multiplier: Any, shift: Any) -> Array:
    """x * multiplier / 2^31 * 2^shift: a product rounded to an integer, then a shift that rounds halves away from 0."""
    x, multiplier, shift = (np.asarray(each, np.int64) for each in (x, multiplier, shift))
    product = x * 2 ** np.maximum(shift, 0) * multiplier
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.sign(product + nudge) * (np.abs(product + nudge) // (1 << 31))  # division towards zero
    divisor = 2 ** np.maximum(-shift, 0)
    return np.sign(high) * ((2 * np.abs(high) + divisor) // (2 * divisor))


def away_from_zero(values: Array) -> Array:
    """The nearest integers; halves away from 0."""
    return np.sign(values) * np.floor(np.abs(values) + 0.5)


def clamped(op: Any, values: Array) -> Array:
    low, high = getattr(op, "limits", (-128, 127))
    return np.clip(values + op.zero_point, low, high).astype(np.int64)


def padded(op: Any, x: Array, fill: int) -> Array:
    """The image with the margins that windows read."""
    return np.pad(x, (op.rows.margins, op.columns.margins, (0, 0)), constant_values=fill)


def windows(op: Any, x: Array) -> Array:
    """[rows, columns, kernel rows, kernel columns, channels] of a padded image."""
    rows, columns = op.rows, op.columns
    return np.stack([
        np.stack([
            x[i * rows.stride : i * rows.stride + rows.size, j * columns.stride : j * columns.stride + columns.size]
            for j in range(columns.outputs)
        ])
        for i in range(rows.outputs)
    ])  # fmt: skip


def quantize(op: Any, x: Array) -> Array:
    with np.errstate(over="ignore"):  # infinity is clamped
        return clamped(op, away_from_zero(x.astype(np.float32) / np.float32(op.scale)))


def dequantize(op: Any, x: Array) -> Array:
    return (np.float32(op.scale) * (x - op.input_zero_points[0]).astype(np.float32)).astype(np.float64)


def conv2d_int8(op: Any, x: Array, kernel: Array, bias: Array, multiplier: Array, shift: Array) -> Array:
    seen = windows(op, padded(op, x - op.input_zero_points[0], 0))
    return clamped(op, scaled(np.einsum("ijrsc,frsc->ijf", seen, kernel) + bias, multiplier, shift))


def depthwise_conv2d_int8(op: Any, x: Array, kernel: Array, bias: Array, multiplier: Array, shift: Array) -> Array:
    repeated = np.repeat(x - op.input_zero_points[0], kernel.shape[-1] // x.shape[-1], axis=-1)
    seen = windows(op, padded(op, repeated, 0))
    return clamped(op, scaled(np.einsum("ijrso,rso->ijo", seen, kernel) + bias, multiplier, shift))


def dense_int8(op: Any, x: Array, kernel: Array, bias: Array, high: Array, low: Array, shift: Array) -> Array:
    scale = (high * 2.0**32 + low % 2**32) * 2.0**-shift
    sums = kernel @ (x - op.input_zero_points[0]) + bias
    return clamped(op, away_from_zero(sums.astype(np.float64) * scale))


def add_int8(op: Any, x: Array, other: Array) -> Array:
    (first, second), factors = op.input_zero_points, op.factors
    total = scaled((x - first) << 20, *factors[0]) + scaled((other - second) << 20, *factors[1])
    return clamped(op, scaled(total, *factors[2]))


def max_pool_int8(op: Any, x: Array) -> Array:
    return np.clip(windows(op, padded(op, x, -128)).max((2, 3)), *op.limits)


def avg_pool_int8(op: Any, x: Array) -> Array:
    total = windows(op, padded(op, x, 0)).sum((2, 3))
    count = windows(op, padded(op, np.ones_like(x), 0)).sum((2, 3))
    return np.clip(np.sign(total) * ((2 * np.abs(total) + count) // (2 * count)), *op.limits)


def mean_int8(op: Any, x: Array) -> Array:
    total = (x - op.input_zero_points[0]).reshape(-1, x.shape[-1]).sum(0)
    return clamped(op, scaled(total, *op.factor))


def requantize(op: Any, x: Array) -> Array:
    return clamped(op, scaled(x - op.input_zero_points[0], *op.factor))


def pad_int8(op: Any, x: Array) -> Array:
    return np.pad(x, (*op.margins, (0, 0)), constant_values=op.zero_point)


OPS: dict[str, Callable[..., Array]] = {
    f.__name__: f
    for f in (
        quantize, dequantize, conv2d_int8, depthwise_conv2d_int8, dense_int8, add_int8, max_pool_int8, avg_pool_int8, mean_int8,
        requantize, pad_int8,
    )
}  # fmt: skip


def constants(op: Any, random: np.random.Generator) -> dict[str, Array]:
    """Random constants of a layer: its outputs neither vanish nor are all clamped."""
    terms = int(np.prod(op.input_shape)) if op.kind == "dense_int8" else op.parameters[0].fan_in
    found: dict[str, Array] = {}
    for parameter in op.parameters:
        low, high = {
            "kernel": (-128, 128),
            "bias": (-2000, 2001),
            "multiplier": (1 << 30, (1 << 31) - 1),
            "scale_high": (1 << 20, 1 << 21),
            "scale_low": (-(1 << 31), 1 << 31),
            "shift": _shifts(op.kind, terms),
        }[parameter.name]
        found[parameter.name] = random.integers(low, high, parameter.shape).astype(parameter.dtype)
    return found


def _shifts(kind: str, terms: int) -> tuple[int, int]:
    places = 6 + int(np.log2(terms) / 2)  # a sum of random products has about 2^(places + 6)
    return (53 + places, 55 + places) if kind == "dense_int8" else (-places - 1, 2 - places)
