"""Messages of firmware whose weights or updates travel as levels, whole numbers of few bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..messages.field_kinds import F32, U16, U32, Bounds, Code, Tail
from ..messages.wire_record import Record, Request
from ..protocol import Coding, table_digest
from .coded_messages import FIRST_INDEX_BYTES

CHANCE_BITS = 16  # of a probability, which counts in 1 / 2^16
CODER_BITS = 12  # of a probability as it divides the coder's range
SLOWEST = 6  # a probability moves by 2^-1 to 2^-SLOWEST of its distance, the less the more bits it has seen
GAP_CLASSES = 12  # classes of gaps with probabilities of their own; the last one stands for all above


class LevelCoding(Code):
    """How the levels of a message are written."""

    PACKED = 0, "each in as many bits as the format has"
    RANGE = 1, "an adaptive binary range code"


@dataclass(frozen=True, slots=True)
class LevelsLoaded(Record):
    """How many weights the device has."""

    next_offset: Annotated[U32, "number of weights that the device has, counted from the first"]


@dataclass(frozen=True, slots=True)
class LoadLevels(Request):
    """Writes global weights, as `Load` does; a message may hold weights of several tensors."""

    type_id = 0x79
    answer = LevelsLoaded
    token: Annotated[U32, "as in `Load`"]
    offset: Annotated[U32, "as in `Load`"]
    count: Annotated[U16, Bounds(least=1), "weights in this message"]
    coding: Annotated[LevelCoding, "encoding of the levels"]
    data: Annotated[Tail, "the scale, as f32, of each tensor whose first weight is in this message; then the levels"]


@dataclass(frozen=True, slots=True)
class LevelDelta(Record):
    """Some of the selected entries of the delta, in the order of their indices, as `Delta` has them."""

    rank: Annotated[U32, "rank of the first entry, as in the request"]
    count: Annotated[U16, Bounds(least=1), "entries in this message"]
    coding: Annotated[LevelCoding, "encoding of gaps and levels"]
    gaps: Annotated[Coding, "encoding of the gaps between packed entries; `RUN` in a range code, which holds them too"]
    scale: Annotated[F32, Bounds(least=0), "a value is its level times this; the same for the whole delta"]
    data: Annotated[Tail, f"the first index in {FIRST_INDEX_BYTES} bytes; then gaps and levels"]


@dataclass(frozen=True, slots=True)
class PullLevels(Request):
    """Asks for entries of the delta as `Pull` does; the answer has as many as fit."""

    type_id = 0x7A
    answer = LevelDelta
    token: Annotated[U32, "the token of the cycle in progress"]
    rank: Annotated[U32, "rank of the first entry, counted from 0 in the order of the indices"]


LOAD_REQUESTS: tuple[type[Request], ...] = (LoadLevels,)
PULL_REQUESTS: tuple[type[Request], ...] = (PullLevels,)
LEVEL_REQUESTS = LOAD_REQUESTS + PULL_REQUESTS
LEVEL_ENUMS: tuple[type[Code], ...] = (LevelCoding,)


def level_schema_hash() -> bytes:
    """First 8 bytes of SHA-256, without texts, over the messages of firmware with levels, and the facts of their code."""
    facts = {"chance": CHANCE_BITS, "coder": CODER_BITS, "slowest": SLOWEST, "gaps": GAP_CLASSES, "first": FIRST_INDEX_BYTES}
    return table_digest(LEVEL_ENUMS, LEVEL_REQUESTS, facts)
