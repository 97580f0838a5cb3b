"""Messages of authenticated firmware: its key, the handshake, and what it has refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..messages.field_kinds import U16, U32, Bytes16, Bytes32
from ..messages.wire_record import Record, Request
from ..protocol import table_digest

MAC_BYTES = 8  # behind the payload of every authenticated frame
KEY_BYTES = 32
NONCE_BYTES = PROOF_BYTES = 16
HASHED_ABOVE = 55  # bytes of type, sequence and payload that fit one block of BLAKE2s beside direction and counter


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


AUTHENTICATION_REQUESTS: tuple[type[Request], ...] = (Enroll, Challenge, Prove, AskRefusals, Forget)


def authentication_schema_hash() -> bytes:
    """First 8 bytes of SHA-256, without texts, over the messages of authenticated firmware, and how a MAC is made."""
    return table_digest((), AUTHENTICATION_REQUESTS, {"mac": MAC_BYTES, "hashed_above": HASHED_ABOVE})
