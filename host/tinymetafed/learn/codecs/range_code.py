"""An adaptive binary range coder and the code of levels and gaps; same bytes as firmware/core/levels/level_code.hpp.

The range is divided in proportion to the chance of a 0. What is written is the lower end of the last range, in full: it is
the only string of bytes of these bits, and after the last bit a decoder stands at exactly that end.

A number is written as its class, the number of its bits, and the bits behind the first one, of which two have chances of
their own in each class and the others are even. The class is written in ones and a zero: of gaps from 0 on, of levels from
the largest class down. The sign of a level follows, 1 for a negative one; a 0 has none. The same functions write and read: a
coder is an Encoder, or a Decoder, to which the numbers do not matter.
"""

from __future__ import annotations

from typing import ClassVar

from tinymetafed_codegen.optional_messages.level_messages import CHANCE_BITS, CODER_BITS, GAP_CLASSES, SLOWEST
from tinymetafed_codegen.protocol import RICE_RAW_BITS

END_BYTES = 4  # written after the last bit
_LEAST = 1 << 24  # below it the highest byte of the range's end is known
_WORD = (1 << 32) - 1


class Chance:
    """The probability that a bit is 0, in 1 / 2^CHANCE_BITS. It follows the bits that it is used for: the first ones most."""

    __slots__ = ("left", "speed", "zero")

    def __init__(self) -> None:
        self.zero = 1 << CHANCE_BITS - 1
        self.speed = 1
        self.left = 1  # bits until it slows down

    def part(self, span: int) -> int:
        """The part of a range of ``span`` that belongs to a 0."""
        return (span >> CODER_BITS) * (self.zero >> CHANCE_BITS - CODER_BITS)

    def learn(self, bit: int) -> None:
        """Follows a bit."""
        if bit:
            self.zero -= self.zero >> self.speed
        else:
            self.zero += (1 << CHANCE_BITS) - self.zero >> self.speed
        self.left -= 1
        if not self.left:
            self.speed = min(self.speed + 1, SLOWEST)
            self.left = 1 << self.speed - 1


class Encoder:
    """Writes bits."""

    reads: ClassVar[bool] = False

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._low = 0
        self._range = _WORD

    def bit(self, chance: Chance, bit: int) -> int:
        """Writes a bit and returns it."""
        part = chance.part(self._range)
        chance.learn(bit)
        return self._take(bit, part, self._range - part)

    def even(self, bit: int) -> int:
        """Writes a bit that is 0 as often as 1, and returns it."""
        half = self._range >> 1
        return self._take(bit, half, half)

    @property
    def size(self) -> int:
        """Bytes of all bits so far, with the end."""
        return len(self._bytes) + END_BYTES

    def finish(self) -> bytes:
        """The bytes of all bits; nothing may be written afterwards."""
        for _ in range(END_BYTES):
            self._emit()
        return bytes(self._bytes)

    def _take(self, bit: int, part: int, rest: int) -> int:
        if bit:
            self._low += part
            self._range = rest
            if self._low > _WORD:
                self._low &= _WORD
                at = len(self._bytes) - 1
                while self._bytes[at] == 0xFF:
                    self._bytes[at] = 0
                    at -= 1
                self._bytes[at] += 1
        else:
            self._range = part
        while self._range < _LEAST:
            self._emit()
            self._range <<= 8
        return bit

    def _emit(self) -> None:
        self._bytes.append(self._low >> 24)
        self._low = self._low << 8 & _WORD


class Decoder:
    """Reads bits; the argument ``bit`` of its methods is not used."""

    reads: ClassVar[bool] = True

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._range = _WORD
        self._code = 0
        for _ in range(END_BYTES):
            self._code = self._code << 8 | self._next()

    def bit(self, chance: Chance, bit: int) -> int:  # the encoder's interface
        """Reads a bit."""
        part = chance.part(self._range)
        found = int(self._code >= part)
        chance.learn(found)
        return self._take(found, part, self._range - part)

    def even(self, bit: int) -> int:
        """Reads a bit that is 0 as often as 1."""
        half = self._range >> 1
        return self._take(int(self._code >= half), half, half)

    @property
    def is_used_up(self) -> bool:
        """Whether these were all bits, and the bytes are those that an encoder writes for them."""
        return self._at == len(self._data) and self._code == 0

    def _take(self, bit: int, part: int, rest: int) -> int:
        if bit:
            self._code -= part
            self._range = rest
        else:
            self._range = part
        while self._range < _LEAST:
            self._code = (self._code << 8 | self._next()) & _WORD
            self._range <<= 8
        return bit

    def _next(self) -> int:
        self._at += 1  # beyond the end it never equals the length again
        return self._data[self._at - 1] if self._at <= len(self._data) else 0


class NumberCode:
    """The code of numbers of at most ``top`` bits. The classes from ``kept`` - 1 on share their chances."""

    def __init__(self, top: int, kept: int, *, from_top: bool) -> None:
        self._top = top
        self._last = kept - 1
        self._from_top = from_top
        self._ones = [Chance() for _ in range(kept)]
        self._second = [Chance() for _ in range(kept)]
        self._third = [(Chance(), Chance()) for _ in range(kept)]

    def code(self, coder: Encoder | Decoder, number: int = 0) -> int:
        """Writes ``number`` and returns it; or returns the one that is read."""
        size = number.bit_length()
        place = self._top - size if self._from_top else size
        ones = 0
        while ones < self._top and coder.bit(self._ones[min(ones, self._last)], int(ones < place)):
            ones += 1
        size = self._top - ones if self._from_top else ones
        if size < 2:
            return size
        kept = min(size, self._last)
        found = 2 | coder.bit(self._second[kept], number >> size - 2 & 1)
        if size < 3:
            return found
        found = found << 1 | coder.bit(self._third[kept][found & 1], number >> size - 3 & 1)
        for left in range(size - 4, -1, -1):
            found = found << 1 | coder.even(number >> left & 1)
        return found


class LevelCode:
    """The code of levels of ``bits`` bits."""

    def __init__(self, bits: int) -> None:
        self._magnitude = NumberCode(bits - 1, bits, from_top=True)

    def code(self, coder: Encoder | Decoder, level: int = 0) -> int:
        """Writes ``level`` and returns it; or returns the one that is read."""
        found = self._magnitude.code(coder, abs(level))
        return -found if found and coder.even(int(level < 0)) else found


def gap_code() -> NumberCode:
    """The code of the gaps between the entries of an update."""
    return NumberCode(RICE_RAW_BITS, GAP_CLASSES, from_top=False)
