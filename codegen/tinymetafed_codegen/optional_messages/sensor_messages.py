"""Messages of firmware with a sensor: how it does, its rows for a recording, and labels for its samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..messages.field_kinds import F32, U16, U32, Bounds, Code, Tail
from ..messages.wire_record import Record, Request
from ..protocol import table_digest


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
    rate: Annotated[F32, "recent rows per second; 0: not measured"]
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
    rate: Annotated[F32, "recent rows per second; 0: not measured"]
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


SENSOR_REQUESTS: tuple[type[Request], ...] = (AskSensor, AskColumns, PullRows, LabelSample)
SENSOR_ENUMS: tuple[type[Code], ...] = (SensorState, RowFormat)


def sensor_schema_hash() -> bytes:
    """First 8 bytes of SHA-256, without texts, over the messages of firmware with a sensor."""
    return table_digest(SENSOR_ENUMS, SENSOR_REQUESTS)
