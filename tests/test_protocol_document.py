"""docs/protocol.md says what the wire table says: every message, field, limit, code, state, capacity and invariant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import FixedBytes, Kind, Record, Records, Scalar, State, Status, payload_capacity

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
HARNESS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "fuzz").glob("*.[hc]pp"))
TYPES = {"B": "u8", "H": "u16", "I": "u32", "f": "f32"}


def section(heading: str) -> str:
    """A heading's text, up to the next heading."""
    found = re.search(rf"(?ms)^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", TEXT)
    assert found, f"docs/protocol.md has no section {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Cells of the tables' rows, without head and rule."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [i for i, row in enumerate(cells) if set("".join(row)) == {"-"}]
    return [row for i, row in enumerate(cells) if i not in rules and i + 1 not in rules]


def type_name(kind: Kind) -> str:
    if isinstance(kind, Scalar):
        return TYPES[kind.format]
    if isinstance(kind, FixedBytes):
        return f"bytes[{kind.size}]"
    return f"{kind.record.__name__}[{kind.count}]" if isinstance(kind, Records) else "rest"


def heading(record: type[Record]) -> str:
    type_id = protocol.ERROR_TYPE if record is protocol.ErrorAnswer else getattr(record, "type_id", None)
    return f"`{record.__name__}`" + (f" 0x{type_id:02x}" if type_id is not None else "")


@pytest.mark.parametrize("record", protocol.records(), ids=lambda record: record.__name__)
def test_messages_have_their_fields(record: type[Record]) -> None:
    text = section(heading(record))
    assert [row[:2] for row in rows(text)] == [[name, type_name(kind)] for name, kind in record.kinds().items()]
    assert all(len(row) == 3 and row[2] for row in rows(text))


def test_no_message_is_made_up() -> None:
    assert re.findall(r"(?m)^### (.*)$", TEXT) and set(re.findall(r"(?m)^### (.*)$", TEXT)) == set(
        map(heading, protocol.records())
    )


def test_limits() -> None:
    found = {row[0].strip("`"): int(row[1]) for row in rows(section("Window, order, capacities")) if not row[0].isdecimal()}
    assert found == protocol.CONSTANTS


def test_capacities() -> None:
    text = section("Window, order, capacities")
    names = re.findall(r"`(\w+)\.data`", text.partition("|---|")[0])
    tails = [next(record for record in protocol.records() if record.__name__ == name) for name in names]
    assert len(tails) == 6
    windows = [row for row in rows(text) if row[0].isdecimal()]
    for window, *said in ([int(cell) for cell in row] for row in windows):
        payload = payload_capacity(window)
        assert said == [payload, *(payload - record.fixed_size() for record in tails)]


def test_every_status_has_its_code() -> None:
    assert [row[:2] for row in rows(section("Errors"))] == [[f"`{status.name}`", str(int(status))] for status in Status]


def test_every_state_is_drawn_and_every_message_idempotent() -> None:
    assert set(re.findall(r"\b[A-Z]{4,}\b", section("States").partition("```mermaid")[2])) == {state.name for state in State}
    assert [row[0].strip("`") for row in rows(section("Asked twice"))] == [request.__name__ for request in protocol.REQUESTS]


def test_invariants_are_numbered_and_asserted_under_their_numbers() -> None:
    numbers = [row[0] for row in rows(section("Invariants"))]
    device = [number for number in numbers if number.startswith("I")]
    assert device == [f"I{i}" for i in range(1, len(device) + 1)]
    assert numbers[len(device) :] == [f"H{i}" for i in range(1, len(numbers) - len(device) + 1)]
    assert set(re.findall(r'"(I\d+)"', HARNESS)) == set(device)
    assert all("](" in row[2] and "](../tests" in row[3] for row in rows(section("Invariants")))
