"""The wire table: messages, limits, codes and random streams; C++ and the tables of docs/protocol.md are made from it.

The host sends requests, the device answers. A frame is COBS(type u8, sequence u8, payload, CRC-32) followed by 0x00;
payloads are little-endian. An answer has the sequence of its request, and the request's type with bit 7 set or
``ERROR_TYPE``. Each field has a type, its allowed values and a text that explains it. ``schema_hash()`` covers everything
but the texts; host and firmware with different schema hashes refuse each other. Messages that only some firmware knows are in
optional_messages/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

from .messages.field_kinds import F32, U16, U32, Bytes8, Bytes16, Tail
from .messages.field_kinds import Bounds as Bounds
from .messages.field_kinds import Code as Code
from .messages.field_kinds import FixedBytes as FixedBytes
from .messages.field_kinds import Kind as Kind
from .messages.field_kinds import Named as Named
from .messages.field_kinds import Number as Number
from .messages.field_kinds import OneOf as OneOf
from .messages.field_kinds import Rest as Rest
from .messages.field_kinds import WireError as WireError
from .messages.wire_record import Nested as Nested
from .messages.wire_record import Record as Record
from .messages.wire_record import Request as Request
from .messages.wire_record import UpTo as UpTo

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


class Status(Code):
    """The result of a device operation; an ``ErrorAnswer`` carries all but OK."""

    OK = 0, "success; as `Progress.fault`: no fault"
    UNKNOWN_TYPE = 1, "there is no message of this type"
    BAD_LENGTH = 2, "the payload is shorter or longer than its message"
    BAD_STATE = 3, "the device cannot do that in its state, for instance after a reset"
    BAD_TOKEN = 4, "another cycle is in progress; detail: the token of that cycle"
    BAD_OFFSET = 5, "offset, rank or step is out of order or out of range; detail: the expected one"
    BAD_VALUE = 6, "a field has a value that it must not have"
    NOT_FINITE = 7, "a number is NaN or infinite"
    OVERFLOW = 8, "a value is beyond the range of float16, ±65504"
    TOO_LARGE = 9, "the data do not fit into one answer"


class Dtype(Code):
    """The format of numbers on the wire."""

    F32 = 0, "IEEE 754 binary32"
    F16 = 1, "IEEE 754 binary16"
    I8 = 2, "signed byte; its value is the byte times the message's scale"
    U8 = 3, "unsigned byte; its value is the byte times the message's scale"

    @property
    def width(self) -> int:
        """Bytes of one number."""
        return int(self.name[1:]) // 8

    @property
    def layout(self) -> str:
        """NumPy's name of the little-endian type: ``<f4`` for F32."""
        return f"<{self.name[0].lower()}{self.width}"


WEIGHT_DTYPES = (Dtype.F32, Dtype.F16, Dtype.I8)  # of weights and of the values of a delta
INPUT_DTYPES = (Dtype.F32, Dtype.U8)  # of the inputs of Sample and Predict


class Program(Code):
    """What `Train` starts on a device."""

    TRAIN = 0, "one client's part of a meta-training round"
    ADAPT = 1, "the adaptation of a new client"


class Variant(Code):
    """Which weights one SGD step updates (paper, Algorithm 1: reconstruct l, update g, fine-tune both)."""

    LOCAL = 0, "the local weights"
    GLOBAL = 1, "the global weights"
    FULL = 2, "all weights"
    GRADIENT = (
        3,
        "none; gradients are summed, and the program ends with one step along their mean; only in firmware of some strategies",
    )


class SampleSet(Code):
    """The disjoint sets of a client's samples."""

    SUPPORT = 0, "the support set of a meta-training round"
    QUERY = 1, "the query set of a meta-training round"
    ADAPT = 2, "the samples that a new client adapts with"
    TEST = 3, "the samples that a new client is tested on"


class State(Code):
    """The state of a device in its cycle."""

    IDLE = 0, "no weights"
    LOADING = 1, "some of the weights are loaded"
    LOADED = 2, "all weights are loaded, no step is trained"
    TRAINING = 3, "between the first and the last step of a program"
    DONE = 4, "trained; the delta can be pulled"
    FAILED = 5, "trained, but the weights or the delta are unusable; `Progress.fault` says why"


class Coding(Code):
    """How a delta chunk encodes its indices."""

    (
        RICE_0, RICE_1, RICE_2, RICE_3, RICE_4, RICE_5, RICE_6, RICE_7, RICE_8, RICE_9, RICE_10,
        RICE_11, RICE_12, RICE_13, RICE_14, RICE_15, RICE_16, RICE_17, RICE_18, RICE_19, RICE_20,
    ) = ((parameter, f"Rice codes of the gaps between indices, parameter {parameter}") for parameter in range(21))  # fmt: skip
    RUN = 254, "no bits: the indices are consecutive"
    BITMAP = 255, "one bit per index"


RICE_CODINGS = tuple(coding for coding in Coding if coding < Coding.RUN)  # the value of each is its Rice parameter


class Selection(Code):
    """Which entries of a delta are sent."""

    GLOBAL = 0, "the largest entries of the whole delta"
    LAYER = 1, "the largest entries of each layer; their number is apportioned by the sizes of the layers"
    RANDOM = 2, "the entries with the highest random numbers of `Stream.SELECTION`"


class Stream(Code):
    """Streams of the counter-based random generator; no two uses share a random number."""

    SUPPORT = 0, "the samples of the support set; the first four streams have the numbers of `SampleSet`"
    QUERY = 1, "the samples of the query set"
    ADAPT = 2, "the samples that a new client adapts with"
    TEST = 3, "the samples that a new client is tested on"
    CLIENT_TASK = 4, "the task of a client (sine: amplitude and phase)"
    CLIENT_CHOICE = 5, "the clients that take part in a round"
    INITIAL_WEIGHTS = 6, "the weights before the first round"
    LOCAL_START = 7, "the local weights at the start of a reconstruction"
    DATA_SPLIT = 8, "the split into data for meta-training and held-out data"
    SELECTION = 9, "the entries of a delta that are sent, where the selection is random"


# --- Messages ---


Token = Annotated[U32, "the token of the cycle in progress"]
WeightDtype = Annotated[Dtype, OneOf(WEIGHT_DTYPES)]
InputDtype = Annotated[Dtype, OneOf(INPUT_DTYPES)]


@dataclass(frozen=True, slots=True)
class HelloAnswer(Record):
    """What the device is."""

    protocol_version: Annotated[U16, "`PROTOCOL_VERSION`; this field and the next have the same place in all versions"]
    schema_hash: Annotated[Bytes8, "of the wire table; must be that of the host"]
    model_hash: Annotated[Bytes8, "of model, downlink and arithmetic; must be that of the host's experiment"]
    board: Annotated[Bytes16, "name of the board in ASCII, padded with zeros"]
    unique_id: Annotated[Bytes8, "identifies this device, also after a reset"]
    receive_window: Annotated[U16, Bounds(least=MIN_RECEIVE_WINDOW), "bytes on the wire that the device can buffer"]
    ticks_per_second: Annotated[U32, "the unit of `Progress.ticks`"]


@dataclass(frozen=True, slots=True)
class Hello(Request):
    """Asks what the device is."""

    type_id = 0x01
    answer = HelloAnswer


@dataclass(frozen=True, slots=True)
class Phase(Record):
    """Online SGD over one sample set, one step per sample."""

    variant: Annotated[Variant, "which parameters a step updates"]
    sample_set: Annotated[SampleSet, "which samples are trained on"]
    count: Annotated[U16, Bounds(least=1), "number of samples in the set"]
    passes: Annotated[U16, Bounds(least=1), "passes over the set; 0 ends the list of phases"]
    learning_rate: Annotated[F32, Bounds(above=0), "learning rate of each step"]
    output_clamp: Annotated[F32, Bounds(least=0), "the derivative of the loss is clamped to ± this; 0: no clamping"]

    @property
    def steps(self) -> int:
        """Number of training steps."""
        return self.count * self.passes


@dataclass(frozen=True, slots=True)
class Recipe(Record):
    """What a program trains, and which entries of the delta are sent in which format."""

    phases: Annotated[tuple[Phase, ...], UpTo(Phase, MAX_PHASES, end="passes"), "the phases in their order"]
    top_k: Annotated[U32, "entries of the delta that are sent, at most the number of global weights; 0: no delta"] = 0
    uplink: Annotated[WeightDtype, "format of the delta's values"] = Dtype.F32
    selection: Annotated[Selection, "which entries of the delta are sent"] = Selection.GLOBAL

    @property
    def steps(self) -> int:
        """Number of training steps of all phases."""
        return sum(phase.steps for phase in self.phases)


@dataclass(frozen=True, slots=True)
class ConfigureAnswer(Record):
    """The program is set."""


@dataclass(frozen=True, slots=True)
class Configure(Request):
    """Sets the recipe of one program, which `Train` starts."""

    type_id = 0x02
    answer = ConfigureAnswer
    session: Annotated[U32, "random number that the host draws when it opens the port"]
    program: Annotated[Program, "the program that is set"]
    recipe: Annotated[Recipe, "what the program does"]


@dataclass(frozen=True, slots=True)
class LoadAnswer(Record):
    """How many weights the device has."""

    next_offset: Annotated[U32, "number of weights that the device has, counted from the first"]


@dataclass(frozen=True, slots=True)
class Load(Request):
    """Writes global weights."""

    type_id = 0x03
    answer = LoadAnswer
    token: Annotated[U32, "higher than that of the cycle in progress: starts a new cycle, from any state; lower: `BAD_TOKEN`"]
    offset: Annotated[U32, "index of the first weight in this message; weights that the device has are not written again"]
    dtype: Annotated[WeightDtype, "format of the weights: the downlink that the firmware was built for"]
    scale: Annotated[F32, "a weight in I8 is its byte times this; the same for a whole tensor"]
    data: Annotated[Tail, "one or more whole weights"]


@dataclass(frozen=True, slots=True)
class Progress(Record):
    """The state of the device and the progress of its cycle."""

    token: Token
    state: Annotated[State, "state of the device"]
    fault: Annotated[Status, "the reason where the state is FAILED, else OK"]
    step: Annotated[U32, "number of trained steps of all phases"]
    ticks: Annotated[U32, "time spent in training steps"]


@dataclass(frozen=True, slots=True)
class Train(Request):
    """Starts a program on the loaded weights with the data of a client."""

    type_id = 0x04
    answer = Progress
    token: Token
    program: Annotated[Program, "the program to run"]
    seed: Annotated[U32, "seed of the experiment"]
    client: Annotated[U32, "number of the client"]
    round: Annotated[U32, "number of the round; seed, client and round determine the samples and all other random numbers"]


@dataclass(frozen=True, slots=True)
class Sample(Request):
    """One streamed sample; the device trains on it before it answers. A device that makes its own samples refuses it."""

    type_id = 0x05
    answer = Progress
    token: Token
    step: Annotated[U32, "number of the step, over passes and phases; a trained step is acknowledged and not repeated"]
    dtype: Annotated[InputDtype, "format of the inputs"]
    scale: Annotated[F32, "an input in U8 is its byte times this"]
    data: Annotated[Tail, "the targets as f32, then the inputs"]


@dataclass(frozen=True, slots=True)
class Await(Request):
    """Asks for progress. The answer comes between two steps, when the step is reached or training has ended."""

    type_id = 0x06
    answer = Progress
    token: Token
    step: Annotated[U32, "number of the step to wait for; 0: answer at once"]


@dataclass(frozen=True, slots=True)
class Delta(Record):
    """A chunk of the selected entries of the delta, in the order of their indices; each chunk can be decoded by itself."""

    token: Annotated[U32, "as in the request"]
    rank: Annotated[U32, "rank of the first entry, as in the request"]
    count: Annotated[U16, Bounds(least=1), "entries in this chunk"]
    base: Annotated[U32, "lowest index that the first entry can have"]
    coding: Annotated[Coding, "encoding of the indices"]
    dtype: Annotated[WeightDtype, "format of the values"]
    scale: Annotated[F32, Bounds(least=0), "a value in I8 is its byte times this; the same for the whole delta"]
    data: Annotated[Tail, "bits of the indices (LSB first, padded with zeros to whole bytes), then the values"]


@dataclass(frozen=True, slots=True)
class Pull(Request):
    """Asks for entries of the delta; the answer has as many as fit."""

    type_id = 0x07
    answer = Delta
    token: Token
    rank: Annotated[U32, "rank of the first entry, counted from 0 in the order of the indices"]


@dataclass(frozen=True, slots=True)
class Weights(Record):
    """The current weights."""

    offset: Annotated[U32, "as in the request"]
    data: Annotated[Tail, "each as f32, in the order of the manifest: global weights, then local ones"]


@dataclass(frozen=True, slots=True)
class Fetch(Request):
    """Reads weights; refused until all are loaded."""

    type_id = 0x08
    answer = Weights
    offset: Annotated[U32, "index of the first weight"]
    count: Annotated[U16, "most weights that the answer may have"]


@dataclass(frozen=True, slots=True)
class Outputs(Record):
    """Outputs of the model."""

    data: Annotated[Tail, "each as f32, one row per input"]


@dataclass(frozen=True, slots=True)
class Predict(Request):
    """Runs the model forward with the current weights."""

    type_id = 0x09
    answer = Outputs
    dtype: Annotated[InputDtype, "format of the inputs"]
    scale: Annotated[F32, "an input in U8 is its byte times this"]
    data: Annotated[Tail, "one or more whole inputs"]


@dataclass(frozen=True, slots=True)
class ErrorAnswer(Record):
    """Why a request was refused."""

    status: Annotated[Status, OneOf(tuple(status for status in Status if status)), "the reason"]
    detail: Annotated[U32, "the expected value, for a status whose text has a detail; else 0"]


# --- The whole table ---


@dataclass(frozen=True)
class Constant:
    """A constant of the protocol."""

    name: str
    value: int
    doc: str


REQUESTS: tuple[type[Request], ...] = (Hello, Configure, Load, Train, Sample, Await, Pull, Fetch, Predict)
ENUMS: tuple[type[Code], ...] = (Status, Dtype, Program, Variant, SampleSet, State, Coding, Selection, Stream)
CONSTANTS: tuple[Constant, ...] = (
    Constant("PROTOCOL_VERSION", PROTOCOL_VERSION, "version of the protocol"),
    Constant("ANSWER_BIT", ANSWER_BIT, "bit that is set in the type of an answer"),
    Constant("ERROR_TYPE", ERROR_TYPE, "type of an `ErrorAnswer`"),
    Constant("FRAME_HEADER_BYTES", FRAME_HEADER_BYTES, "bytes of type and sequence"),
    Constant("FRAME_CRC_BYTES", FRAME_CRC_BYTES, "bytes of the CRC-32"),
    Constant("MIN_RECEIVE_WINDOW", MIN_RECEIVE_WINDOW, "bytes on the wire that every device can buffer"),
    Constant("MAX_RECEIVE_WINDOW", MAX_RECEIVE_WINDOW, "largest receive window"),
    Constant("MAX_PHASES", MAX_PHASES, "most phases of a program"),
    Constant("MAX_PARAMETERS", MAX_PARAMETERS, "most weights of a model"),
    Constant("RICE_ESCAPE", RICE_ESCAPE, "number of one bits after which a gap follows without Rice code"),
    Constant("RICE_RAW_BITS", RICE_RAW_BITS, "bits of a gap without Rice code"),
)


def wire_size(payload: int) -> int:
    """Most bytes on the wire of a message with ``payload`` bytes: the worst case of COBS and a 0x00 at both ends."""
    body = FRAME_HEADER_BYTES + payload + FRAME_CRC_BYTES
    return 1 + body + body // 254 + 1 + 1


def payload_capacity(window: int) -> int:
    """Largest payload whose ``wire_size`` is at most ``window``; negative if not even an empty payload fits."""
    room = window - 3
    body = room - (room + 1) // 255
    return body - FRAME_HEADER_BYTES - FRAME_CRC_BYTES


def records(requests: Sequence[type[Request]] = REQUESTS) -> list[type[Record]]:
    """All records of ``requests``, each one after the records that it contains; with ``REQUESTS``, the ErrorAnswer too."""
    found: list[type[Record]] = []

    def add(record: type[Record]) -> None:
        for kind in record.kinds().values():
            if isinstance(kind, Nested | UpTo):
                add(kind.record)
        if record not in found:
            found.append(record)

    for request in requests:
        add(request)
        if request.answer not in found:
            add(request.answer)
    if requests is REQUESTS:
        add(ErrorAnswer)
    return found


def type_id(record: type[Record]) -> int | None:
    """The type of a message on the wire; None for an answer, which has the type of its request, and for a part of a message."""
    if record is ErrorAnswer:
        return ERROR_TYPE
    return record.type_id if issubclass(record, Request) else None


def schema_hash() -> bytes:
    """First 8 bytes of SHA-256 over the table without its texts; host and firmware must have the same."""
    constants = {constant.name: constant.value for constant in CONSTANTS}
    return table_digest(ENUMS, REQUESTS, {"constants": constants})


def table_digest(
    enums: Sequence[type[Code]], requests: Sequence[type[Request]], more: Mapping[str, object] = MappingProxyType({})
) -> bytes:
    """First 8 bytes of SHA-256 over enums and requests without their texts, and over ``more`` JSON values by name."""
    table = {
        **more,
        "enums": {e.__name__: {m.name: int(m) for m in e} for e in enums},
        "records": {r.__name__: {name: kind.schema() for name, kind in r.kinds().items()} for r in records(requests)},
        "requests": {r.__name__: [r.type_id, r.answer.__name__] for r in requests},
    }
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).digest()[:8]
