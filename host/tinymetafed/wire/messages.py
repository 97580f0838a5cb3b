"""Weights and samples as messages: what fits where, how values become bytes, and what never leaves the host."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import Dtype

FloatArray = npt.NDArray[np.float32]
ArrayLike = npt.NDArray[Any]

LOAD_CHUNKS = 2  # at once in the window: while one is being answered the line carries the other
_INPUT_TYPES = {np.dtype(dtype.layout): dtype for dtype in protocol.INPUT_DTYPES}


class Segment(Protocol):
    """Consecutive weights that share a wire type: first index, Dtype, scale of I8, little-endian bytes."""

    @property
    def offset(self) -> int: ...  # noqa: D102  # the class says it
    @property
    def dtype(self) -> Dtype: ...  # noqa: D102
    @property
    def scale(self) -> float: ...  # noqa: D102
    @property
    def data(self) -> bytes: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Example:
    """One streamed sample: float32 ``targets``; ``inputs`` float32, or uint8 that count ``scale``."""

    targets: ArrayLike
    inputs: ArrayLike
    scale: float = 1.0


def tail_capacity(record: type[protocol.Record], window: int) -> int:
    """Largest tail of ``record`` that fits a receive window of ``window`` bytes."""
    return protocol.payload_capacity(window) - record.fixed_size()


def load_chunk(segments: Sequence[Segment], token: int, position: int, window: int) -> tuple[protocol.Load, int]:
    """The Load from weight ``position`` on, with as many weights of its segment as fit; and the position after it."""
    index = bisect_right(segments, position, key=lambda segment: segment.offset) - 1
    segment = segments[index]
    size = segment.dtype.width
    first = (position - segment.offset) * size
    if index < 0 or not 0 <= first < len(segment.data):
        raise ValueError(f"no segment holds weight {position}")
    data = segment.data[first : first + load_bytes(size, window)]
    return protocol.Load(token, position, segment.dtype, segment.scale, data), position + len(data) // size


def load_bytes(width: int, window: int) -> int:
    """Bytes of weights, ``width`` each, that one Load brings."""
    return tail_capacity(protocol.Load, window // LOAD_CHUNKS) // width * width


def predict_batch(input_bytes: int, output_size: int, window: int) -> int:
    """Whole inputs per Predict, so that both it and its answer fit ``window``; 0: not even one does."""
    return min(
        tail_capacity(protocol.Predict, window) // input_bytes,
        tail_capacity(protocol.Outputs, window) // (4 * output_size),
    )


def levels(inputs: ArrayLike) -> tuple[Dtype, bytes]:
    """Wire type and little-endian bytes of ``inputs``. Raises ValueError for a type that does not travel."""
    dtype = _INPUT_TYPES.get(inputs.dtype.newbyteorder("<"))
    if dtype is None:
        expected = " or ".join(known.name for known in _INPUT_TYPES)
        raise ValueError(f"inputs of type {inputs.dtype.name}: a device takes {expected}; convert them")
    return dtype, np.ascontiguousarray(inputs, dtype=dtype.layout).tobytes()


def checked_length(segments: Sequence[Segment]) -> int:
    """Weights in all ``segments``. Raises ValueError unless they follow each other from 0 on, whole and finite."""
    position = 0
    for segment in segments:
        dtype = segment.dtype
        if segment.offset != position:
            raise ValueError(f"a segment of weights starts at {segment.offset}, expected {position}")
        if len(segment.data) % dtype.width:
            raise ValueError(f"the segment at weight {position} has {len(segment.data)} bytes, not whole {dtype.name} values")
        values = np.frombuffer(segment.data, dtype.layout)
        if not (np.isfinite(values).all() and np.isfinite(segment.scale)):
            raise ValueError(f"weights from {position} on hold NaN or infinity; training has diverged")
        position += len(values)
    return position
