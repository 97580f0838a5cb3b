"""C++ text for protocol.hpp.j2: how each field of the wire table is declared, read, written and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .. import protocol
from ..optional_messages import (
    authentication_messages,
    coded_messages,
    difference_messages,
    level_messages,
    measure_messages,
    own_program_messages,
    part_messages,
    secure_messages,
    sensor_messages,
    store_messages,
)
from ..protocol import Code, Dtype, UpTo

SOURCE = "codegen/tinymetafed_codegen/protocol.py"  # of the wire table


def cpp_constant(name: str) -> str:
    """The C++ name of a constant: ``kMaxPhases`` for ``MAX_PHASES`` or ``max_phases``."""
    return "k" + "".join(part.capitalize() for part in name.lower().split("_"))


@dataclass(frozen=True)
class NamedNumber:
    """A C++ constant or a member of an enum."""

    name: str
    value: int
    doc: str = ""


@dataclass(frozen=True)
class EnumText:
    """An enum."""

    name: str
    doc: str
    members: list[NamedNumber]


@dataclass(frozen=True)
class WidthText:
    """The bytes of one number of a dtype on the wire."""

    dtype: str
    bytes: int


@dataclass(frozen=True)
class FieldText:
    """The declaration of a field and the statements that read and write it."""

    declaration: str
    read: str
    write: str
    doc: str = ""


@dataclass(frozen=True)
class RecordText:
    """A record.

    ``checks`` are statements that return a status for wrong values. ``head``: the last field takes all remaining bytes;
    ``head_fields`` are the fields before it. ``is_part``: other records contain this one, so it gets an operator==, which
    compares ``lists`` element by element and all other fields by the expression ``equal``.
    """

    name: str
    doc: str
    constants: list[NamedNumber]
    fixed_size: int
    fields: list[FieldText]
    head: bool
    head_fields: list[FieldText]
    checks: list[str]
    is_part: bool
    equal: str
    lists: list[str]


@dataclass(frozen=True)
class ProtocolText:
    """The context of the template protocol.hpp.j2."""

    source: str
    schema_hash_hex: str
    schema_hash_bytes: str
    constants: list[NamedNumber]
    enums: list[EnumText]
    widths: list[WidthText]
    records: list[RecordText]


def parts() -> ProtocolText:
    """The text of the whole wire table."""
    digest = protocol.schema_hash()
    return ProtocolText(
        source=SOURCE,
        schema_hash_hex=digest.hex(),
        schema_hash_bytes=", ".join(f"0x{b:02x}" for b in digest),
        constants=[NamedNumber(cpp_constant(each.name), each.value, each.doc) for each in protocol.CONSTANTS],
        enums=[enum_text(enum) for enum in protocol.ENUMS if enum is not protocol.Status],
        widths=[WidthText(_member(dtype), dtype.width) for dtype in Dtype],
        records=[_record(record) for record in protocol.records()],
    )


@dataclass(frozen=True)
class PartText:
    """The messages of an optional part of the firmware, for the template of its facts."""

    enums: list[EnumText]
    records: list[RecordText]


def store_parts() -> PartText:
    """The text of the messages that only firmware with a store has."""
    return PartText(
        enums=[enum_text(enum) for enum in store_messages.STORE_ENUMS],
        records=[_record(record) for record in protocol.records(store_messages.STORE_REQUESTS)],
    )


def sensor_parts() -> PartText:
    """The text of the messages that only firmware with a sensor has."""
    return PartText(
        enums=[enum_text(enum) for enum in sensor_messages.SENSOR_ENUMS],
        records=[_record(record) for record in protocol.records(sensor_messages.SENSOR_REQUESTS)],
    )


def authentication_records() -> list[RecordText]:
    """The text of the messages that only authenticated firmware has."""
    return [_record(record) for record in protocol.records(authentication_messages.AUTHENTICATION_REQUESTS)]


def measure_records() -> list[RecordText]:
    """The text of the messages that only firmware has that measures itself."""
    return [_record(record) for record in protocol.records(measure_messages.MEASURE_REQUESTS)]


def secure_records() -> list[RecordText]:
    """The text of the messages that only firmware with secure aggregation has."""
    return [_record(record) for record in protocol.records(secure_messages.SECURE_REQUESTS)]


def coded_parts() -> PartText:
    """The text of the messages that only firmware has that codes the values of its updates."""
    return PartText(
        enums=[enum_text(enum) for enum in coded_messages.CODED_ENUMS],
        records=[_record(record) for record in protocol.records(coded_messages.CODED_REQUESTS)],
    )


def level_parts() -> PartText:
    """The text of the messages that only firmware has whose weights or updates travel as levels."""
    return PartText(
        enums=[enum_text(enum) for enum in level_messages.LEVEL_ENUMS],
        records=[_record(record) for record in protocol.records(level_messages.LEVEL_REQUESTS)],
    )


def difference_records() -> list[RecordText]:
    """The text of the messages that only firmware has that takes differences of weights."""
    return [_record(record) for record in protocol.records(difference_messages.DIFFERENCE_REQUESTS)]


def part_records() -> list[RecordText]:
    """The text of the messages that only firmware has that takes samples in parts."""
    return [_record(record) for record in protocol.records(part_messages.PART_REQUESTS)]


def own_program_records() -> list[RecordText]:
    """The text of the messages that only firmware has whose own program learns."""
    return [_record(record) for record in protocol.records(own_program_messages.OWN_PROGRAM_REQUESTS)]


def enum_text(enum: type[Code]) -> EnumText:
    """The text of an enum."""
    members = [NamedNumber(cpp_constant(member.name), int(member), member.doc) for member in enum]
    return EnumText(enum.__name__, (enum.__doc__ or "").strip(), members)


def _record(record: type[protocol.Record]) -> RecordText:
    type_id = protocol.type_id(record)
    kinds = record.kinds()
    fields = [replace(_field(field.name, field.kind), doc=field.doc) for field in record.fields()]
    lists = [name for name, kind in kinds.items() if isinstance(kind, UpTo)]
    is_part = any(getattr(kind, "record", None) is record for other in protocol.records() for kind in other.kinds().values())
    return RecordText(
        name=record.__name__,
        doc=(record.__doc__ or "").strip(),
        constants=[] if type_id is None else [NamedNumber("kType", type_id)],
        fixed_size=record.fixed_size(),
        fields=fields,
        head=record.has_tail(),
        head_fields=fields[:-1],
        checks=[line for name, kind in kinds.items() for line in _checks(name, kind)],
        is_part=is_part,
        equal=" &&\n           ".join(f"{name} == other.{name}" for name in kinds if name not in lists),
        lists=lists,
    )


def _field(name: str, kind: protocol.Kind) -> FieldText:
    """The declaration of a field and the statements that read and write it."""
    if isinstance(kind, protocol.Number):
        return FieldText(
            declaration=f"{kind.cpp_type} {name} = 0;",
            read=f"{name} = in.{kind.name}();",
            write=f"out.{kind.name}({name});",
        )
    if isinstance(kind, protocol.Named):
        return FieldText(
            declaration=f"{kind.name} {name} = {_member(kind.members[0])};",
            read=f"{name} = static_cast<{kind.name}>(in.u8());",
            write=f"out.u8(static_cast<uint8_t>({name}));",
        )
    if isinstance(kind, protocol.FixedBytes):
        return FieldText(
            declaration=f"uint8_t {name}[{kind.size}] = {{}};",
            read=f"in.bytes({name}, sizeof {name});",
            write=f"out.bytes({name}, sizeof {name});",
        )
    if isinstance(kind, protocol.Nested):
        return FieldText(declaration=f"{kind.name} {name};", read=f"{name}.read(in);", write=f"{name}.write(out);")
    if isinstance(kind, UpTo):
        record = kind.record.__name__
        return FieldText(
            declaration=f"{record} {name}[{kind.count}];",
            read=f"bool more_{name} = true;\n    for ({record}& each : {name}) {{\n      each.read(in);\n"
            f"      more_{name} = more_{name} && each.{kind.end} != 0;\n      if (!more_{name}) each = {record}();\n    }}",
            write=f"for (const {record}& each : {name}) each.write(out);",
        )
    return FieldText(
        declaration=f"const uint8_t* {name} = nullptr;\n  size_t {name}_size = 0;",
        read=f"{name}_size = in.left();\n    {name} = in.take({name}_size);",
        write=f"out.bytes({name}, {name}_size);",
    )


def _checks(name: str, kind: protocol.Kind) -> list[str]:
    """Statements that return a status for a value that is not allowed."""
    if isinstance(kind, protocol.Number):
        return _number_checks(name, kind)
    if isinstance(kind, protocol.Named):
        return [f"if (!({_is_one_of(name, kind.members)})) return Status::kBadValue;"]
    if isinstance(kind, protocol.Nested):
        return [f"if (const Status status = {name}.check(); status != Status::kOk) return status;"]
    if isinstance(kind, UpTo):
        return [
            f"for (const {kind.record.__name__}& each : {name}) {{",
            f"  if (each.{kind.end} == 0) break;",
            "  if (const Status status = each.check(); status != Status::kOk) return status;",
            "}",
        ]
    return []


def _number_checks(name: str, kind: protocol.Number) -> list[str]:
    bounds, lines = kind.bounds, []
    if kind.is_float:
        lines.append(f"if (!is_finite({name})) return Status::kNotFinite;")
    for wrong, limit in (("<", bounds.least), (">", bounds.most), ("<=", bounds.above)):
        if limit is not None:
            number = f"{float(limit)!r}f" if kind.is_float else str(limit)
            lines.append(f"if ({name} {wrong} {number}) return Status::kBadValue;")
    return lines


def _is_one_of(name: str, members: Sequence[Code]) -> str:
    """The condition that ``name`` is one of ``members``; consecutive values are compared as one range."""
    runs: list[list[Code]] = []
    for member in sorted(members):
        if runs and member == runs[-1][-1] + 1:
            runs[-1].append(member)
        else:
            runs.append([member])
    conditions = []
    for run in runs:
        above = [f"{name} >= {_member(run[0])}"] if run[0] > 0 else []
        both = [*above, f"{name} <= {_member(run[-1])}"]
        conditions.append(f"{name} == {_member(run[0])}" if len(run) == 1 else " && ".join(both))
    return conditions[0] if len(conditions) == 1 else " || ".join(f"({condition})" for condition in conditions)


def _member(code: Code) -> str:
    return f"{type(code).__name__}::{cpp_constant(code.name)}"
