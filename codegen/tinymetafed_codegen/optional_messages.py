"""Messages that only some firmware knows, for instance that with a store, with a sensor, or with authentication.

Any other firmware answers them with UNKNOWN_TYPE. ``schema_hash`` of the wire table does not cover them; the model's hash of
firmware with a store, a sensor, authentication, secure aggregation or a downlink by difference does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from .protocol import REQUESTS, RICE_CODINGS, Coding, WeightDtype, table_digest
from .wire_record import F32, U16, U32, Bounds, Bytes8, Bytes16, Bytes32, Code, OneOf, Record, Request, Tail

# --- Of firmware with a store ---


class StoreState(Code):
    """What a board's store holds, or what the last save has met."""

    EMPTY = 0, "nothing is saved yet"
    READY = 1, "records are there"
    OTHER_MODEL = 2, "records of another model, which are not used; the first save replaces them"
    OTHER_FORMAT = 3, "records of another version of the store, which are not used; the first save replaces them"
    DAMAGED = 4, "neither records nor erased flash; the first save replaces it"
    FULL = 5, "the last record does not fit beside those that are needed; those are kept"
    WORN = 6, "the flash did not take the last record; earlier ones are kept, and nothing is written until the next reset"
    MISSING = 7, "the board has no storage; for an emulated board, no file"


@dataclass(frozen=True, slots=True)
class StoreReport(Record):
    """The state of the board's store."""

    state: Annotated[StoreState, "state of the store"]
    saves: Annotated[U32, "records saved so far"]
    erases: Annotated[U32, "erases of a slot so far; each of the two slots has had half of them"]
    rounds: Annotated[U16, "1 if the newest state after a round is of this run, else 0"]
    round: Annotated[U32, "the round of the newest state, of any run"]
    weights: Annotated[U16, "1 if weights are saved, which the board predicts with after a reset, else 0"]


@dataclass(frozen=True, slots=True)
class Recall(Request):
    """Names the run of the cycles that follow: the board continues from states that it has saved in this run."""

    type_id = 0x20
    answer = StoreReport
    run: Annotated[U32, "number of the run, the same when it is continued"]


@dataclass(frozen=True, slots=True)
class Keep(Request):
    """Saves weights, statistics and names for after a reset; what is saved already is not written again."""

    type_id = 0x21
    answer = StoreReport
    names: Annotated[Tail, "the names of the classes, in the store's length; empty: those that are saved stay"]


@dataclass(frozen=True, slots=True)
class Contents(Record):
    """What is in the board's store."""

    state: Annotated[StoreState, "state of the store"]
    names: Annotated[Tail, "the names of the classes, in UTF-8, one per line, then zeros; empty without classes or weights"]


@dataclass(frozen=True, slots=True)
class Look(Request):
    """Asks what is in the store, and changes nothing."""

    type_id = 0x22
    answer = Contents


# --- Of firmware whose own program learns ---


@dataclass(frozen=True, slots=True)
class Inspection(Record):
    """How the board has done on the samples that its own program has learned."""

    learned: Annotated[U32, "samples learned since the start"]
    error: Annotated[F32, "of the predictions before learning, of late: the share of wrong labels, or the mean distance"]
    drifted: Annotated[U16, "1 if the error has grown since (Page-Hinkley test), else 0"]


@dataclass(frozen=True, slots=True)
class Inspect(Request):
    """Asks how the board has done."""

    type_id = 0x30
    answer = Inspection


# --- Of firmware that measures itself ---


@dataclass(frozen=True, slots=True)
class Measurements(Record):
    """What the board has measured of itself since its start."""

    stack_bytes: Annotated[U32, "the deepest stack; 0: not known"]
    millivolts: Annotated[U16, "the supply voltage now; 0: not known"]
    programmed: Annotated[U32, "bytes written to the flash"]
    program_ticks: Annotated[U32, "time of these writes"]
    erased: Annotated[U32, "pages of the flash that were erased"]
    erase_ticks: Annotated[U32, "time of these erases"]


@dataclass(frozen=True, slots=True)
class Measure(Request):
    """Asks what the board has measured of itself."""

    type_id = 0x31
    answer = Measurements


# --- Of firmware with a sensor ---


class SensorState(Code):
    """What a sensor does."""

    OK = 0, "rows come, and nothing is wrong with them"
    WAITING = 1, "it has started, and no row has come yet"
    MISSING = 2, "it does not answer; for an emulated board, there is no recording"
    STUCK = 3, "all its latest rows are equal; samples are predicted, and not learned"
    NOT_FINITE = 4, "the last row has a number that is NaN or infinite; such rows are left out"
    RATE_OFF = 5, "rows come at another rate than `task.rate`, by more than a tenth"
    BAD_LABEL = 6, "the last row has a label that the model does not have, and counts as a row without label"
    ENDED = 7, "the recording that stands for the sensor has ended"


class RowFormat(Code):
    """The format of the numbers of a row."""

    F32 = 0, "IEEE 754 binary32"
    I16 = 1, "signed 16-bit numbers"


@dataclass(frozen=True, slots=True)
class SensorReport(Record):
    """How the sensor does, and what the board makes of it."""

    state: Annotated[SensorState, "state of the sensor"]
    rows: Annotated[U32, "finite rows since the sensor has started, or since a recording has begun"]
    rate: Annotated[F32, "rows per second, of late; 0: not measured"]
    samples: Annotated[U32, "samples made of the rows since the board's start"]
    learned: Annotated[U32, "of these, samples that were learned because their rows have a label"]
    refused: Annotated[U32, "rows with a label that the model does not have, since the sensor has started"]
    label: Annotated[U16, "prediction for the newest sample; 65535: there is none, or the board has no weights"]
    confidence: Annotated[F32, "the probability that the model gives to it"]
    classes: Annotated[U16, "labels of the model, which are below this number"]


@dataclass(frozen=True, slots=True)
class AskSensor(Request):
    """Asks how the sensor does."""

    type_id = 0x40
    answer = SensorReport


@dataclass(frozen=True, slots=True)
class Columns(Record):
    """What a row of the sensor is."""

    channels: Annotated[U16, Bounds(least=1), "numbers of a row"]
    format: Annotated[RowFormat, "their format in `Rows`"]
    rate: Annotated[F32, Bounds(least=0), "`task.rate`, rows per second; 0 where the experiment names none"]
    per_second: Annotated[U32, "the first column counts time in so many parts of a second; 0: no column of times"]
    names: Annotated[Tail, "the columns of a CSV file of rows, in UTF-8, with commas between them; the last is the label"]


@dataclass(frozen=True, slots=True)
class AskColumns(Request):
    """Asks what a row of the sensor is."""

    type_id = 0x41
    answer = Columns


@dataclass(frozen=True, slots=True)
class Rows(Record):
    """Rows of the sensor, one after the other; the number of each is one more than that of the row before it."""

    first: Annotated[U32, "number of the first row here; above the requested one if rows were dropped"]
    dropped: Annotated[U32, "rows of this recording that gave way to newer ones before they were fetched"]
    state: Annotated[SensorState, "state of the sensor"]
    rate: Annotated[F32, "rows per second, of late; 0: not measured"]
    data: Annotated[Tail, "per row a u16, whose bit 15 says that rows before it are missing, and whose rest is 0 or 1 + label; "
                          "then the numbers"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class PullRows(Request):
    """Fetches the rows of a recording; those before the requested one are forgotten."""

    type_id = 0x42
    answer = Rows
    recording: Annotated[U32, "random number of the recording: a new one begins it and restarts the sensor; 0: ends it"]
    row: Annotated[U32, "number of the first row that the host lacks; 0 at the beginning"]


@dataclass(frozen=True, slots=True)
class LabelSample(Request):
    """Labels the newest sample, which the board then learns."""

    type_id = 0x43
    answer = SensorReport
    request: Annotated[U32, "random number; the board learns once for each"]
    label: Annotated[U16, "the label; `BAD_VALUE` if the model does not have it"]


# --- Of authenticated firmware ---


MAC_BYTES = 8  # behind the payload of every authenticated frame
KEY_BYTES = 32
NONCE_BYTES = PROOF_BYTES = 16


@dataclass(frozen=True, slots=True)
class Enrolled(Record):
    """The board has the key."""

    kept: Annotated[U16, "1 if the board has it after a reset too, else 0"]


@dataclass(frozen=True, slots=True)
class Enroll(Request):
    """Gives the board its key, over a cable that nobody else reads; one that has a key takes another from its own host only."""

    type_id = 0x50
    answer = Enrolled
    key: Annotated[Bytes32, "random bytes that only this board and its host know"]


@dataclass(frozen=True, slots=True)
class Response(Record):
    """The board's nonce, and its proof that it has the key."""

    nonce: Annotated[Bytes16, "random bytes of the board's entropy source, new for each nonce of the host"]
    proof: Annotated[Bytes16, "keyed BLAKE2s over both nonces and the answer to `Hello`"]


@dataclass(frozen=True, slots=True)
class Challenge(Request):
    """Begins a handshake; a session in progress goes on until the host has proved that it has the key."""

    type_id = 0x51
    answer = Response
    nonce: Annotated[Bytes16, "random bytes of the host"]


@dataclass(frozen=True, slots=True)
class Proven(Record):
    """The session has begun: from now on every frame of either side has a MAC."""

    sessions: Annotated[U32, "sessions since the board's start, this one included"]


@dataclass(frozen=True, slots=True)
class Prove(Request):
    """Proves to the board that the host has the key, and begins the session."""

    type_id = 0x52
    answer = Proven
    proof: Annotated[Bytes16, "as the board's, under another label"]


@dataclass(frozen=True, slots=True)
class Refusals(Record):
    """What the board has not taken from its line since its start."""

    forged: Annotated[U32, "frames with a wrong MAC or without one, and wrong proofs"]
    replayed: Annotated[U32, "frames of this session that came again after a later one"]
    sessions: Annotated[U32, "sessions that have begun"]


@dataclass(frozen=True, slots=True)
class AskRefusals(Request):
    """Asks what the board has refused."""

    type_id = 0x53
    answer = Refusals


@dataclass(frozen=True, slots=True)
class Forgotten(Record):
    """The board has no key any more."""


@dataclass(frozen=True, slots=True)
class Forget(Request):
    """Makes the board forget its key, within a session, which goes on until the next reset or handshake."""

    type_id = 0x54
    answer = Forgotten


# --- Of firmware with secure aggregation ---

SEATS = 64  # most participants of a round: the bits of ``PullMasked.low`` and ``high``
LEAST_PARTICIPANTS = 3  # of two, each would know the other's update from the sum


@dataclass(frozen=True, slots=True)
class OwnKey(Record):
    """The board's public key."""

    key: Annotated[Bytes32, "an X25519 public key"]


@dataclass(frozen=True, slots=True)
class AskKey(Request):
    """Asks for the board's public key."""

    type_id = 0x60
    answer = OwnKey
    run: Annotated[U32, "random number of the run; a new one makes the board draw a new pair of keys and clears all seats"]


@dataclass(frozen=True, slots=True)
class Seated(Record):
    """The board knows the key."""


@dataclass(frozen=True, slots=True)
class Seat(Request):
    """Names the board that has a seat; the board computes the secret that the two share. `BAD_STATE` before `AskKey`."""

    type_id = 0x61
    answer = Seated
    seat: Annotated[U16, "number of the seat, below the most participants that the firmware was made for"]
    key: Annotated[Bytes32, "public key of the board that has it; that of the board itself, for its own seat"]


@dataclass(frozen=True, slots=True)
class Masked(Record):
    """Entries of the masked update, in the order of their indices."""

    token: Annotated[U32, "as in the request"]
    attempt: Annotated[U32, "as in the request"]
    rank: Annotated[U32, "rank of the first entry, as in the request"]
    data: Annotated[Tail, "each as u16: the rounded entry plus all masks, modulo 65536"]


@dataclass(frozen=True, slots=True)
class PullMasked(Request):
    """Asks for entries of the frozen delta with the masks of one attempt; the answer has as many as fit."""

    type_id = 0x62
    answer = Masked
    token: Annotated[U32, "the token of the cycle in progress"]
    attempt: Annotated[U32, Bounds(least=1), "number of the attempt; a new one is above all that the board has masked for"]
    low: Annotated[U32, "the participants: bit i for seat i; three or more, this board among them"]
    high: Annotated[U32, "bit i for seat 32 + i"]
    rank: Annotated[U32, "rank of the first entry, counted from 0 in the order of the indices"]


@dataclass(frozen=True, slots=True)
class Opened(Record):
    """The board's own mask of one attempt."""

    seed: Annotated[Bytes32, "the seed of that mask"]


@dataclass(frozen=True, slots=True)
class Open(Request):
    """Asks for the board's own mask, once all participants have sent; then the board masks this cycle for no other attempt."""

    type_id = 0x63
    answer = Opened
    token: Annotated[U32, "the token of the cycle in progress"]
    attempt: Annotated[U32, "the attempt that the board has masked this cycle for last"]


# --- Of firmware that codes the values of its updates ---

VALUE_ESCAPE = 24  # number of one bits after which a magnitude follows without Rice code
FIRST_INDEX_BYTES = 3


class ValueCoding(Code):
    """How the values of an update are written; a magnitude above the least one of the update is a small number."""

    (RICE_0, RICE_1, RICE_2, RICE_3, RICE_4, RICE_5, RICE_6) = (
        (parameter, f"Rice codes of the magnitudes less the least one, parameter {parameter}; then signs")
        for parameter in range(7)
    )
    SIGNS = 254, "signs alone: all magnitudes are the least one"
    PACKED = 255, "each value as in `Delta`"


VALUE_RICE_CODINGS = tuple(coding for coding in ValueCoding if coding < ValueCoding.SIGNS)  # each is its Rice parameter


@dataclass(frozen=True, slots=True)
class CodedDelta(Record):
    """Some of the selected entries of the delta, in the order of their indices, as `Delta` has them."""

    rank: Annotated[U32, "rank of the first entry, as in the request"]
    count: Annotated[U16, Bounds(least=1), "entries in this message"]
    indices: Annotated[Coding, "encoding of the indices"]
    values: Annotated[ValueCoding, "encoding of the values; the same in all messages of a delta"]
    dtype: Annotated[WeightDtype, "format of the values"]
    scale: Annotated[F32, Bounds(least=0), "a value in I8 is its number times this; the same for the whole delta"]
    data: Annotated[
        Tail,
        f"the first index in {FIRST_INDEX_BYTES} bytes; two strings of bits, LSB first, padded with zeros to a byte: gaps; "
        "the least magnitude, unless values are packed, and values",
    ]


@dataclass(frozen=True, slots=True)
class PullCoded(Request):
    """Asks for entries of the delta as `Pull` does; the answer has as many as fit."""

    type_id = 0x78
    answer = CodedDelta
    token: Annotated[U32, "the token of the cycle in progress"]
    rank: Annotated[U32, "rank of the first entry, counted from 0 in the order of the indices"]


# --- Of firmware that takes differences of weights ---

STEP_ESCAPE = 12  # number of one bits after which the magnitude of a step follows without Rice code
FINGERPRINT_FACTOR = 0x5851F42D4C957F2D  # of the fingerprint of a version; Knuth's multiplier, TAOCP 3.3.4


@dataclass(frozen=True, slots=True)
class Taken(Record):
    """How far the board is in the difference."""

    next: Annotated[U32, "entries that it has taken, counted from the first"]


@dataclass(frozen=True, slots=True)
class Difference(Request):
    """Begins a cycle, as a `Load` does, with what differs from the weights that the board holds."""

    type_id = 0x70
    answer = Taken
    token: Annotated[U32, "as in `Load`"]
    base: Annotated[Bytes8, "fingerprint of the version that the board holds; `BAD_STATE` if it holds another one or none"]
    result: Annotated[Bytes8, "fingerprint of the new version; `BAD_VALUE` if the weights after the last entry are another one"]
    entries: Annotated[U32, "entries of the whole difference; 0: the versions are equal"]
    gaps: Annotated[Coding, OneOf((*RICE_CODINGS, Coding.RUN)), "coding of the gaps between entries, as in `Delta`"]
    steps: Annotated[U16, "Rice parameter of the steps, from which the exponent of the old weight is subtracted"]
    count: Annotated[U16, "entries in this message"]
    data: Annotated[Tail, "bits of the entries, LSB first, padded with zeros to whole bytes"]


@dataclass(frozen=True, slots=True)
class MoreDifference(Request):
    """The next entries of a difference that has begun."""

    type_id = 0x71
    answer = Taken
    token: Annotated[U32, "the token of the cycle in progress"]
    rank: Annotated[U32, "rank of the first entry here; entries that the board has are not taken again"]
    count: Annotated[U16, Bounds(least=1), "entries in this message"]
    data: Annotated[Tail, "as in `Difference`"]


@dataclass(frozen=True, slots=True)
class Held(Record):
    """The version of the global weights that the board holds: the one that it received last."""

    whole: Annotated[U16, "1 if it holds one; 0 after a reset, or while weights arrive"]
    version: Annotated[Bytes8, "its fingerprint, computed when it was complete; zeros if there is none"]


@dataclass(frozen=True, slots=True)
class AskHeld(Request):
    """Asks which version the board holds."""

    type_id = 0x72
    answer = Held


# --- All of them ---


STORE_REQUESTS: tuple[type[Request], ...] = (Recall, Keep, Look)
OWN_PROGRAM_REQUESTS: tuple[type[Request], ...] = (Inspect,)  # known once the program has learned
MEASURE_REQUESTS: tuple[type[Request], ...] = (Measure,)
SENSOR_REQUESTS: tuple[type[Request], ...] = (AskSensor, AskColumns, PullRows, LabelSample)
AUTHENTICATION_REQUESTS: tuple[type[Request], ...] = (Enroll, Challenge, Prove, AskRefusals, Forget)
SECURE_REQUESTS: tuple[type[Request], ...] = (AskKey, Seat, PullMasked, Open)
CODED_REQUESTS: tuple[type[Request], ...] = (PullCoded,)
DIFFERENCE_REQUESTS: tuple[type[Request], ...] = (Difference, MoreDifference, AskHeld)
ALL_REQUESTS: tuple[type[Request], ...] = (
    *REQUESTS,
    *STORE_REQUESTS,
    *OWN_PROGRAM_REQUESTS,
    *MEASURE_REQUESTS,
    *SENSOR_REQUESTS,
    *AUTHENTICATION_REQUESTS,
    *SECURE_REQUESTS,
    *CODED_REQUESTS,
    *DIFFERENCE_REQUESTS,
)
STORE_ENUMS: tuple[type[Code], ...] = (StoreState,)
SENSOR_ENUMS: tuple[type[Code], ...] = (SensorState, RowFormat)
CODED_ENUMS: tuple[type[Code], ...] = (ValueCoding,)


def store_schema_hash() -> bytes:
    """First 8 bytes of SHA-256 over the messages of firmware with a store, without their texts."""
    return table_digest(STORE_ENUMS, STORE_REQUESTS)


def sensor_schema_hash() -> bytes:
    """The same for the messages of firmware with a sensor."""
    return table_digest(SENSOR_ENUMS, SENSOR_REQUESTS)


def authentication_schema_hash() -> bytes:
    """The same for the messages of authenticated firmware, and the bytes of a MAC."""
    return table_digest((), AUTHENTICATION_REQUESTS, {"mac": MAC_BYTES})


def secure_schema_hash() -> bytes:
    """The same for the messages of firmware with secure aggregation."""
    return table_digest((), SECURE_REQUESTS)


def coded_schema_hash() -> bytes:
    """The same for the messages of firmware that codes the values of its updates."""
    return table_digest(CODED_ENUMS, CODED_REQUESTS, {"escape": VALUE_ESCAPE, "first": FIRST_INDEX_BYTES})


def difference_schema_hash() -> bytes:
    """The same for the messages of firmware that takes differences, and the constants of their coding."""
    return table_digest((), DIFFERENCE_REQUESTS, {"step_escape": STEP_ESCAPE, "factor": FINGERPRINT_FACTOR})
