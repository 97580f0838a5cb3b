"""Whole numbers of few bits, *levels*: how weights and updates travel, one scale for those of a tensor or of an update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ..protocol import Dtype
from ..section import ValueType

_BITS: dict[str, int] = {"i8": 8, "i4": 4, "i3": 3, "t2": 2}


@dataclass(frozen=True, slots=True)
class LevelFormat:
    """Levels of ``bits`` bits, from -``largest`` to ``largest``; ``is_ranged``: messages may have them in a range code."""

    bits: int
    is_ranged: bool

    @property
    def largest(self) -> int:
        """The largest magnitude."""
        return (1 << self.bits - 1) - 1

    def packed_size(self, count: int) -> int:
        """Bytes of so many levels, packed."""
        return (self.bits * count + 7) // 8

    @property
    def facts(self) -> list[int]:
        """What the model's hash covers."""
        return [self.bits, int(self.is_ranged)]


def level_format(values: ValueType, coding: str) -> LevelFormat | None:
    """How values travel as levels in messages of their own.

    Args:
        values: The dtype, as ``strategy.uplink`` has it.
        coding: The coding, as ``strategy.uplink_coding`` has it.

    Returns:
        The format; None where the messages of the wire table, or those of coded updates, carry the values.
    """
    if values not in _BITS or (values == "i8" and coding != "range"):
        return None
    return LevelFormat(_BITS[values], coding == "range")


def wire_dtype(values: ValueType) -> Dtype:
    """The dtype of the wire table in which a board holds values: all levels are int8 there."""
    return Dtype.I8 if values in _BITS else Dtype[values.upper()]


def packed_bits(values: ValueType) -> int:
    """Bits of a value that no code makes shorter."""
    return _BITS.get(values, 8 * wire_dtype(values).width)


NARROW: tuple[ValueType, ...] = tuple(name for name in get_args(ValueType) if packed_bits(name) < 8)  # levels below int8
