"""Messages of firmware with a store: what is saved, and what is there after a reset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..messages.field_kinds import U16, U32, Code, Tail
from ..messages.wire_record import Record, Request
from ..protocol import table_digest


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


STORE_REQUESTS: tuple[type[Request], ...] = (Recall, Keep, Look)
STORE_ENUMS: tuple[type[Code], ...] = (StoreState,)


def store_schema_hash() -> bytes:
    """First 8 bytes of SHA-256, without texts, over the messages of firmware with a store."""
    return table_digest(STORE_ENUMS, STORE_REQUESTS)
