"""Messages of firmware with secure aggregation: public keys, masked updates, and the board's own mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..messages.field_kinds import U16, U32, Bounds, Bytes32, Tail
from ..messages.wire_record import Record, Request
from ..protocol import table_digest

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


SECURE_REQUESTS: tuple[type[Request], ...] = (AskKey, Seat, PullMasked, Open)


def secure_schema_hash() -> bytes:
    """First 8 bytes of SHA-256, without texts, over the messages of firmware with secure aggregation."""
    return table_digest((), SECURE_REQUESTS)
