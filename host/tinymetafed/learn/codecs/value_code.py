"""The code of an update's values in fewer bits than they have; same bits as firmware/core/coded/value_code.hpp.

Values are whole numbers of ``width`` bits. A string of bits, LSB first, has the least magnitude in ``width - 1`` bits, unless
values are packed, and then each value:

- Rice with parameter r, for m = magnitude - least: ``m >> r`` ones, a zero, then the r low bits of m. If ``m >> r`` is
  VALUE_ESCAPE or more: VALUE_ESCAPE ones, then m in ``width - 1`` bits. The sign follows, 1 for a negative number; a zero has
  none.
- Apart, parameter r: the same, but m = 0 is a zero bit, and any other m is coded as m - 1 with one more one.
- Signs: the sign alone; every magnitude is the least one.
- Packed: the number in ``width`` bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.optional_messages.coded_messages import (
    VALUE_APART,
    VALUE_ESCAPE,
    VALUE_RICE_CODINGS,
    ValueCoding,
)

from . import rice
from .rice import Bits, Numbers


@dataclass(frozen=True, slots=True)
class _Rice:
    """The code of m, a magnitude above the least one, without its sign; ``apart``: 1 if m = 0 has a code of its own, else 0."""

    parameter: int
    apart: int

    @classmethod
    def of(cls, coding: ValueCoding) -> Self:
        apart, parameter = divmod(coding, VALUE_APART)
        return cls(parameter, apart)

    def quotients(self, above: Numbers) -> Numbers:
        found: Numbers = np.where(above < self.apart, 0, (above - self.apart >> self.parameter) + self.apart)
        return found

    def bits(self, above: Numbers, width: int) -> Numbers:
        """How many each m takes."""
        ones = self.quotients(above)
        low = np.where(above < self.apart, 0, self.parameter)
        found: Numbers = np.where(ones < VALUE_ESCAPE, ones + 1 + low, VALUE_ESCAPE + width - 1)
        return found


@cache
def _rice_codings(width: int) -> tuple[list[ValueCoding], Numbers]:
    """The codings of numbers of this width, and the bits of every m: int64[codings, 2^(width - 1)]."""
    codings = [coding for coding in VALUE_RICE_CODINGS if _Rice.of(coding).parameter < width - 1]
    above = np.arange(1 << width - 1)
    return codings, np.stack([_Rice.of(coding).bits(above, width) for coding in codings])


class ValueCodeError(Error):
    """Bits that are no values in this code."""


@dataclass(frozen=True, slots=True)
class ValueCode:
    """How values of ``width`` bits are written: their coding, and the least of their magnitudes (0 where it is not used)."""

    coding: ValueCoding
    least: int
    width: int

    @classmethod
    def best(cls, values: Numbers, width: int) -> Self:
        """The code that takes the fewest bits; among equals the lowest coding, and packed last."""
        counts = np.bincount(np.abs(values))
        least, most = int(np.flatnonzero(counts)[0]), counts.size - 1
        head_and_signs = width - 1 + values.size - int(counts[0])
        if least == most:
            coding, fewest = ValueCoding.SIGNS, head_and_signs
        else:
            codings, each = _rice_codings(width)
            bits = each[:, : most - least + 1] @ counts[least:]
            coding, fewest = codings[int(bits.argmin())], head_and_signs + int(bits.min())
        return cls(coding, least, width) if fewest <= values.size * width else cls(ValueCoding.PACKED, 0, width)

    @property
    def head_bits(self) -> int:
        """Bits before the values."""
        return 0 if self.coding == ValueCoding.PACKED else self.width - 1

    def lengths(self, values: Numbers) -> Numbers:
        """Bits of each value, int64 of the same shape."""
        if self.coding == ValueCoding.PACKED:
            return np.full(values.size, self.width)
        signs: Numbers = (values != 0).astype(np.int64)
        if self.coding == ValueCoding.SIGNS:
            return signs
        found: Numbers = signs + _Rice.of(self.coding).bits(np.abs(values) - self.least, self.width)
        return found

    def write(self, values: Numbers) -> Bits:
        """The bits of the least magnitude and of the values, one bit per element."""
        lengths = self.lengths(values)
        ends = self.head_bits + np.cumsum(lengths)
        starts = ends - lengths
        bits = np.zeros(self.head_bits + int(lengths.sum()), dtype=np.uint8)
        if self.coding == ValueCoding.PACKED:
            rice.put(bits, starts, values, self.width)
            return bits
        rice.put(bits, np.zeros(1, dtype=np.int64), np.array([self.least]), self.head_bits)
        if self.coding != ValueCoding.SIGNS:
            code, above = _Rice.of(self.coding), np.abs(values) - self.least
            quotients = code.quotients(above)
            escaped = quotients >= VALUE_ESCAPE
            ones = np.where(escaped, VALUE_ESCAPE, quotients)
            rice.put_ones(bits, starts, ones)
            has_low = ~escaped & (above >= code.apart)
            rice.put(bits, (starts + ones + 1)[has_low], above[has_low] - code.apart, code.parameter)
            rice.put(bits, (starts + ones)[escaped], above[escaped], self.width - 1)
        bits[ends[values < 0] - 1] = 1
        return bits

    @classmethod
    def read(cls, bits: Bits, count: int, coding: ValueCoding, width: int) -> tuple[Self, Numbers, int]:
        """Reads values that were written with this coding.

        Args:
            bits: The bits, one per element; there may be more.
            count: Number of values.
            coding: Their coding.
            width: Bits of a value.

        Returns:
            The code, the values, int64[count], and how many bits they take.

        Raises:
            ValueCodeError: There are fewer values, one that does not fit ``width`` bits, or one in more bits than it needs.
        """

        def too_few() -> ValueCodeError:
            return ValueCodeError(f"its value bits end before {count} entries")

        every = np.arange(count, dtype=np.int64)
        if coding == ValueCoding.PACKED:
            if bits.size < count * width:
                raise too_few()
            raw = rice.get(bits, every * width, width)
            return cls(coding, 0, width), raw - (raw >> width - 1 << width), count * width
        if coding < ValueCoding.SIGNS and coding not in _rice_codings(width)[0]:
            raise ValueCodeError(f"values in {coding.name}, more bits than a magnitude has")
        head = width - 1
        if bits.size < head:
            raise too_few()
        code = cls(coding, int(rice.get(bits, np.zeros(1, dtype=np.int64), head)[0]), width)
        rest = bits[head:]
        if coding == ValueCoding.SIGNS:
            sign = np.full(count, int(code.least != 0))
            if rest.size < sign.sum():
                raise too_few()
            magnitudes, starts, end = np.full(count, code.least), every * sign, int(sign.sum())
            negative = rest[starts] == 1 if code.least else np.zeros(count, dtype=np.bool_)
        else:
            by, ones = _Rice.of(coding), rice.ones_from(rest, VALUE_ESCAPE)
            places = np.arange(rest.size)
            low_bits = np.where(ones < by.apart, 0, by.parameter)
            ends = places + np.where(ones == VALUE_ESCAPE, VALUE_ESCAPE + head, ones + 1 + low_bits)
            ends += ~code._begins_zero(rest, by)
            starts, end = rice.follow(ends, count, too_few)
            ones, last = ones[starts], ends[starts] - 1
            raw = ones == VALUE_ESCAPE
            has_low = ~raw & (ones >= by.apart)
            magnitudes = np.full(count, code.least)
            magnitudes[has_low] += (ones[has_low] - by.apart << by.parameter) + by.apart
            magnitudes[has_low] += rice.get(rest, (starts + ones + 1)[has_low], by.parameter)
            magnitudes[raw] += rice.get(rest, (starts + ones)[raw], head)
            negative = (rest[last] == 1) & (magnitudes != 0)
        values = np.where(negative, -magnitudes, magnitudes)
        if (magnitudes >> head).any():
            raise ValueCodeError(f"a magnitude of {int(magnitudes.max())}, expected less than {1 << head}")
        if int(code.lengths(values).sum()) != end:
            raise ValueCodeError("a magnitude in more bits than it needs")
        return code, values, head + end

    def _begins_zero(self, bits: Bits, by: _Rice) -> npt.NDArray[np.bool_]:
        """Whether the value is 0 that would begin at each bit: without ones, then as many zeros as it has low bits."""
        if self.least != 0:
            return np.zeros(bits.size, dtype=np.bool_)
        low_bits = 0 if by.apart else by.parameter
        found: npt.NDArray[np.bool_] = rice.ones_from(1 - bits, 1 + low_bits) > low_bits
        return found
