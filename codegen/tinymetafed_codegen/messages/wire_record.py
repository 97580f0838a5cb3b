"""Records of the wire: a class per message, from whose fields packing, reading and checks are made."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self

from .field_kinds import Code, Kind, Named, Rest, WireError


@dataclass(frozen=True)
class Nested(Kind):
    """Another record inside this one."""

    record: type[Record]

    @property
    def size(self) -> int:  # type: ignore[override]
        """Bytes of the record."""
        return self.record.fixed_size()

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the record."""
        return self.record.__name__

    def check(self, value: Record) -> None:
        """See Kind."""
        value.check_fields()

    def encode(self, value: Record) -> bytes:
        """See Kind."""
        return value.encode()

    def decode(self, data: bytes) -> Record:
        """See Kind."""
        return self.record.decode(data)

    def schema(self) -> object:
        """See Kind."""
        return self.name


@dataclass(frozen=True)
class UpTo(Kind):
    """A list of at most ``count`` records in the space of ``count``. A record whose field ``end`` is 0 ends the list.

    The bytes after the last record are sent as 0 and ignored on receipt.
    """

    record: type[Record]
    count: int
    end: str

    @property
    def size(self) -> int:  # type: ignore[override]
        """Bytes of ``count`` records."""
        return self.count * self.record.fixed_size()

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the record with the count."""
        return f"{self.record.__name__}[{self.count}]"

    def check(self, value: tuple[Record, ...]) -> None:
        """See Kind."""
        if len(value) > self.count:
            raise WireError(f": {len(value)} entries, expected at most {self.count}")
        for i, record in enumerate(value):
            try:
                record.check_fields()
            except WireError as error:
                raise error.inside(f"[{i}]") from None

    def encode(self, value: tuple[Record, ...]) -> bytes:
        """See Kind."""
        return b"".join(record.encode() for record in value).ljust(self.size, b"\0")

    def decode(self, data: bytes) -> tuple[Record, ...]:
        """See Kind."""
        size, start, kind = self.record.fixed_size(), self.record.place(self.end), self.record.kinds()[self.end]
        records: list[Record] = []
        for at in range(0, len(data), size):
            if not any(data[at + start : at + start + kind.size]):
                break
            try:
                records.append(self.record.decode(data[at : at + size]))
            except WireError as error:
                raise error.inside(f"[{len(records)}]") from None
        return tuple(records)

    def schema(self) -> object:
        """See Kind."""
        return [self.name, self.end]


@dataclass(frozen=True)
class Field:
    """One field of a record: its name, its type, and a text that explains it."""

    name: str
    kind: Kind
    doc: str


def _field(name: str, annotation: Any) -> Field:
    """Reads a dataclass field's annotation: the Python type, its kind (not for codes and records), limits, and the text."""
    python: type = annotation.__origin__
    facts = [fact for fact in annotation.__metadata__ if not isinstance(fact, str)]
    doc = next((fact for fact in reversed(annotation.__metadata__) if isinstance(fact, str)), "")
    kind: Kind
    if isinstance(python, type) and issubclass(python, Code):
        kind = Named(python, facts[0].members if facts else tuple(python))
    elif isinstance(python, type) and issubclass(python, Record):
        kind = Nested(python)
    else:
        kind, *bounds = facts
        kind = dataclasses.replace(kind, bounds=bounds[0]) if bounds else kind  # type: ignore[type-var]
    return Field(name, kind, doc)


class Record:
    """A fixed sequence of little-endian fields; subclasses are frozen dataclasses."""

    @classmethod
    @cache  # resolving annotations takes longer than a round trip to a device
    def fields(cls) -> tuple[Field, ...]:
        """The fields in wire order."""
        hints = typing.get_type_hints(cls, include_extras=True)
        return tuple(_field(f.name, hints[f.name]) for f in dataclasses.fields(cls))  # type: ignore[arg-type]

    @classmethod
    @cache
    def kinds(cls) -> dict[str, Kind]:
        """The type of each field by its name, in wire order."""
        return {field.name: field.kind for field in cls.fields()}

    @classmethod
    @cache
    def fixed_size(cls) -> int:
        """Bytes of all fields except a Rest."""
        return sum(field.kind.size for field in cls.fields())

    @classmethod
    @cache
    def place(cls, name: str) -> int:
        """The offset of a field in bytes."""
        names = [field.name for field in cls.fields()]
        return sum(field.kind.size for field in cls.fields()[: names.index(name)])

    @classmethod
    @cache
    def has_tail(cls) -> bool:
        """Whether the last field is a Rest."""
        return any(isinstance(field.kind, Rest) for field in cls.fields())

    def pack(self) -> bytes:
        """The bytes of the payload. Raises WireError, which names the field, for a value that is not allowed."""
        try:
            self.check_fields()
        except WireError as error:
            raise error.inside(type(self).__name__) from None
        return self.encode()

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Reads a payload. Raises WireError when its length or one of its values is wrong."""
        fixed = cls.fixed_size()
        if len(payload) < fixed or (len(payload) > fixed and not cls.has_tail()):
            more = " or more" if cls.has_tail() else ""
            raise WireError(f"{cls.__name__}: {len(payload)} bytes, expected {fixed}{more}")
        try:
            message = cls.decode(payload)
            message.check_fields()
        except WireError as error:
            raise error.inside(cls.__name__) from None
        return message

    @classmethod
    def unpack_first(cls, payload: bytes, last: str) -> tuple[Any, ...]:
        """Reads the fields up to ``last`` without checks; the rest of the payload may be missing or of another schema."""
        values: list[Any] = []
        at = 0
        for field in cls.fields():
            values.append(field.kind.decode(payload[at : at + field.kind.size]))
            at += field.kind.size
            if field.name == last:
                break
        return tuple(values)

    def check_fields(self) -> None:
        """Raises WireError, which names the field, for a value that is not allowed."""
        for field in self.fields():
            try:
                field.kind.check(getattr(self, field.name))
            except WireError as error:
                raise error.inside(f".{field.name}") from None

    def encode(self) -> bytes:
        """The bytes of all fields, without checks."""
        return b"".join(field.kind.encode(getattr(self, field.name)) for field in self.fields())

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Reads exactly the bytes of one record. Raises WireError for an unknown code."""
        values: list[Any] = []
        at = 0
        for field in cls.fields():
            end = len(data) if isinstance(field.kind, Rest) else at + field.kind.size
            try:
                values.append(field.kind.decode(data[at:end]))
            except WireError as error:
                raise error.inside(f".{field.name}") from None
            at = end
        return cls(*values)


class Request(Record):
    """A message of the host: ``type_id`` is its type on the wire, ``answer`` the class of its answer."""

    type_id: ClassVar[int]
    answer: ClassVar[type[Record]]
