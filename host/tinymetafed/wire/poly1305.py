"""Poly1305 of RFC 8439 without the addition at its end; firmware/core/crypto/poly1305.hpp does the same in C++."""

from __future__ import annotations

BLOCK_BYTES = DIGEST_BYTES = FACTOR_BYTES = 16
_PRIME = (1 << 130) - 5
_CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF


class Poly1305:
    """A hash under a secret factor: two messages collide for few of its 2^106 factors.

    It is no MAC by itself: who sees hashes can compute the factor. A pseudorandom function of the hash is one.
    """

    def __init__(self, factor: bytes) -> None:
        """Takes 16 bytes, of which those bits do not count that RFC 8439 clamps."""
        self._factor = int.from_bytes(factor, "little") & _CLAMP

    def digest(self, message: bytes) -> bytes:
        """The hash of a message, 16 bytes."""
        total = 0
        for at in range(0, len(message), BLOCK_BYTES):
            total = (total + int.from_bytes(message[at : at + BLOCK_BYTES] + b"\1", "little")) * self._factor % _PRIME
        return (total & (1 << 8 * DIGEST_BYTES) - 1).to_bytes(DIGEST_BYTES, "little")
