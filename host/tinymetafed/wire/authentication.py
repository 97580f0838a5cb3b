"""Keys, proofs and MACs of authenticated frames; firmware/core/authentication/authentication.hpp does the same in C++."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import IntEnum

from tinymetafed_codegen.optional_messages.authentication_messages import KEY_BYTES, MAC_BYTES, PROOF_BYTES

COUNTER_BYTES = 8


class _Label(IntEnum):
    """What a keyed hash over both nonces and the answer to Hello is used for."""

    BOARD_PROVES = 0
    HOST_PROVES = 1
    KEY_DOWN = 2
    KEY_UP = 3


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
    def host_proof(self) -> bytes:
        """Proves that the host has the key, 16 bytes."""
        return self._derived(_Label.HOST_PROVES)[:PROOF_BYTES]

    def session(self) -> SessionKeys:
        """The keys of the session that begins with the host's proof."""
        return SessionKeys(self._derived(_Label.KEY_DOWN), self._derived(_Label.KEY_UP))

    def _derived(self, label: _Label) -> bytes:
        said = bytes([label]) + self.hello + self.host_nonce + self.board_nonce
        return hashlib.blake2s(said, key=self.key, digest_size=KEY_BYTES).digest()


class SessionKeys:
    """Computes the MACs of one session; each direction has a key of its own.

    A MAC covers direction, counter, type, sequence number and payload. The counter of an answer is that of its request.
    """

    def __init__(self, down: bytes, up: bytes) -> None:
        """Takes the keys of requests and answers, 32 bytes each."""
        self._keyed = {
            way: hashlib.blake2s(bytes([way]), key=key, digest_size=MAC_BYTES)
            for way, key in ((_Direction.DOWN, down), (_Direction.UP, up))
        }

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
        mac = self._keyed[way].copy()
        mac.update(counter.to_bytes(COUNTER_BYTES, "little") + bytes((type_id, counter & 0xFF)) + payload)
        return mac.digest()


def same(one: bytes, other: bytes) -> bool:
    """Whether two secrets are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one, other)
