"""Weights sent to a device: float32, float16, or int8 with one scale per tensor; decoding gives the device's copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.messages.level_format import LevelFormat
from tinymetafed_codegen.protocol import Dtype

from .delta import SMALLEST_NORMAL, WIRE_TYPES, quantise

Weights = npt.NDArray[np.float32]

_BYTE = 8
_PARTS = 16  # scales are compared in parts of the largest one
_STEPS = 1 << 20  # in which errors are counted, of the largest weight


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive weights of one dtype, from index ``offset`` on; messages may split it between any two weights."""

    offset: int
    dtype: Dtype
    scale: float  # I8 only, else 0
    data: bytes
    levels: LevelFormat | None = None  # how int8 travels in messages of its own, which hold weights of several tensors


def encode(weights: Weights, dtype: Dtype, tensors: Sequence[int], levels: LevelFormat | None = None) -> list[Segment]:
    """Encodes weights.

    Args:
        weights: float32[n].
        dtype: F32, F16 or I8.
        tensors: Sizes of the tensors, n in all.
        levels: The format of I8 that travels as levels; None for bytes.

    Returns:
        One segment per tensor for I8, a single one otherwise.

    Raises:
        ValueError: Another dtype, or a weight that is not finite or beyond float16; the text gives the tensor's number.
    """
    if dtype not in WIRE_TYPES:
        raise ValueError(f"dtype {dtype!r}: weights travel as F32, F16 or I8")
    if sum(tensors) != weights.size:
        raise ValueError(f"tensors {list(tensors)} hold {sum(tensors)} weights, expected {weights.size}")
    with np.errstate(over="ignore"):
        wire = weights.astype(WIRE_TYPES[Dtype.F32 if dtype == Dtype.I8 else dtype])
    finite = bool(np.isfinite(wire).all())
    if dtype != Dtype.I8 and finite:
        return [Segment(0, dtype, 0.0, wire.tobytes())] if weights.size else []
    bounds = list(pairwise(accumulate(tensors, initial=0)))
    if not finite:
        at = int(np.flatnonzero(~np.isfinite(wire))[0])
        tensor = next(i for i, (start, end) in enumerate(bounds) if start <= at < end)
        fault = "does not fit float16, which ends at 65504" if np.isfinite(weights[at]) else "is not finite"
        raise ValueError(f"tensor {tensor}: its weight {at - bounds[tensor][0]}, {float(weights[at])!r}, {fault}")
    segments = []
    for start, end in bounds:
        scale, quantised = quantise(weights[start:end]) if levels is None else clipped(weights[start:end], levels)
        segments.append(Segment(start, dtype, scale, quantised.tobytes(), levels))
    return segments


def clipped(weights: Weights, levels: LevelFormat) -> tuple[float, npt.NDArray[np.int8]]:
    """Quantises the weights of a tensor, of which the largest may be clipped.

    Args:
        weights: The tensor's weights, finite.
        levels: The format of the levels.

    Returns:
        The scale and the levels of the least squared error, for scales of max|w| / largest times 1, 15/16 and so on. Errors are
        counted in whole steps, so that every machine finds the same scale. Levels of 8 bits are not clipped.
    """
    most = np.abs(weights).max(initial=np.float32(0))
    found = quantise(weights, levels.largest)
    if levels.bits == _BYTE or found[0] == 0:
        return found
    exact = np.rint(weights.astype(np.float64) / float(most) * _STEPS).astype(np.int64)
    least = None
    for part in range(_PARTS, _PARTS // 4, -1):
        scale = most / np.float32(levels.largest) * np.float32(part / _PARTS)
        if scale < SMALLEST_NORMAL:
            break
        sent = np.rint(weights / scale).clip(-levels.largest, levels.largest)
        missed = exact - np.rint(sent.astype(np.float64) * (part * _STEPS / (levels.largest * _PARTS))).astype(np.int64)
        error = int((missed * missed).sum())
        if least is None or error < least:
            least, found = error, (float(scale), sent.astype(np.int8))
    return found


def decode(segments: Sequence[Segment], n: int) -> Weights:
    """The weights float32[n] as the device will hold them. Raises ValueError unless the segments cover 0..n-1 in order."""
    parts = []
    offset = 0
    for segment in segments:
        if segment.offset != offset:
            raise ValueError(f"segment at weight {segment.offset}: expected {offset}")
        part = np.frombuffer(segment.data, dtype=WIRE_TYPES[segment.dtype]).astype(np.float32)
        if segment.dtype == Dtype.I8:
            part *= np.float32(segment.scale)
        parts.append(part)
        offset += part.size
    if offset != n:
        raise ValueError(f"segments hold {offset} weights, expected {n}")
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
