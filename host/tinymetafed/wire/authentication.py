"""Keys, proofs and MACs of authenticated frames; firmware/core/authentication/authentication.hpp does the same in C++."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import IntEnum

from tinymetafed_codegen.optional_messages.authentication_messages import (
    HASHED_ABOVE,
    KEY_BYTES,
    MAC_BYTES,
    PROOF_BYTES,
)

from .poly1305 import FACTOR_BYTES, Poly1305

COUNTER_BYTES = 8
_HASHED = 2  # is added to the direction of a frame whose hash stands for it


class _Label(IntEnum):
    """What a keyed hash over both nonces and the answer to Hello is used for. Earlier firmware had 0 to 3, and other MACs."""

    EARLIER_BOARD_PROVES = 0
    BOARD_PROVES = 4
    HOST_PROVES = 5
    SESSION_KEY = 6
    FACTOR = 7


class _Direction(IntEnum):
    DOWN = 0
    UP = 1


@dataclass(frozen=True)
class Handshake:
    """What both sides know once they have exchanged nonces.

    Attributes:
        key: The board's key, 32 bytes.
        hello: The payload of the board's answer to Hello, which has its id and the hashes of model and schema.
        host_nonce: 16 random bytes of the host.
        board_nonce: 16 random bytes of the board.
    """

    key: bytes = field(repr=False)
    hello: bytes
    host_nonce: bytes
    board_nonce: bytes

    @property
    def board_proof(self) -> bytes:
        """Proves that the board has the key, 16 bytes."""
        return self._derived(_Label.BOARD_PROVES)[:PROOF_BYTES]

    @property
    def earlier_board_proof(self) -> bytes:
        """The same from firmware of an earlier version, whose frames have other MACs."""
        return self._derived(_Label.EARLIER_BOARD_PROVES)[:PROOF_BYTES]

    @property
    def host_proof(self) -> bytes:
        """Proves that the host has the key, 16 bytes."""
        return self._derived(_Label.HOST_PROVES)[:PROOF_BYTES]

    def session(self) -> SessionKeys:
        """The keys of the session that begins with the host's proof."""
        return SessionKeys(self._derived(_Label.SESSION_KEY), self._derived(_Label.FACTOR)[:FACTOR_BYTES])

    def _derived(self, label: _Label) -> bytes:
        said = bytes([label]) + self.hello + self.host_nonce + self.board_nonce
        return hashlib.blake2s(said, key=self.key, digest_size=KEY_BYTES).digest()


class SessionKeys:
    """Computes the MACs of one session.

    A MAC covers direction, counter, type, sequence number and payload. The counter of an answer is that of its request. Where
    these do not fit one block of BLAKE2s, a hash of the frame stands for type, sequence number and payload.
    """

    def __init__(self, key: bytes, factor: bytes) -> None:
        """Takes the session's key, 32 bytes, and the factor of its hash, 16 bytes."""
        self._keyed = hashlib.blake2s(key=key, digest_size=MAC_BYTES)
        self._hash = Poly1305(factor)

    def sealed(self, counter: int, type_id: int, payload: bytes) -> bytes:
        """A request's payload with its MAC behind it."""
        return payload + self._mac(_Direction.DOWN, counter, type_id, payload)

    def opened(self, counter: int, type_id: int, payload: bytes) -> bytes | None:
        """An answer's payload without its MAC; None if the MAC is wrong."""
        return self._opened(_Direction.UP, counter, type_id, payload)

    def opened_request(self, counter: int, type_id: int, payload: bytes) -> bytes | None:
        """A request's payload without its MAC; None if the MAC is wrong."""
        return self._opened(_Direction.DOWN, counter, type_id, payload)

    def _opened(self, way: _Direction, counter: int, type_id: int, payload: bytes) -> bytes | None:
        content, mac = payload[:-MAC_BYTES], payload[-MAC_BYTES:]
        return content if hmac.compare_digest(mac, self._mac(way, counter, type_id, content)) else None

    def _mac(self, way: _Direction, counter: int, type_id: int, payload: bytes) -> bytes:
        frame = bytes((type_id, counter & 0xFF)) + payload
        if is_long := len(frame) > HASHED_ABOVE:
            frame = self._hash.digest(frame)
        mac = self._keyed.copy()
        mac.update(bytes([way + _HASHED * is_long]) + counter.to_bytes(COUNTER_BYTES, "little") + frame)
        return mac.digest()


def same(one: bytes, other: bytes) -> bool:
    """Whether two secrets are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one, other)
