"""The wire table: every message, limit, code and random stream, written once; C++ and the tables of docs are rendered from it.

The host asks, the device answers. A frame is COBS(type u8, sequence u8, payload, CRC-32) ended by 0x00; payloads are
little-endian. An answer carries its request's sequence and the request's type with bit 7 set, or ``ERROR_TYPE``.
Each field has a type, the values that it may have, and a sentence that says what it means. Changing anything but the
sentences changes ``schema_hash()``, and host and firmware of different schemas refuse each other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import struct
import typing
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Annotated, Any, ClassVar, Self

PROTOCOL_VERSION = 1
ANSWER_BIT = 0x80
ERROR_TYPE = 0xFF
FRAME_HEADER_BYTES = 2
FRAME_CRC_BYTES = 4
MIN_RECEIVE_WINDOW = 256
MAX_RECEIVE_WINDOW = 65_535
MAX_PHASES = 4
MAX_PARAMETERS = 1 << 20
RICE_ESCAPE = 24
RICE_RAW_BITS = 20


# --- Codes ---


class Code(IntEnum):
    """A number with a name on the wire; each member says in ``doc`` what it means."""

    doc: str

    def __new__(cls, value: int, doc: str = "") -> Self:
        """A member of this value."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.doc = doc
        return member


class Status(Code):
    """Outcome of a device operation; everything but OK travels in an ``ErrorAnswer``."""

    OK = 0, "done; as `Progress.fault`: no fault"
    UNKNOWN_TYPE = 1, "no such message"
    BAD_LENGTH = 2, "the payload is shorter or longer than its message"
    BAD_STATE = 3, "it cannot do that now, e.g. it was reset"
    BAD_TOKEN = 4, "another cycle is in progress; detail: its token"
    BAD_OFFSET = 5, "offset, rank or step out of order or out of range; detail: the one expected"
    BAD_VALUE = 6, "a field outside its domain"
    NOT_FINITE = 7, "NaN or infinity where a number must be"
    OVERFLOW = 8, "a value beyond float16, which ends at 65504"
    TOO_LARGE = 9, "more data than an answer holds"


class Dtype(Code):
    """How numbers travel."""

    F32 = 0, "IEEE 754 binary32"
    F16 = 1, "IEEE 754 binary16"
    I8 = 2, "signed byte, multiplied by the message's scale"
    U8 = 3, "unsigned byte, multiplied by the message's scale"

    @property
    def width(self) -> int:
        """Bytes of one number."""
        return int(self.name[1:]) // 8

    @property
    def layout(self) -> str:
        """The little-endian numbers as NumPy names their type: ``<f4`` for F32."""
        return f"<{self.name[0].lower()}{self.width}"


WEIGHT_DTYPES = (Dtype.F32, Dtype.F16, Dtype.I8)  # of weights and of a delta's values
INPUT_DTYPES = (Dtype.F32, Dtype.U8)  # of the inputs of Sample and Predict


class Program(Code):
    """What a device runs when told to train."""

    TRAIN = 0, "a meta-training round of one client"
    ADAPT = 1, "the adaptation of a new client"


class Variant(Code):
    """Which parameters one SGD step updates (paper, Algorithm 1: reconstruct l, update g, fine-tune both)."""

    LOCAL = 0, "the local part alone"
    GLOBAL = 1, "the global part alone"
    FULL = 2, "all parameters"
    GRADIENT = (
        3,
        "none: the program ends with a step along the mean of these gradients; only some strategies' firmware has it",
    )


class SampleSet(Code):
    """Disjoint sets of a client's samples."""

    SUPPORT = 0, "support set of a meta-training round"
    QUERY = 1, "query set of a meta-training round"
    ADAPT = 2, "what a new client adapts with"
    TEST = 3, "what a new client is tested on"


class State(Code):
    """Where a device stands in its cycle."""

    IDLE = 0, "no weights"
    LOADING = 1, "some of the weights"
    LOADED = 2, "all weights, nothing trained"
    TRAINING = 3, "between the first and the last step of a program"
    DONE = 4, "trained; the delta can be pulled"
    FAILED = 5, "trained, but a weight or the delta cannot be used; `Progress.fault` says why"


class Coding(Code):
    """How a delta chunk writes its indices."""

    (
        RICE_0, RICE_1, RICE_2, RICE_3, RICE_4, RICE_5, RICE_6, RICE_7, RICE_8, RICE_9, RICE_10,
        RICE_11, RICE_12, RICE_13, RICE_14, RICE_15, RICE_16, RICE_17, RICE_18, RICE_19, RICE_20,
    ) = ((parameter, f"Rice codes of the gaps, parameter {parameter}") for parameter in range(21))  # fmt: skip
    RUN = 254, "no bits: the indices follow each other"
    BITMAP = 255, "one bit per index"


RICE_CODINGS = tuple(coding for coding in Coding if coding < Coding.RUN)  # each one's value is its parameter


class Selection(Code):
    """Which entries of a delta travel."""

    GLOBAL = 0, "the largest of all"
    LAYER = 1, "of each layer its share, the largest"
    RANDOM = 2, "those with the highest draws of `Stream.SELECTION`"


class Stream(Code):
    """Domains of the counter-based generator, so that no two uses ever share a draw."""

    SUPPORT = 0, "the support set's samples; the four sample sets are numbered as in `SampleSet`"
    QUERY = 1, "the query set's samples"
    ADAPT = 2, "the samples that a new client adapts with"
    TEST = 3, "the samples that a new client is tested on"
    CLIENT_TASK = 4, "what a client's task is (sine: amplitude and phase)"
    CLIENT_CHOICE = 5, "who takes part in a round"
    INITIAL_WEIGHTS = 6, "the weights before the first round"
    LOCAL_START = 7, "where local weights start at a reconstruction"
    DATA_SPLIT = 8, "what is meta-trained on and what is held out"
    SELECTION = 9, "which entries of a delta travel, where that is random"


# --- Kinds of fields ---


class WireError(ValueError):
    """Bytes or values that are not the message they claim to be; the text names message, field and what was expected."""

    def inside(self, name: str) -> WireError:
        """The same with the name of what it is inside of in front: ``[1].count`` inside ``.phases``."""
        return WireError(f"{name}{self}")


def _wrong(value: object, expected: str) -> WireError:
    """What is wrong with a value whose field is still to be named."""
    return WireError(f" = {value!r}: expected {expected}")


class Kind(ABC):
    """What one field holds: its bytes on the wire and the values that it may have."""

    size: int  # bytes on the wire; 0 for a tail
    name: str  # as in docs/protocol.md

    @abstractmethod
    def check(self, value: Any) -> None:
        """Raises WireError for a value that the field may not have."""

    @abstractmethod
    def encode(self, value: Any) -> bytes:
        """The bytes of a value, which is not checked."""

    @abstractmethod
    def decode(self, data: bytes) -> Any:
        """The value of these bytes. Raises WireError for a code without a name."""

    @abstractmethod
    def schema(self) -> object:
        """What both sides must agree on, for JSON."""


@dataclass(frozen=True)
class Bounds:
    """The values that a number may have: at least ``least``, at most ``most``, above ``above``."""

    least: float | None = None
    most: float | None = None
    above: float | None = None


@dataclass(frozen=True)
class Number(Kind):
    """An unsigned integer or a float; floats are finite. ``format`` is that of struct, ``cpp`` the type in C++."""

    name: str
    format: str
    cpp: str
    bounds: Bounds = Bounds()

    @property
    def size(self) -> int:  # type: ignore[override]
        """Bytes on the wire."""
        return struct.calcsize("<" + self.format)

    @property
    def is_float(self) -> bool:
        """Whether it is a float."""
        return self.format == "f"

    @property
    def expected(self) -> str:
        """The values that it may have, in words."""
        least, most, above = self.bounds.least, self.bounds.most, self.bounds.above
        if not self.is_float:
            return f"{least or 0} to {(1 << 8 * self.size) - 1 if most is None else most}"
        limits = [f"{word} {limit:g}" for word, limit in (("from", least), ("to", most), ("above", above)) if limit is not None]
        return " ".join(["a finite number", *limits])

    def check(self, value: float) -> None:
        """See Kind."""
        try:
            held = self.decode(self.encode(value))  # as the other side sees it: a float32
        except (struct.error, OverflowError):
            raise _wrong(value, self.expected) from None
        least, most, above = self.bounds.least, self.bounds.most, self.bounds.above
        if (
            not math.isfinite(held)
            or (least is not None and held < least)
            or (most is not None and held > most)
            or (above is not None and held <= above)
        ):
            raise _wrong(value, self.expected)

    def encode(self, value: float) -> bytes:
        """See Kind."""
        return struct.pack("<" + self.format, value)

    def decode(self, data: bytes) -> float:
        """See Kind."""
        value: float = struct.unpack("<" + self.format, data)[0]
        return value

    def schema(self) -> object:
        """See Kind."""
        return [self.format, self.bounds.least, self.bounds.most, self.bounds.above]


@dataclass(frozen=True)
class OneOf:
    """The members of its type that a field may have."""

    members: tuple[Code, ...]


@dataclass(frozen=True)
class Named(Kind):
    """A code of one byte: one of ``members`` of ``enum``."""

    enum: type[Code]
    members: tuple[Code, ...]
    size = 1

    @property
    def name(self) -> str:  # type: ignore[override]
        """The type's name."""
        return self.enum.__name__

    @property
    def expected(self) -> str:
        """The members that it may be, in words."""
        return f"one of {', '.join(member.name for member in self.members)}"

    def check(self, value: int) -> None:
        """See Kind."""
        if value not in self.members:
            raise _wrong(int(value), self.expected)

    def encode(self, value: int) -> bytes:
        """See Kind."""
        return bytes([value])

    def decode(self, data: bytes) -> Code:
        """See Kind."""
        try:
            return self.enum(data[0])
        except ValueError:
            raise _wrong(data[0], self.expected) from None

    def schema(self) -> object:
        """See Kind."""
        return [self.name, [int(member) for member in self.members]]


@dataclass(frozen=True)
class FixedBytes(Kind):
    """Exactly ``size`` bytes; shorter ones are padded with zeros."""

    size: int

    @property
    def name(self) -> str:  # type: ignore[override]
        """With its size."""
        return f"bytes[{self.size}]"

    def check(self, value: bytes) -> None:
        """See Kind."""
        if len(value) > self.size:
            raise _wrong(value, f"at most {self.size} bytes")

    def encode(self, value: bytes) -> bytes:
        """See Kind."""
        return value.ljust(self.size, b"\0")

    def decode(self, data: bytes) -> bytes:
        """See Kind."""
        return data

    def schema(self) -> object:
        """See Kind."""
        return f"{self.size}s"


@dataclass(frozen=True)
class Nested(Kind):
    """One record."""

    record: type[Record]

    @property
    def size(self) -> int:  # type: ignore[override]
        """Bytes of the record."""
        return self.record.fixed_size()

    @property
    def name(self) -> str:  # type: ignore[override]
        """The record's."""
        return self.record.__name__

    def check(self, value: Record) -> None:
        """See Kind."""
        value.check_fields()

    def encode(self, value: Record) -> bytes:
        """See Kind."""
        return value.encode()

    def decode(self, data: bytes) -> Record:
        """See Kind."""
        return self.record.decode(data)

    def schema(self) -> object:
        """See Kind."""
        return self.name


@dataclass(frozen=True)
class UpTo(Kind):
    """At most ``count`` records of one type, with room for ``count``; the first whose field ``end`` is 0 is none.

    What comes after the last record is sent as 0, and not looked at when it is received.
    """

    record: type[Record]
    count: int
    end: str

    @property
    def size(self) -> int:  # type: ignore[override]
        """Bytes of ``count`` records."""
        return self.count * self.record.fixed_size()

    @property
    def name(self) -> str:  # type: ignore[override]
        """The record's with the number."""
        return f"{self.record.__name__}[{self.count}]"

    def check(self, value: tuple[Record, ...]) -> None:
        """See Kind."""
        if len(value) > self.count:
            raise WireError(f": {len(value)} of them, expected at most {self.count}")
        for i, record in enumerate(value):
            try:
                record.check_fields()
            except WireError as error:
                raise error.inside(f"[{i}]") from None

    def encode(self, value: tuple[Record, ...]) -> bytes:
        """See Kind."""
        return b"".join(record.encode() for record in value).ljust(self.size, b"\0")

    def decode(self, data: bytes) -> tuple[Record, ...]:
        """See Kind."""
        size, start, kind = self.record.fixed_size(), self.record.place(self.end), self.record.kinds()[self.end]
        records: list[Record] = []
        for at in range(0, len(data), size):
            if not any(data[at + start : at + start + kind.size]):
                break
            try:
                records.append(self.record.decode(data[at : at + size]))
            except WireError as error:
                raise error.inside(f"[{len(records)}]") from None
        return tuple(records)

    def schema(self) -> object:
        """See Kind."""
        return [self.name, self.end]


@dataclass(frozen=True)
class Rest(Kind):
    """All remaining bytes; only as the last field."""

    name: str = "rest"
    size: int = 0

    def check(self, value: bytes) -> None:
        """See Kind."""

    def encode(self, value: bytes) -> bytes:
        """See Kind."""
        return value

    def decode(self, data: bytes) -> bytes:
        """See Kind."""
        return data

    def schema(self) -> object:
        """See Kind."""
        return self.name


U8 = Annotated[int, Number("u8", "B", "uint8_t")]
U16 = Annotated[int, Number("u16", "H", "uint16_t")]
U32 = Annotated[int, Number("u32", "I", "uint32_t")]
F32 = Annotated[float, Number("f32", "f", "float")]
Bytes8 = Annotated[bytes, FixedBytes(8)]
Bytes16 = Annotated[bytes, FixedBytes(16)]
Tail = Annotated[bytes, Rest()]


@dataclass(frozen=True)
class Field:
    """One field of a record: what it holds, and what that means."""

    name: str
    kind: Kind
    doc: str


def _field(name: str, annotation: Any) -> Field:
    """From the annotation of a dataclass's field: a type, its kind unless the type says it, its values, its meaning."""
    python: type = annotation.__origin__
    facts = [fact for fact in annotation.__metadata__ if not isinstance(fact, str)]
    doc = next((fact for fact in reversed(annotation.__metadata__) if isinstance(fact, str)), "")
    kind: Kind
    if isinstance(python, type) and issubclass(python, Code):
        kind = Named(python, facts[0].members if facts else tuple(python))
    elif isinstance(python, type) and issubclass(python, Record):
        kind = Nested(python)
    else:
        kind, *bounds = facts
        kind = dataclasses.replace(kind, bounds=bounds[0]) if bounds else kind  # type: ignore[type-var]
    return Field(name, kind, doc)


class Record:
    """A fixed sequence of little-endian fields; subclasses are frozen dataclasses."""

    @classmethod
    @cache  # resolving annotations costs more than a round trip
    def fields(cls) -> tuple[Field, ...]:
        """In wire order."""
        hints = typing.get_type_hints(cls, include_extras=True)
        return tuple(_field(f.name, hints[f.name]) for f in dataclasses.fields(cls))  # type: ignore[arg-type]

    @classmethod
    @cache
    def kinds(cls) -> dict[str, Kind]:
        """Field name to what it holds, in wire order."""
        return {field.name: field.kind for field in cls.fields()}

    @classmethod
    @cache
    def fixed_size(cls) -> int:
        """Bytes of all fields but a tail."""
        return sum(field.kind.size for field in cls.fields())

    @classmethod
    @cache
    def place(cls, name: str) -> int:
        """Bytes in front of a field."""
        names = [field.name for field in cls.fields()]
        return sum(field.kind.size for field in cls.fields()[: names.index(name)])

    @classmethod
    @cache
    def has_tail(cls) -> bool:
        """Whether the last field takes whatever is left."""
        return any(isinstance(field.kind, Rest) for field in cls.fields())

    def pack(self) -> bytes:
        """The payload's bytes. Raises WireError for a value that its field may not have, naming both."""
        try:
            self.check_fields()
        except WireError as error:
            raise error.inside(type(self).__name__) from None
        return self.encode()

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """The message in ``payload``. Raises WireError when its length or a value in it is wrong."""
        fixed = cls.fixed_size()
        if len(payload) < fixed or (len(payload) > fixed and not cls.has_tail()):
            more = " or more" if cls.has_tail() else ""
            raise WireError(f"{cls.__name__}: {len(payload)} bytes, expected {fixed}{more}")
        try:
            message = cls.decode(payload)
            message.check_fields()
        except WireError as error:
            raise error.inside(cls.__name__) from None
        return message

    @classmethod
    def unpack_first(cls, payload: bytes, last: str) -> tuple[Any, ...]:
        """The fields up to ``last`` of a payload whose other fields may not be there, or be others. Not checked."""
        values: list[Any] = []
        at = 0
        for field in cls.fields():
            values.append(field.kind.decode(payload[at : at + field.kind.size]))
            at += field.kind.size
            if field.name == last:
                break
        return tuple(values)

    def check_fields(self) -> None:
        """Raises WireError, naming the field, for a value that it may not have."""
        for field in self.fields():
            try:
                field.kind.check(getattr(self, field.name))
            except WireError as error:
                raise error.inside(f".{field.name}") from None

    def encode(self) -> bytes:
        """The bytes of the fields as they are, unchecked."""
        return b"".join(field.kind.encode(getattr(self, field.name)) for field in self.fields())

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The record in as many bytes as it has. Raises WireError for a code without a name."""
        values: list[Any] = []
        at = 0
        for field in cls.fields():
            end = len(data) if isinstance(field.kind, Rest) else at + field.kind.size
            try:
                values.append(field.kind.decode(data[at:end]))
            except WireError as error:
                raise error.inside(f".{field.name}") from None
            at = end
        return cls(*values)


class Request(Record):
    """A question of the host; ``type_id`` on the wire, answered by ``answer``."""

    type_id: ClassVar[int]
    answer: ClassVar[type[Record]]


# --- Messages ---

Token = Annotated[U32, "the token of the cycle in progress"]
WeightDtype = Annotated[Dtype, OneOf(WEIGHT_DTYPES)]
InputDtype = Annotated[Dtype, OneOf(INPUT_DTYPES)]


@dataclass(frozen=True, slots=True)
class HelloAnswer(Record):
    """Who the device is."""

    protocol_version: Annotated[U16, "`PROTOCOL_VERSION`; this field and the next never change their place"]
    schema_hash: Annotated[Bytes8, "of the whole wire table; the host refuses a device with another"]
    model_hash: Annotated[Bytes8, "of model, downlink and arithmetic; the host refuses another than its experiment's"]
    board: Annotated[Bytes16, "name, ASCII, zero-padded"]
    unique_id: Annotated[Bytes8, "names this very device, also after a reset"]
    receive_window: Annotated[U16, Bounds(least=MIN_RECEIVE_WINDOW), "bytes on the wire that may be under way to it"]
    ticks_per_second: Annotated[U32, "of `Progress.ticks`"]


@dataclass(frozen=True, slots=True)
class Hello(Request):
    """Asks who is there."""

    type_id = 0x01
    answer = HelloAnswer


@dataclass(frozen=True, slots=True)
class Phase(Record):
    """Online SGD over one sample set, one step per sample."""

    variant: Annotated[Variant, "which parameters a step updates"]
    sample_set: Annotated[SampleSet, "whose samples are trained on"]
    count: Annotated[U16, Bounds(least=1), "samples in the set"]
    passes: Annotated[U16, Bounds(least=1), "over the set; 0 where a program has no more phases"]
    learning_rate: Annotated[F32, Bounds(above=0), "of each step"]
    output_clamp: Annotated[F32, Bounds(least=0), "the loss's derivative is clamped to ± this; 0: not at all"]

    @property
    def steps(self) -> int:
        """Training steps."""
        return self.count * self.passes


@dataclass(frozen=True, slots=True)
class Recipe(Record):
    """What a program trains, and which entries of its delta travel in which form."""

    phases: Annotated[tuple[Phase, ...], UpTo(Phase, MAX_PHASES, end="passes"), "in order"]
    top_k: Annotated[U32, "entries of the delta, at most the number of global weights; 0: the program makes none"] = 0
    uplink: Annotated[WeightDtype, "of the delta's values"] = Dtype.F32
    selection: Annotated[Selection, "of the delta's entries"] = Selection.GLOBAL

    @property
    def steps(self) -> int:
        """Training steps of all phases."""
        return sum(phase.steps for phase in self.phases)


@dataclass(frozen=True, slots=True)
class ConfigureAnswer(Record):
    """Configured."""


@dataclass(frozen=True, slots=True)
class Configure(Request):
    """Sets one program: what `Train` will run."""

    type_id = 0x02
    answer = ConfigureAnswer
    session: Annotated[U32, "drawn by the host when it opens the line"]
    program: Annotated[Program, "which one is set"]
    recipe: Annotated[Recipe, "what it does"]


@dataclass(frozen=True, slots=True)
class LoadAnswer(Record):
    """How far the weights are complete."""

    next_offset: Annotated[U32, "weights that are complete"]


@dataclass(frozen=True, slots=True)
class Load(Request):
    """Writes global weights."""

    type_id = 0x03
    answer = LoadAnswer
    token: Annotated[U32, "above that of the cycle in progress: begins another cycle, from any state; below: `BAD_TOKEN`"]
    offset: Annotated[U32, "of the first weight here; what is complete is not written again"]
    dtype: Annotated[WeightDtype, "of the weights: the firmware's downlink"]
    scale: Annotated[F32, "a weight of I8 is its byte times this; the same all over a tensor"]
    data: Annotated[Tail, "whole values, at least one"]


@dataclass(frozen=True, slots=True)
class Progress(Record):
    """How far a cycle is."""

    token: Token
    state: Annotated[State, "where the device stands"]
    fault: Annotated[Status, "why the state is FAILED; else OK"]
    step: Annotated[U32, "steps trained, of all phases together"]
    ticks: Annotated[U32, "spent in training steps"]


@dataclass(frozen=True, slots=True)
class Train(Request):
    """Starts a program on the loaded weights with a client's data."""

    type_id = 0x04
    answer = Progress
    token: Token
    program: Annotated[Program, "which one is run"]
    seed: Annotated[U32, "of the experiment"]
    client: Annotated[U32, "whose samples"]
    round: Annotated[U32, "of the run; names, with seed and client, the samples and all other random draws"]


@dataclass(frozen=True, slots=True)
class Sample(Request):
    """One streamed sample, trained before it is answered. A device with samples of its own refuses it."""

    type_id = 0x05
    answer = Progress
    token: Token
    step: Annotated[U32, "the device's own, over passes and phases; a smaller one is acknowledged and not trained"]
    dtype: Annotated[InputDtype, "of the inputs"]
    scale: Annotated[F32, "an input of U8 is its byte times this"]
    data: Annotated[Tail, "targets as f32, then the inputs"]


@dataclass(frozen=True, slots=True)
class Await(Request):
    """Asks for progress; answered when the step is reached or training has ended, between two steps."""

    type_id = 0x06
    answer = Progress
    token: Token
    step: Annotated[U32, "0: answer at once"]


@dataclass(frozen=True, slots=True)
class Delta(Record):
    """Entries of the frozen delta by rank, in the order of their indices; each chunk is readable by itself."""

    token: Annotated[U32, "as asked"]
    rank: Annotated[U32, "of the first entry, as asked"]
    count: Annotated[U16, Bounds(least=1), "entries here"]
    base: Annotated[U32, "lowest index the first entry can have"]
    coding: Annotated[Coding, "of the indices"]
    dtype: Annotated[WeightDtype, "of the values"]
    scale: Annotated[F32, Bounds(least=0), "a value of I8 is its byte times this; one for the whole delta"]
    data: Annotated[Tail, "index bits (LSB first, padded with zeros to a byte), then the values"]


@dataclass(frozen=True, slots=True)
class Pull(Request):
    """Asks for entries of the frozen delta, as many as fit the answer."""

    type_id = 0x07
    answer = Delta
    token: Token
    rank: Annotated[U32, "of the first entry"]


@dataclass(frozen=True, slots=True)
class Weights(Record):
    """Current weights."""

    offset: Annotated[U32, "as asked"]
    data: Annotated[Tail, "f32 each, in manifest order: global part first, then the local part"]


@dataclass(frozen=True, slots=True)
class Fetch(Request):
    """Reads weights, when all are there."""

    type_id = 0x08
    answer = Weights
    offset: Annotated[U32, "of the first"]
    count: Annotated[U16, "at most so many"]


@dataclass(frozen=True, slots=True)
class Outputs(Record):
    """The network's outputs."""

    data: Annotated[Tail, "f32 each, one row per input"]


@dataclass(frozen=True, slots=True)
class Predict(Request):
    """Runs the current weights forward."""

    type_id = 0x09
    answer = Outputs
    dtype: Annotated[InputDtype, "of the inputs"]
    scale: Annotated[F32, "an input of U8 is its byte times this"]
    data: Annotated[Tail, "one or more whole inputs"]


@dataclass(frozen=True, slots=True)
class ErrorAnswer(Record):
    """Why a request was refused."""

    status: Annotated[Status, OneOf(tuple(status for status in Status if status)), "what is wrong"]
    detail: Annotated[U32, "what the question should have named, for the statuses that say so; else 0"]


# --- The whole table ---


@dataclass(frozen=True)
class Constant:
    """A number that both sides know."""

    name: str
    value: int
    doc: str


REQUESTS: tuple[type[Request], ...] = (Hello, Configure, Load, Train, Sample, Await, Pull, Fetch, Predict)
ENUMS: tuple[type[Code], ...] = (Status, Dtype, Program, Variant, SampleSet, State, Coding, Selection, Stream)
CONSTANTS: tuple[Constant, ...] = (
    Constant("PROTOCOL_VERSION", PROTOCOL_VERSION, "of this table"),
    Constant("ANSWER_BIT", ANSWER_BIT, "set in the type of an answer"),
    Constant("ERROR_TYPE", ERROR_TYPE, "type of an `ErrorAnswer`"),
    Constant("FRAME_HEADER_BYTES", FRAME_HEADER_BYTES, "type and sequence"),
    Constant("FRAME_CRC_BYTES", FRAME_CRC_BYTES, "CRC-32"),
    Constant("MIN_RECEIVE_WINDOW", MIN_RECEIVE_WINDOW, "bytes on the wire that every device can take in one go"),
    Constant("MAX_RECEIVE_WINDOW", MAX_RECEIVE_WINDOW, "bytes that Hello can announce"),
    Constant("MAX_PHASES", MAX_PHASES, "phases of one program"),
    Constant("MAX_PARAMETERS", MAX_PARAMETERS, "weights of one model"),
    Constant("RICE_ESCAPE", RICE_ESCAPE, "ones, from which on a gap is written as it is"),
    Constant("RICE_RAW_BITS", RICE_RAW_BITS, "bits of such a gap"),
)


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
            if isinstance(kind, Nested | UpTo):
                add(kind.record)
        if record not in found:
            found.append(record)

    for request in REQUESTS:
        add(request)
        add(request.answer)
    add(ErrorAnswer)
    return found


def type_id(record: type[Record]) -> int | None:
    """A message's type on the wire; None for an answer, which has its request's, and for a part of a message."""
    if record is ErrorAnswer:
        return ERROR_TYPE
    return record.type_id if issubclass(record, Request) else None


def schema_hash() -> bytes:
    """First 8 bytes of SHA-256 over the whole table; equal on both sides or they do not talk."""
    table = {
        "constants": {constant.name: constant.value for constant in CONSTANTS},
        "enums": {e.__name__: {m.name: int(m) for m in e} for e in ENUMS},
        "records": {r.__name__: {name: kind.schema() for name, kind in r.kinds().items()} for r in records()},
        "requests": {r.__name__: [r.type_id, r.answer.__name__] for r in REQUESTS},
    }
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).digest()[:8]
