"""Frames on a serial line: COBS(type, sequence, payload, CRC-32), then 0x00; firmware/core/frame.hpp does the same in C++."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from cobs import cobs  # type: ignore[import-untyped]

from tinymetafed_codegen.protocol import FRAME_CRC_BYTES, FRAME_HEADER_BYTES

KEPT_BYTES = 24  # bytes of damaged frames that a decoder keeps for an error's text


@dataclass(frozen=True, slots=True)
class Frame:
    """One valid frame; ``wire_bytes`` is its size on the wire, COBS overhead and the final 0x00 included."""

    type_id: int
    sequence: int
    payload: bytes
    wire_bytes: int


def encode(type_id: int, sequence: int, payload: bytes) -> bytes:
    """Encodes one frame.

    Args:
        type_id: Message type, 0 to 255.
        sequence: Sequence number, 0 to 255.
        payload: The packed message.

    Returns:
        The frame's bytes, the final 0x00 included.

    Raises:
        ValueError: The type or the sequence number is not in 0 to 255.
    """
    body = bytes((type_id, sequence)) + payload
    coded: bytes = cobs.encode(body + zlib.crc32(body).to_bytes(FRAME_CRC_BYTES, "little"))
    return coded + b"\0"


class Decoder:
    """Splits a stream of bytes into frames; after damaged bytes it resynchronises at the next 0x00.

    ``damaged`` counts the frames that were dropped: truncated, failed CRC, or longer than ``limit`` bytes on the wire.
    ``damage`` has the first KEPT_BYTES of such frames since ``forget_damage()``.
    """

    def __init__(self, limit: int = 1 << 17) -> None:
        self.damaged = 0
        self.damage = b""
        self._limit = limit
        self._pending = bytearray()
        self._too_long = False

    @property
    def pending(self) -> bytes:
        """The bytes received so far of a frame that is not complete."""
        return bytes(self._pending)

    def forget_damage(self) -> None:
        """Empties ``damage``."""
        self.damage = b""

    def beginning(self, size: int) -> bytes:
        """Decodes the first ``size`` bytes (type, sequence, payload) of the incomplete frame.

        Their CRC has not been checked. Returns fewer bytes if fewer have been received.
        """
        wire, out, at = self._pending, bytearray(), 0
        while at < len(wire) and len(out) < size:
            code = wire[at]
            out += wire[at + 1 : at + code]
            if code < 0xFF and at + code < len(wire):
                out.append(0)
            at += code
        return bytes(out[:size])

    def feed(self, data: bytes) -> list[Frame]:
        """Takes received bytes; returns the frames that they complete, in order."""
        *ended, rest = data.split(b"\0")
        frames = []
        for piece in ended:
            self._append(piece)
            frame = self._end()
            if frame is not None:
                frames.append(frame)
        self._append(rest)
        return frames

    def _append(self, piece: bytes) -> None:
        if len(self._pending) + len(piece) >= self._limit:
            self._too_long = True
            self._keep(self._pending)
            self._pending.clear()
        if not self._too_long:
            self._pending += piece

    def _end(self) -> Frame | None:
        wire = bytes(self._pending)
        self._pending.clear()
        too_long, self._too_long = self._too_long, False
        if not wire and not too_long:
            return None
        try:
            body = cobs.decode(wire)
        except cobs.DecodeError:
            body = b""
        content, trailer = body[:-FRAME_CRC_BYTES], body[-FRAME_CRC_BYTES:]
        if len(content) < FRAME_HEADER_BYTES or zlib.crc32(content) != int.from_bytes(trailer, "little"):
            self.damaged += 1
            self._keep(wire)
            return None
        return Frame(content[0], content[1], content[FRAME_HEADER_BYTES:], len(wire) + 1)

    def _keep(self, damaged: bytes | bytearray) -> None:
        self.damage = (self.damage + damaged)[:KEPT_BYTES]
