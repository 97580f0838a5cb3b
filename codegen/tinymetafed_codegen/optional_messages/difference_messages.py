"""Messages of firmware that takes a download as the difference from the weights that it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..messages.field_kinds import U16, U32, Bounds, Bytes8, OneOf, Tail
from ..messages.wire_record import Record, Request
from ..protocol import RICE_CODINGS, Coding, table_digest

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


DIFFERENCE_REQUESTS: tuple[type[Request], ...] = (Difference, MoreDifference, AskHeld)


def difference_schema_hash() -> bytes:
    """First 8 bytes of SHA-256, without texts, over the messages of firmware that takes differences, and their coding."""
    return table_digest((), DIFFERENCE_REQUESTS, {"step_escape": STEP_ESCAPE, "factor": FINGERPRINT_FACTOR})
