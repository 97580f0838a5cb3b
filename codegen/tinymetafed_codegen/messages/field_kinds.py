"""Types of fields on the wire: numbers, codes and bytes, with the values that each may have."""

from __future__ import annotations

import math
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Self


class Code(IntEnum):
    """A one-byte code on the wire; ``doc`` explains each member."""

    doc: str

    def __new__(cls, value: int, doc: str = "") -> Self:
        """A member with this value and text."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.doc = doc
        return member


class WireError(ValueError):
    """Bytes or values do not fit their message; the text names the message, the field and what was expected."""

    def inside(self, name: str) -> WireError:
        """The same error with the name of the enclosing field or message in front: ``.phases`` before ``[1].count``."""
        return WireError(f"{name}{self}")


def wrong(value: object, expected: str) -> WireError:
    """The error for a wrong value; ``inside`` adds the name of the field."""
    return WireError(f" = {value!r}: expected {expected}")


class Kind(ABC):
    """The type of a field: its bytes on the wire and its allowed values."""

    size: int  # bytes on the wire; 0 for Rest
    name: str  # as in docs/protocol.md

    @abstractmethod
    def check(self, value: Any) -> None:
        """Raises WireError for a value that is not allowed."""

    @abstractmethod
    def encode(self, value: Any) -> bytes:
        """The bytes of a value, without checks."""

    @abstractmethod
    def decode(self, data: bytes) -> Any:
        """The value of these bytes. Raises WireError for an unknown code."""

    @abstractmethod
    def schema(self) -> object:
        """The part of the schema hash for this type, as a value for JSON."""


@dataclass(frozen=True)
class Bounds:
    """The allowed values of a number: at least ``least``, at most ``most``, above ``above``; None means no limit."""

    least: float | None = None
    most: float | None = None
    above: float | None = None


@dataclass(frozen=True)
class Number(Kind):
    """An unsigned integer or a finite float. ``format`` is the format of the struct module, ``cpp_type`` the C++ type."""

    name: str
    format: str
    cpp_type: str
    bounds: Bounds = Bounds()

    @property
    def size(self) -> int:  # type: ignore[override]
        """Bytes on the wire."""
        return struct.calcsize("<" + self.format)

    @property
    def is_float(self) -> bool:
        """Whether it is a float."""
        return self.format == "f"

    @property
    def expected(self) -> str:
        """The allowed values, in words."""
        least, most, above = self.bounds.least, self.bounds.most, self.bounds.above
        if not self.is_float:
            return f"{least or 0} to {(1 << 8 * self.size) - 1 if most is None else most}"
        limits = [f"{word} {limit:g}" for word, limit in (("from", least), ("to", most), ("above", above)) if limit is not None]
        return " ".join(["a finite number", *limits])

    def check(self, value: float) -> None:
        """See Kind."""
        try:
            held = self.decode(self.encode(value))  # the value that the other side gets, for floats a float32
        except (struct.error, OverflowError):
            raise wrong(value, self.expected) from None
        least, most, above = self.bounds.least, self.bounds.most, self.bounds.above
        if (
            not math.isfinite(held)
            or (least is not None and held < least)
            or (most is not None and held > most)
            or (above is not None and held <= above)
        ):
            raise wrong(value, self.expected)

    def encode(self, value: float) -> bytes:
        """See Kind."""
        return struct.pack("<" + self.format, value)

    def decode(self, data: bytes) -> float:
        """See Kind."""
        value: float = struct.unpack("<" + self.format, data)[0]
        return value

    def schema(self) -> object:
        """See Kind."""
        return [self.format, self.bounds.least, self.bounds.most, self.bounds.above]


@dataclass(frozen=True)
class OneOf:
    """The allowed members of a code."""

    members: tuple[Code, ...]


@dataclass(frozen=True)
class Named(Kind):
    """A code of one byte: one of the ``members`` of ``enum``."""

    enum: type[Code]
    members: tuple[Code, ...]
    size = 1

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the enum."""
        return self.enum.__name__

    @property
    def expected(self) -> str:
        """The allowed members, in words."""
        return f"one of {', '.join(member.name for member in self.members)}"

    def check(self, value: int) -> None:
        """See Kind."""
        if value not in self.members:
            raise wrong(int(value), self.expected)

    def encode(self, value: int) -> bytes:
        """See Kind."""
        return bytes([value])

    def decode(self, data: bytes) -> Code:
        """See Kind."""
        try:
            return self.enum(data[0])
        except ValueError:
            raise wrong(data[0], self.expected) from None

    def schema(self) -> object:
        """See Kind."""
        return [self.name, [int(member) for member in self.members]]


@dataclass(frozen=True)
class FixedBytes(Kind):
    """Exactly ``size`` bytes; shorter values are padded with zeros."""

    size: int

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name with the size."""
        return f"bytes[{self.size}]"

    def check(self, value: bytes) -> None:
        """See Kind."""
        if len(value) > self.size:
            raise wrong(value, f"at most {self.size} bytes")

    def encode(self, value: bytes) -> bytes:
        """See Kind."""
        return value.ljust(self.size, b"\0")

    def decode(self, data: bytes) -> bytes:
        """See Kind."""
        return data

    def schema(self) -> object:
        """See Kind."""
        return f"{self.size}s"


@dataclass(frozen=True)
class Rest(Kind):
    """All remaining bytes of a payload; only the last field can have this type."""

    name: str = "rest"
    size: int = 0

    def check(self, value: bytes) -> None:
        """See Kind."""

    def encode(self, value: bytes) -> bytes:
        """See Kind."""
        return value

    def decode(self, data: bytes) -> bytes:
        """See Kind."""
        return data

    def schema(self) -> object:
        """See Kind."""
        return self.name


U8 = Annotated[int, Number("u8", "B", "uint8_t")]
U16 = Annotated[int, Number("u16", "H", "uint16_t")]
U32 = Annotated[int, Number("u32", "I", "uint32_t")]
F32 = Annotated[float, Number("f32", "f", "float")]
Bytes8 = Annotated[bytes, FixedBytes(8)]
Bytes16 = Annotated[bytes, FixedBytes(16)]
Bytes32 = Annotated[bytes, FixedBytes(32)]
Tail = Annotated[bytes, Rest()]
