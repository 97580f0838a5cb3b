"""Writes the wire table into the pages of docs: ``python -m tinymetafed_codegen.messages.protocol_document``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from .. import protocol
from ..files import write_if_changed
from ..locate import find
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
from ..protocol import Bounds, Code, Kind, Named, Number, Record

_WINDOWS = (256, 1024, 65535)  # receive windows in the table of capacities
_MARKED = re.compile(r"<!-- table: (?P<name>\w+) -->\n(?P<table>.*?)<!-- end of table -->\n", re.DOTALL)


def tables() -> dict[str, str]:
    """The text of each table, by the name in its marker."""
    return {
        "limits": _table(("Limit", "Value", "Meaning"), ((f"`{c.name}`", str(c.value), c.doc) for c in protocol.CONSTANTS)),
        "capacities": _capacities(),
        **{record.__name__: _fields(record) for record in protocol.records()},
        **{enum.__name__: _members(enum) for enum in protocol.ENUMS},
        **{record.__name__: _fields(record) for record in protocol.records(part_messages.PART_REQUESTS)},
    }


def store_tables() -> dict[str, str]:
    """The same for the messages that only firmware with a store has."""
    return {
        **{record.__name__: _fields(record) for record in protocol.records(store_messages.STORE_REQUESTS)},
        **{enum.__name__: _members(enum) for enum in store_messages.STORE_ENUMS},
    }


def own_program_tables() -> dict[str, str]:
    """The same for the messages that only firmware has whose own program learns."""
    return {record.__name__: _fields(record) for record in protocol.records(own_program_messages.OWN_PROGRAM_REQUESTS)}


def measure_tables() -> dict[str, str]:
    """The same for the messages that only firmware has that measures itself."""
    return {record.__name__: _fields(record) for record in protocol.records(measure_messages.MEASURE_REQUESTS)}


def sensor_tables() -> dict[str, str]:
    """The same for the messages that only firmware with a sensor has."""
    return {
        **{record.__name__: _fields(record) for record in protocol.records(sensor_messages.SENSOR_REQUESTS)},
        **{enum.__name__: _members(enum) for enum in sensor_messages.SENSOR_ENUMS},
    }


def authentication_tables() -> dict[str, str]:
    """The same for the messages that only authenticated firmware has."""
    return {record.__name__: _fields(record) for record in protocol.records(authentication_messages.AUTHENTICATION_REQUESTS)}


def secure_tables() -> dict[str, str]:
    """The same for the messages that only firmware with secure aggregation has."""
    return {record.__name__: _fields(record) for record in protocol.records(secure_messages.SECURE_REQUESTS)}


def coded_tables() -> dict[str, str]:
    """The same for the messages that only firmware has that codes the values of its updates."""
    return {
        **{record.__name__: _fields(record) for record in protocol.records(coded_messages.CODED_REQUESTS)},
        **{enum.__name__: _members(enum) for enum in coded_messages.CODED_ENUMS},
    }


def level_tables() -> dict[str, str]:
    """The same for the messages that only firmware has whose weights or updates travel as levels."""
    return {
        **{record.__name__: _fields(record) for record in protocol.records(level_messages.LEVEL_REQUESTS)},
        **{enum.__name__: _members(enum) for enum in level_messages.LEVEL_ENUMS},
    }


def difference_tables() -> dict[str, str]:
    """The same for the messages that only firmware has that takes differences of weights."""
    return {record.__name__: _fields(record) for record in protocol.records(difference_messages.DIFFERENCE_REQUESTS)}


def place(name: str) -> str:
    """The marker before the table of this name."""
    return f"<!-- table: {name} -->"


def filled(text: str, made: Mapping[str, str] | None = None) -> str:
    """A page with every table between its markers. Raises ValueError for an unknown, repeated or missing marker.

    Args:
        text: The page.
        made: The text of each table by its name; None for ``tables()``.
    """
    made, seen = tables() if made is None else made, set[str]()

    def put(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in made or name in seen:
            raise ValueError(
                f"<!-- table: {name} -->: {'stands twice' if name in seen else 'the wire table has no such table'}"
            )
        seen.add(name)
        return f"<!-- table: {name} -->\n{made[name]}<!-- end of table -->\n"

    page = _MARKED.sub(put, text)
    if lacking := sorted(made.keys() - seen):
        raise ValueError(f"the page has no marker for the tables {', '.join(lacking)}")
    return page


def _fields(record: type[Record]) -> str:
    if not record.fields():
        return "No field.\n"
    rows = ((field.name, field.kind.name, _values(field.kind), field.doc) for field in record.fields())
    return _table(("Field", "Type", "Values", "Meaning"), rows)


def _values(kind: Kind) -> str:
    """The allowed values of a field, where its type does not imply them."""
    if isinstance(kind, Number) and (kind.is_float or kind.bounds != Bounds()):
        return kind.expected.removeprefix("a finite number").strip() or "finite"
    if isinstance(kind, Named) and len(kind.members) < len(kind.enum):
        shown = [member.name for member in kind.members]
        left_out = [member.name for member in kind.enum if member not in kind.members]
        return ", ".join(shown) if len(shown) <= len(left_out) + 2 else f"not {', '.join(left_out)}"
    return ""


def _members(enum: type[Code]) -> str:
    return _table((enum.__name__, "Code", "Meaning"), ((f"`{member.name}`", str(int(member)), member.doc) for member in enum))


def _capacities() -> str:
    tails = [record for record in protocol.records() if record.has_tail()]
    head = ("W", "payload", *(f"`{record.__name__}.data`" for record in tails))
    payloads = {window: protocol.payload_capacity(window) for window in _WINDOWS}
    return _table(
        head,
        ((str(w), str(size), *(str(size - record.fixed_size()) for record in tails)) for w, size in payloads.items()),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace("|  |", "| |") + "\n"


if __name__ == "__main__":
    pages = {
        "protocol.md": tables(),
        "store.md": store_tables(),
        "boards.md": measure_tables(),
        "sketch.md": own_program_tables(),
        "sensors.md": sensor_tables(),
        "authentication.md": authentication_tables(),
        "secure-aggregation.md": secure_tables(),
        "uplink-coding.md": coded_tables(),
        "levels.md": level_tables(),
        "difference.md": difference_tables(),
    }
    for page, made in ((find(f"docs/{name}"), made) for name, made in pages.items()):
        write_if_changed(page, filled(page.read_text(encoding="utf-8"), made))
