"""Fields of messages between server and gateways as bytes: written one after the other, and read back strictly."""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.errors import Error

_VARINT_BYTES = 10
_F32 = struct.Struct("<f")


class GatewayMessageError(Error):
    """A message between server and gateway that is damaged, too long, or not what was expected."""


def _is_control(character: str) -> bool:
    """Whether it is a control character, which a terminal may obey, but no line end and no tab."""
    return character not in "\n\t" and unicodedata.category(character) == "Cc"


class FieldWriter:
    """Appends fields to a message."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def number(self, value: int) -> None:
        """A whole number from 0 to 2^64 - 1, seven bits to a byte, the lowest first."""
        assert 0 <= value < 1 << 64
        encoded = bytearray()
        while value > 0x7F:
            encoded.append(value & 0x7F | 0x80)
            value >>= 7
        encoded.append(value)
        self._parts.append(bytes(encoded))

    def signed(self, value: int) -> None:
        """A whole number with a sign: 0, -1, 1, -2 … as 0, 1, 2, 3 …"""
        self.number(2 * value if value >= 0 else -2 * value - 1)

    def real(self, value: float) -> None:
        """A float32."""
        self._parts.append(_F32.pack(value))

    def content(self, content: bytes) -> None:
        """Bytes, after their number."""
        self.number(len(content))
        self._parts.append(content)

    def raw(self, content: bytes) -> None:
        """Bytes whose number the reader knows."""
        self._parts.append(content)

    def text(self, text: str, most: int) -> None:
        """Text as UTF-8, cut to ``most`` bytes between two characters; a question mark stands for each that is not text."""
        plain = "".join("?" if _is_control(character) else character for character in text[:most])
        self.content(plain.encode(errors="replace")[:most].decode(errors="ignore").encode())

    def numbers(self, values: Sequence[int]) -> None:
        """Whole numbers from 0 on, after their number; neighbours that differ little take little."""
        self.number(len(values))
        before = 0
        for value in values:
            self.signed(value - before)
            before = value

    def finished(self) -> bytes:
        """The message."""
        return b"".join(self._parts)


class FieldReader:
    """Reads what a FieldWriter wrote; every method raises GatewayMessageError instead of reading beyond the end."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def raw(self, count: int) -> bytes:
        """So many bytes."""
        if count > len(self._content) - self._at:
            raise GatewayMessageError(f"message ends at byte {len(self._content)}, in a field of {count} bytes")
        self._at += count
        return self._content[self._at - count : self._at]

    def number(self, most: int = (1 << 64) - 1) -> int:
        """A whole number from 0 to ``most``."""
        value = 0
        for place in range(_VARINT_BYTES):
            byte = self.raw(1)[0]
            value |= (byte & 0x7F) << 7 * place
            if byte <= 0x7F:
                if value > most or (place and not byte):
                    raise GatewayMessageError(f"message: {value} at byte {self._at}, expected 0 to {most} in its shortest form")
                return value
        raise GatewayMessageError(f"message: a number at byte {self._at} does not end")

    def signed(self, most: int = (1 << 62)) -> int:
        """A whole number from -``most`` to ``most``."""
        value = self.number(2 * most)
        return value // 2 if value % 2 == 0 else -(value // 2) - 1

    def real(self) -> float:
        """A finite float32."""
        value = float(_F32.unpack(self.raw(4))[0])
        if not np.isfinite(value):
            raise GatewayMessageError(f"message: {value} at byte {self._at} is not finite")
        return value

    def content(self, most: int) -> bytes:
        """Up to ``most`` bytes."""
        return self.raw(self.number(most))

    def text(self, most: int) -> str:
        """Text of up to ``most`` bytes, without control characters but line ends and tabs."""
        try:
            text = self.content(most).decode()
        except UnicodeDecodeError:
            raise GatewayMessageError(f"message: a text that ends at byte {self._at} is not UTF-8") from None
        if any(map(_is_control, text)):
            raise GatewayMessageError(f"message: a text that ends at byte {self._at} has control characters")
        return text

    def numbers(self, most_numbers: int, most: int) -> list[int]:
        """Up to ``most_numbers`` whole numbers from 0 to ``most``."""
        found: list[int] = []
        before = 0
        for _ in range(self.number(most_numbers)):
            before += self.signed()
            if not 0 <= before <= most:
                raise GatewayMessageError(f"message: {before} at byte {self._at}, expected 0 to {most}")
            found.append(before)
        return found

    def array(self, count: int, layout: str) -> npt.NDArray[np.generic]:
        """``count`` numbers of a NumPy type."""
        dtype = np.dtype(layout)
        return np.frombuffer(self.raw(count * dtype.itemsize), dtype)

    def end(self) -> None:
        """Raises GatewayMessageError if something is left."""
        if left := len(self._content) - self._at:
            raise GatewayMessageError(f"message: {left} bytes are left over at its end")
