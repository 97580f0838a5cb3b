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
_SAMPLE_TYPES = {"float32": Dtype.F32, "uint8": Dtype.U8}  # what a device takes samples in
_NUMPY_TYPES = {Dtype.F32: "<f4", Dtype.F16: "<f2", Dtype.I8: "i1", Dtype.U8: "u1"}


class Segment(Protocol):
    """Consecutive weights that share a wire type: first index, Dtype, scale of I8, little-endian bytes."""

    @property
    def offset(self) -> int: ...  # noqa: D102  # the class says it
    @property
    def dtype(self) -> int: ...  # noqa: D102
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


def load_chunk(segments: Sequence[Segment], round: int, position: int, window: int) -> tuple[protocol.Load, int]:
    """The Load from weight ``position`` on, with as many weights of its segment as fit; and the position after it."""
    index = bisect_right(segments, position, key=lambda segment: segment.offset) - 1
    segment = segments[index]
    size = Dtype(segment.dtype).width
    first = (position - segment.offset) * size
    if index < 0 or not 0 <= first < len(segment.data):
        raise ValueError(f"no segment holds weight {position}")
    data = segment.data[first : first + load_bytes(size, window)]
    return protocol.Load(round, position, segment.dtype, segment.scale, data), position + len(data) // size


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
    """Wire type and little-endian bytes of a sample's ``inputs``. Raises ValueError for a type that no device takes."""
    dtype = _SAMPLE_TYPES.get(inputs.dtype.name)
    if dtype is None:
        raise ValueError(
            f"inputs of type {inputs.dtype.name}, expected float32, or uint8 with a scale; convert them, for instance with "
            ".astype(numpy.float32)"
        )
    return dtype, np.ascontiguousarray(inputs, dtype=_NUMPY_TYPES[dtype]).tobytes()


def checked_length(segments: Sequence[Segment]) -> int:
    """Weights in all ``segments``. Raises ValueError unless they follow each other from 0 on, whole and finite."""
    position = 0
    for segment in segments:
        dtype = Dtype(segment.dtype)
        if segment.offset != position:
            raise ValueError(f"a segment of weights starts at {segment.offset}, expected {position}")
        if len(segment.data) % dtype.width:
            raise ValueError(f"the segment at weight {position} has {len(segment.data)} bytes, not whole {dtype.name} values")
        values = np.frombuffer(segment.data, _NUMPY_TYPES[dtype])
        if not (np.isfinite(values).all() and np.isfinite(segment.scale)):
            raise ValueError(f"weights from {position} on hold NaN or infinity; training has diverged")
        position += len(values)
    return position
