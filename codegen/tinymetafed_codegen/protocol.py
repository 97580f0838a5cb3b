"""THE wire table: every message, limit, code and random stream, written once; C++ is rendered from it.

The host asks, the device answers. A frame is COBS(type u8, sequence u8, payload, CRC-32) ended by 0x00; payloads are
little-endian. An answer carries its request's sequence and the request's type with bit 7 set, or ``ERROR_TYPE``.
Adding a field here changes ``schema_hash()``, and host and firmware of different schemas refuse each other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import typing
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Annotated, Any, ClassVar, Self

PROTOCOL_VERSION = 1
ANSWER_BIT = 0x80
ERROR_TYPE = 0xFF
FRAME_HEADER_BYTES = 2  # type, sequence
FRAME_CRC_BYTES = 4
MIN_RECEIVE_WINDOW = 256  # bytes on the wire that every device can take in one go
MAX_RECEIVE_WINDOW = 65_535
MAX_PHASES = 4
MAX_PARAMETERS = 1 << 20
RICE_ESCAPE = 24  # a quotient this large is not written in unary: so many ones, then the gap as it is
RICE_RAW_BITS = 20  # bits of an escaped gap


class Status(IntEnum):
    """Outcome of a device operation; everything but OK travels in an ``ErrorAnswer``."""

    OK = 0
    UNKNOWN_TYPE = 1  # no such message
    BAD_LENGTH = 2  # payload shorter or longer than its message
    BAD_STATE = 3  # e.g. Train before the weights are complete
    BAD_ROUND = 4  # the message names another round than the one in progress; detail: the device's round
    BAD_OFFSET = 5  # offset, rank or index out of order or out of range; detail: the one expected
    BAD_VALUE = 6  # a field outside its domain
    NOT_FINITE = 7  # NaN or infinity where a number must be
    OVERFLOW = 8  # a value does not fit its wire type (float16 beyond 65504)
    TOO_LARGE = 9  # more data than the device's capacity


class Dtype(IntEnum):
    """How numbers travel; I8 and U8 are multiplied by the message's scale."""

    F32 = 0
    F16 = 1
    I8 = 2
    U8 = 3

    @property
    def width(self) -> int:
        """Bytes of one number."""
        return int(self.name[1:]) // 8


class Program(IntEnum):
    """What a device runs when told to train: a meta-training round or the adaptation of a new client."""

    TRAIN = 0
    ADAPT = 1


class Variant(IntEnum):
    """Which parameters one SGD step updates (paper, Algorithm 1: reconstruct l, update g, fine-tune both).

    A GRADIENT step leaves all as they are; the program ends with one step along the mean of its gradients.
    """

    LOCAL = 0
    GLOBAL = 1
    FULL = 2
    GRADIENT = 3


class SampleSet(IntEnum):
    """Disjoint sets of a client's samples."""

    SUPPORT = 0
    QUERY = 1
    ADAPT = 2
    TEST = 3


class State(IntEnum):
    """Where a device stands in its round."""

    IDLE = 0
    LOADING = 1
    LOADED = 2
    TRAINING = 3
    DONE = 4
    FAILED = 5


class Coding(IntEnum):
    """How a delta chunk writes its index set; smaller values are Rice parameters."""

    MAX_RICE = 20
    RUN = 254  # no bits: the indices follow each other
    BITMAP = 255


class Selection(IntEnum):
    """Which entries of a delta travel."""

    GLOBAL = 0  # the largest of all
    LAYER = 1  # of each layer its share, the largest
    RANDOM = 2  # any: those with the highest draws of ``Stream.SELECTION``


class Stream(IntEnum):
    """Domains of the counter-based generator, so that no two uses ever share a draw."""

    SUPPORT = 0  # the four sample sets, numbered as in SampleSet
    QUERY = 1
    ADAPT = 2
    TEST = 3
    CLIENT_TASK = 4  # what a client's task is (sine: amplitude and phase)
    CLIENT_CHOICE = 5  # who takes part in a round
    INITIAL_WEIGHTS = 6
    LOCAL_START = 7  # where local weights start at a reconstruction
    DATA_SPLIT = 8  # what is meta-trained on and what is held out
    SELECTION = 9  # which entries of a delta travel, where that is random


@dataclass(frozen=True)
class Scalar:
    """A number on the wire: its struct format and its C++ type."""

    format: str
    cpp: str

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return struct.calcsize("<" + self.format)


@dataclass(frozen=True)
class FixedBytes:
    """Exactly ``size`` bytes."""

    size: int


@dataclass(frozen=True)
class Records:
    """Exactly ``count`` records of one type."""

    record: type[Record]
    count: int


class Rest:
    """All remaining bytes; only as the last field."""


U8 = Annotated[int, Scalar("B", "uint8_t")]
U16 = Annotated[int, Scalar("H", "uint16_t")]
U32 = Annotated[int, Scalar("I", "uint32_t")]
F32 = Annotated[float, Scalar("f", "float")]
Bytes8 = Annotated[bytes, FixedBytes(8)]
Bytes16 = Annotated[bytes, FixedBytes(16)]
Tail = Annotated[bytes, Rest()]
Kind = Scalar | FixedBytes | Records | Rest


class WireError(ValueError):
    """A payload that is not the message it claims to be."""


class Record:
    """A fixed sequence of little-endian fields; subclasses are frozen dataclasses."""

    @classmethod
    @cache  # resolving annotations costs more than a round trip
    def kinds(cls) -> dict[str, Kind]:
        """Field name to wire kind, in wire order."""
        hints = typing.get_type_hints(cls, include_extras=True)
        return {f.name: hints[f.name].__metadata__[0] for f in dataclasses.fields(cls)}  # type: ignore[arg-type]

    @classmethod
    @cache
    def fixed_size(cls) -> int:
        """Bytes of all fields but a tail."""
        total = 0
        for kind in cls.kinds().values():
            if isinstance(kind, Records):
                total += kind.count * kind.record.fixed_size()
            elif not isinstance(kind, Rest):
                total += kind.size
        return total

    def pack(self) -> bytes:
        """The payload's bytes. Raises WireError when a value does not fit its field."""
        out = bytearray()
        for name, kind in self.kinds().items():
            value = getattr(self, name)
            try:
                if isinstance(kind, Scalar):
                    out += struct.pack("<" + kind.format, value)
                elif isinstance(kind, FixedBytes):
                    if len(value) > kind.size:
                        raise WireError(f"{len(value)} bytes in a field of {kind.size}")
                    out += value.ljust(kind.size, b"\0")
                elif isinstance(kind, Records):
                    if len(value) != kind.count:
                        raise WireError(f"{len(value)} records in a field of {kind.count}")
                    for record in value:
                        out += record.pack()
                else:
                    out += value
            except (struct.error, OverflowError, WireError) as error:
                raise WireError(f"{type(self).__name__}.{name} = {value!r}: {error}") from None
        return bytes(out)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """The message in ``payload``. Raises WireError when its length is wrong."""
        has_tail = any(isinstance(kind, Rest) for kind in cls.kinds().values())
        fixed = cls.fixed_size()
        if len(payload) < fixed or (len(payload) > fixed and not has_tail):
            raise WireError(f"{cls.__name__}: {len(payload)} bytes, expected {fixed}{' or more' if has_tail else ''}")
        values: list[Any] = []
        at = 0
        for kind in cls.kinds().values():
            if isinstance(kind, Scalar):
                values.append(struct.unpack_from("<" + kind.format, payload, at)[0])
                at += kind.size
            elif isinstance(kind, FixedBytes):
                values.append(payload[at : at + kind.size])
                at += kind.size
            elif isinstance(kind, Records):
                size = kind.record.fixed_size()
                values.append(
                    tuple(kind.record.unpack(payload[at + i * size : at + (i + 1) * size]) for i in range(kind.count))
                )
                at += size * kind.count
            else:
                values.append(payload[at:])
        return cls(*values)


class Request(Record):
    """A question of the host; ``type_id`` on the wire, answered by ``answer``."""

    type_id: ClassVar[int]
    answer: ClassVar[type[Record]]


@dataclass(frozen=True, slots=True)
class HelloAnswer(Record):
    """Who the device is; these first three fields never change their place."""

    protocol_version: U16
    schema_hash: Bytes8
    model_hash: Bytes8
    board: Bytes16  # ASCII, zero-padded
    unique_id: Bytes8
    receive_window: U16  # bytes on the wire that may be under way to the device
    ticks_per_second: U32  # of the counter behind Progress.ticks


@dataclass(frozen=True, slots=True)
class Hello(Request):
    """Asks who is there."""

    type_id = 0x01
    answer = HelloAnswer


@dataclass(frozen=True, slots=True)
class Phase(Record):
    """Online SGD over one sample set: ``passes`` times ``count`` samples, one step each; passes = 0 ends a program."""

    variant: U8
    sample_set: U8
    count: U16
    passes: U16
    learning_rate: F32
    output_clamp: F32  # the loss's derivative is clamped to ±this; 0: not at all


@dataclass(frozen=True, slots=True)
class ConfigureAnswer(Record):
    """Configured."""


@dataclass(frozen=True, slots=True)
class Configure(Request):
    """Sets one program. A new session number forgets the round in progress; the same message again changes nothing."""

    type_id = 0x02
    answer = ConfigureAnswer
    session: U32
    program: U8
    phases: Annotated[tuple[Phase, ...], Records(Phase, MAX_PHASES)]
    top_k: U32  # entries of the delta; 0: the program makes none
    uplink: U8  # Dtype of the delta's values
    selection: U8  # Selection


@dataclass(frozen=True, slots=True)
class LoadAnswer(Record):
    """How far the weights are complete."""

    next_offset: U32


@dataclass(frozen=True, slots=True)
class Load(Request):
    """Writes global weights from ``offset`` on; a new round starts at offset 0; what is complete is not written again."""

    type_id = 0x03
    answer = LoadAnswer
    round: U32
    offset: U32
    dtype: U8
    scale: F32  # of I8
    data: Tail


@dataclass(frozen=True, slots=True)
class Progress(Record):
    """How far a round is: steps trained of all phases together, ticks spent in training steps."""

    round: U32
    state: U8
    fault: U8  # Status that made the state FAILED
    step: U32
    ticks: U32


@dataclass(frozen=True, slots=True)
class Train(Request):
    """Starts a program on the loaded weights with a client's data; repeated, it reports and does not train."""

    type_id = 0x04
    answer = Progress
    round: U32
    program: U8
    seed: U32
    client: U32
    draw: U32  # which of the client's samples: the same for the same draw


@dataclass(frozen=True, slots=True)
class Sample(Request):
    """One streamed sample: targets as float32, then the input as ``dtype``; ``step`` counts over passes and phases."""

    type_id = 0x05
    answer = Progress
    round: U32
    step: U32
    dtype: U8
    scale: F32
    data: Tail


@dataclass(frozen=True, slots=True)
class Await(Request):
    """Asks for progress; answered when ``step`` is reached or training has ended, whichever comes first (0: now)."""

    type_id = 0x06
    answer = Progress
    round: U32
    step: U32


@dataclass(frozen=True, slots=True)
class Delta(Record):
    """Entries of the frozen delta by rank, self-contained: index bits padded to a byte, then one value per entry."""

    round: U32
    rank: U32  # of the first entry
    count: U16
    base: U32  # lowest index the first entry can have
    coding: U8  # Coding
    dtype: U8
    scale: F32  # of I8, one for the whole delta
    data: Tail


@dataclass(frozen=True, slots=True)
class Pull(Request):
    """Asks for the delta's entries from ``rank`` on, as many as fit the device's answer."""

    type_id = 0x07
    answer = Delta
    round: U32
    rank: U32


@dataclass(frozen=True, slots=True)
class Weights(Record):
    """Current weights as float32, in manifest order (global, then local)."""

    offset: U32
    data: Tail


@dataclass(frozen=True, slots=True)
class Fetch(Request):
    """Reads up to ``count`` weights from ``offset`` on."""

    type_id = 0x08
    answer = Weights
    offset: U32
    count: U16


@dataclass(frozen=True, slots=True)
class Outputs(Record):
    """The network's outputs as float32, one row per input."""

    data: Tail


@dataclass(frozen=True, slots=True)
class Predict(Request):
    """Runs the current weights forward on whole inputs."""

    type_id = 0x09
    answer = Outputs
    dtype: U8
    scale: F32
    data: Tail


@dataclass(frozen=True, slots=True)
class ErrorAnswer(Record):
    """Why a request was refused."""

    status: U8
    detail: U32


REQUESTS: tuple[type[Request], ...] = (Hello, Configure, Load, Train, Sample, Await, Pull, Fetch, Predict)
ENUMS: tuple[type[IntEnum], ...] = (Status, Dtype, Program, Variant, SampleSet, State, Coding, Selection, Stream)
CONSTANTS: dict[str, int] = {
    "PROTOCOL_VERSION": PROTOCOL_VERSION,
    "ANSWER_BIT": ANSWER_BIT,
    "ERROR_TYPE": ERROR_TYPE,
    "FRAME_HEADER_BYTES": FRAME_HEADER_BYTES,
    "FRAME_CRC_BYTES": FRAME_CRC_BYTES,
    "MIN_RECEIVE_WINDOW": MIN_RECEIVE_WINDOW,
    "MAX_RECEIVE_WINDOW": MAX_RECEIVE_WINDOW,
    "MAX_PHASES": MAX_PHASES,
    "MAX_PARAMETERS": MAX_PARAMETERS,
    "RICE_ESCAPE": RICE_ESCAPE,
    "RICE_RAW_BITS": RICE_RAW_BITS,
}


def wire_size(payload: int) -> int:
    """Most bytes that a message of ``payload`` bytes takes on the wire: COBS's worst case, and a delimiter at either end."""
    body = FRAME_HEADER_BYTES + payload + FRAME_CRC_BYTES
    return 1 + body + body // 254 + 1 + 1


def payload_capacity(window: int) -> int:
    """Largest payload whose ``wire_size`` is at most ``window`` (negative: not even an empty one)."""
    room = window - 3
    body = room - (room + 1) // 255
    return body - FRAME_HEADER_BYTES - FRAME_CRC_BYTES


def records() -> list[type[Record]]:
    """Every record once, those that others contain first."""
    found: list[type[Record]] = []

    def add(record: type[Record]) -> None:
        for kind in record.kinds().values():
            if isinstance(kind, Records):
                add(kind.record)
        if record not in found:
            found.append(record)

    for request in REQUESTS:
        add(request)
        add(request.answer)
    add(ErrorAnswer)
    return found


def schema_hash() -> bytes:
    """First 8 bytes of SHA-256 over the whole table; equal on both sides or they do not talk."""

    def describe(kind: Kind) -> str:
        if isinstance(kind, Scalar):
            return kind.format
        if isinstance(kind, FixedBytes):
            return f"{kind.size}s"
        return f"{kind.count}*{kind.record.__name__}" if isinstance(kind, Records) else "rest"

    table = {
        "constants": CONSTANTS,
        "enums": {e.__name__: {m.name: int(m) for m in e} for e in ENUMS},
        "records": {r.__name__: {name: describe(kind) for name, kind in r.kinds().items()} for r in records()},
        "requests": {r.__name__: [r.type_id, r.answer.__name__] for r in REQUESTS},
    }
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).digest()[:8]
