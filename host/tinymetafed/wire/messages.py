"""Weights and samples as messages: how values become bytes, how many fit a message, and which values are refused."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen import protocol
from tinymetafed_codegen.optional_messages.level_messages import LoadLevels
from tinymetafed_codegen.optional_messages.part_messages import SamplePart
from tinymetafed_codegen.optional_messages.secure_messages import Masked
from tinymetafed_codegen.protocol import Dtype

from .frame import encode

FloatArray = npt.NDArray[np.float32]
ArrayLike = npt.NDArray[Any]

_LONGEST_RUN = 254  # most bytes without a zero that one COBS code covers
_INPUT_TYPES = {np.dtype(dtype.layout): dtype for dtype in protocol.INPUT_DTYPES}


class Segment(Protocol):
    """Consecutive weights of one dtype: index of the first, Dtype, scale (I8 only), little-endian bytes."""

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
    """One streamed sample: ``targets`` float32; ``inputs`` float32, or uint8 whose values are multiplied by ``scale``."""

    targets: ArrayLike
    inputs: ArrayLike
    scale: float = 1.0


def tail_capacity(record: type[protocol.Record], window: int, mac_bytes: int = 0) -> int:
    """Largest variable-length tail of ``record``, in bytes, that fits a receive window of ``window`` bytes.

    ``mac_bytes`` are those of the MAC behind each payload of an authenticated session; 0 without one.
    """
    return protocol.payload_capacity(window) - mac_bytes - record.fixed_size()


def load_chunk(
    segments: Sequence[Segment], token: int, position: int, window: int, mac_bytes: int = 0
) -> tuple[protocol.Load, int]:
    """The Load message that starts at weight ``position``.

    Args:
        segments: All segments, in order.
        token: Token of the device's cycle.
        position: Index of the first weight to send.
        window: The device's receive window in bytes.
        mac_bytes: As for ``tail_capacity``.

    Returns:
        The message, with as many weights of one segment as fit, and the index of the weight after them.

    Raises:
        ValueError: No segment holds the weight.
    """
    index = bisect_right(segments, position, key=lambda segment: segment.offset) - 1
    segment = segments[index]
    size = segment.dtype.width
    first = (position - segment.offset) * size
    if index < 0 or not 0 <= first < len(segment.data):
        raise ValueError(f"no segment holds weight {position}")
    data = segment.data[first : first + load_bytes(size, window, mac_bytes)]
    return protocol.Load(token, position, segment.dtype, segment.scale, data), position + len(data) // size


def load_bytes(width: int, window: int, mac_bytes: int = 0) -> int:
    """Bytes of weights in one Load message: whole weights of ``width`` bytes, for a receive window of ``window`` bytes."""
    return tail_capacity(protocol.Load, window // loads_at_once(mac_bytes), mac_bytes) // width * width


def weights_payload(window: int, mac_bytes: int = 0) -> int:
    """Most bytes of a message that brings weights, for a receive window of ``window`` bytes."""
    return protocol.payload_capacity(window // loads_at_once(mac_bytes)) - mac_bytes


def loads_at_once(mac_bytes: int) -> int:
    """Messages with weights that share a receive window: the line carries one while the device answers the other.

    Every MAC, and that of the answer, takes the board a block of its hash: with them weights travel in as few frames as fit.
    """
    return 1 if mac_bytes else 2


def loads_on_wire(segments: Sequence[Segment], window: int, mac_bytes: int = 0) -> tuple[int, int]:
    """The Load messages of all weights: how many, and their bytes on the line, each sent once.

    MACs and CRCs are assumed to contain no zero.
    """
    count = size = 0
    for segment in segments:
        fields = _load_fields(segment.dtype, segment.scale)
        step = load_bytes(segment.dtype.width, window, mac_bytes)
        parts = [segment.data[at : at + step] for at in range(0, len(segment.data), step)]
        count += len(parts)
        size += len(segment.data) + len(parts) * fixed_on_wire(protocol.Load, mac_bytes)
        size += _added_by_cobs([fields + part for part in parts], mac_bytes)
    return count, size


def levels_on_wire(messages: Sequence[LoadLevels], mac_bytes: int = 0) -> tuple[int, int]:
    """As ``loads_on_wire``, of messages that bring weights as levels."""
    sizes = [
        bytes_on_wire(LoadLevels, each.pack()[LoadLevels.place("count") :], len(each.data), mac_bytes) for each in messages
    ]
    return len(sizes), sum(sizes)


def bytes_on_wire(message: type[protocol.Record], known: bytes, tail: int, mac_bytes: int = 0) -> int:
    """Bytes of a message on the line. MAC and CRC are assumed to contain no zero.

    Args:
        message: Its type.
        known: The end of its payload, behind the last byte that is 0 whatever its numbers are.
        tail: Bytes of its last field, if that takes all remaining bytes; 0 otherwise.
        mac_bytes: As for ``tail_capacity``.
    """
    return fixed_on_wire(message, mac_bytes) + tail + _added_by_cobs([known], mac_bytes)


def _added_by_cobs(messages: Sequence[bytes], mac_bytes: int) -> int:
    """Bytes that COBS adds to messages for their runs without a zero: one for every 254, but for the last 254 of a frame.

    Runs are counted over fields, data, MAC and CRC, of which ``messages`` lack MAC and CRC.
    """
    after = b"\1" * (mac_bytes + protocol.FRAME_CRC_BYTES - 1)
    runs = (after + b"\0").join([*messages, b""]).split(b"\0")
    return sum([len(run) // _LONGEST_RUN for run in runs if len(run) >= _LONGEST_RUN])


@lru_cache(maxsize=64)  # of float32 and float16 there is one, of int8 one per tensor
def _load_fields(dtype: Dtype, scale: float) -> bytes:
    """The fields of a Load message from its dtype on, as they stand before the weights."""
    head = protocol.Load(0, 0, dtype, scale, b"").pack()
    return head[protocol.Load.place("dtype") :]


def fixed_on_wire(message: type[protocol.Record], mac_bytes: int) -> int:
    """Bytes of a message on the line without its tail; for so few bytes COBS adds the same to any content."""
    return _framed(message.fixed_size() + mac_bytes)


@cache
def _framed(payload: int) -> int:
    return len(encode(1, 1, b"\1" * payload))


def masked_entries(window: int, mac_bytes: int = 0) -> int:
    """Most entries of an update with secure aggregation in one message, for a receive window of ``window`` bytes."""
    return tail_capacity(Masked, window, mac_bytes) // 2


def predict_batch(input_bytes: int, output_size: int, window: int, mac_bytes: int = 0) -> int:
    """Number of inputs per Predict message.

    Args:
        input_bytes: Bytes of one input.
        output_size: Outputs (float32) per input.
        window: The device's receive window in bytes.
        mac_bytes: As for ``tail_capacity``.

    Returns:
        The most inputs for which both the request and its answer fit the window; 0 if not even one does.
    """
    return min(
        tail_capacity(protocol.Predict, window, mac_bytes) // input_bytes,
        tail_capacity(protocol.Outputs, window, mac_bytes) // (4 * output_size),
    )


def encode_inputs(inputs: ArrayLike) -> tuple[Dtype, bytes]:
    """Dtype and little-endian bytes of ``inputs``. Raises ValueError for a dtype that devices do not accept."""
    dtype = _INPUT_TYPES.get(inputs.dtype.newbyteorder("<"))
    if dtype is None:
        expected = " or ".join(known.name for known in _INPUT_TYPES)
        raise ValueError(f"inputs of type {inputs.dtype.name}: a device takes {expected}; convert them")
    return dtype, np.ascontiguousarray(inputs, dtype=dtype.layout).tobytes()


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """One sample as it travels: the dtype of its inputs, their scale, and its bytes, the targets first."""

    dtype: Dtype
    scale: float
    data: bytes

    def whole(self, token: int, step: int) -> protocol.Sample:
        """All of it in one message."""
        return protocol.Sample(token, step, self.dtype, self.scale, self.data)

    def part(self, token: int, position: int, size: int) -> SamplePart:
        """Its part of at most ``size`` bytes from byte ``position`` of all samples on, which have as many bytes each."""
        at = position % len(self.data)
        return SamplePart(token, position, self.dtype, self.scale, self.data[at : at + size])


def encode_sample(example: Example, what: str) -> EncodedSample:
    """A sample as bytes.

    Args:
        example: The sample.
        what: Its name in errors.

    Raises:
        ValueError: It holds NaN or infinity, or its inputs have a dtype that devices do not accept.
    """
    targets = np.ascontiguousarray(example.targets, dtype="<f4")
    dtype, data = encode_inputs(example.inputs)
    for part, values in (("target", targets), ("input", example.inputs), ("scale", np.float32(example.scale))):
        if not np.isfinite(values).all():
            raise ValueError(f"{what}: its {part} is NaN or infinite; clean the data")
    return EncodedSample(dtype, example.scale, targets.tobytes() + data)


def checked_length(segments: Sequence[Segment]) -> int:
    """Number of weights in all ``segments``.

    Raises:
        ValueError: The segments leave a gap, hold part of a value, or hold NaN or infinity.
    """
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
