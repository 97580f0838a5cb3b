"""docs/protocol.md agrees with the wire table: every message, field, limit, code, state, capacity and invariant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tinymetafed_codegen import emit, protocol
from tinymetafed_codegen.messages import protocol_document
from tinymetafed_codegen.protocol import Record, State, Status

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
HARNESS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "fuzz").glob("*.[hc]pp"))


def section(heading: str) -> str:
    """The text below a heading, up to the next heading."""
    found = re.search(rf"(?ms)^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", TEXT)
    assert found, f"docs/protocol.md has no section {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Cells of the tables' rows, without header and rule."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [i for i, row in enumerate(cells) if set("".join(row)) == {"-"}]
    return [row for i, row in enumerate(cells) if i not in rules and i + 1 not in rules]


def heading(record: type[Record]) -> str:
    type_id = protocol.type_id(record)
    return f"`{record.__name__}`" + (f" 0x{type_id:02x}" if type_id is not None else "")


def test_tables_are_the_wire_tables_own() -> None:
    assert protocol_document.filled(TEXT) == TEXT, "write them again: python -m tinymetafed_codegen.messages.protocol_document"


@pytest.mark.parametrize("record", protocol.records(), ids=lambda record: record.__name__)
def test_each_message_has_its_table_in_its_section(record: type[Record]) -> None:
    assert re.findall(r"<!-- table: (\w+) -->", section(heading(record))) == [record.__name__]


def test_everything_in_the_wire_table_says_what_it_means() -> None:
    fields = [f"{record.__name__}.{field.name}" for record in protocol.records() for field in record.fields() if not field.doc]
    members = [f"{enum.__name__}.{member.name}" for enum in protocol.ENUMS for member in enum if not member.doc]
    others = [each.__name__ for each in (*protocol.records(), *protocol.ENUMS) if not each.__doc__]
    assert fields + members + others + [each.name for each in protocol.CONSTANTS if not each.doc] == []


def test_the_header_carries_every_meaning() -> None:
    header = emit.protocol_header("a test") + emit.status_header("a test")
    for record in protocol.records():
        for field in record.fields():
            assert f"  // {field.doc}\n" in header, f"{record.__name__}.{field.name}"
    for enum in protocol.ENUMS:
        for member in enum:
            assert f" = {int(member)},  // {member.doc}\n" in header, member


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("<!-- table: Hello -->", "<!-- table: Hallo -->", "no such table"),
        ("<!-- table: Hello -->", "<!-- table: Load -->", "stands twice"),
        ("<!-- table: Hello -->", "", "no marker for the tables Hello"),
    ],
)
def test_a_page_without_its_markers_is_refused(right: str, wrong: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        protocol_document.filled(TEXT.replace(right, wrong))


def test_a_table_that_differs_is_written_again() -> None:
    assert protocol_document.filled(TEXT.replace("which parameters a step updates", "something else")) == TEXT


def test_every_documented_message_exists() -> None:
    assert re.findall(r"(?m)^### (.*)$", TEXT) and set(re.findall(r"(?m)^### (.*)$", TEXT)) == set(
        map(heading, protocol.records())
    )


def test_the_host_has_an_answer_to_every_status() -> None:
    table = section("Errors").rpartition("<!-- end of table -->")[2]
    assert [row[0] for row in rows(table)] == [f"`{status.name}`" for status in Status]


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


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("store", protocol_document.store_tables()),
        ("boards", protocol_document.measure_tables()),
        ("sketch", protocol_document.own_program_tables()),
        ("sensors", protocol_document.sensor_tables()),
        ("authentication", protocol_document.authentication_tables()),
        ("secure-aggregation", protocol_document.secure_tables()),
        ("uplink-coding", protocol_document.coded_tables()),
        ("difference", protocol_document.difference_tables()),
        ("levels", protocol_document.level_tables()),
    ],
)
def test_other_pages_have_the_messages_of_their_firmware(name: str, tables: dict[str, str]) -> None:
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert protocol_document.filled(page, tables) == page, "run python -m tinymetafed_codegen.messages.protocol_document"
