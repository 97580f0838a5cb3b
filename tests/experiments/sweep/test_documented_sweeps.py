"""Tables that documents have of sweeps: rows, command, seeds and intervals, and figures that follow from each other."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from small_runs import manifest

from tinymetafed_codegen import spec
from tinymetafed_codegen.locate import find, root

MOST_RAM = 72 * 1024  # of the lean examples on a board with 256 KB


def document(name: str) -> str:
    return (root() / "docs" / name).read_text(encoding="utf-8")


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the table whose first line begins with ``heading``, without marks of code."""
    lines = text[text.index(heading) :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.replace("`", "").strip("|").split("|")] for line in lines]


def sweep(name: str) -> dict[str, Any]:
    return tomllib.loads(find(f"examples/sweeps/{name}.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("page", "heading", "sweeps"),
    [
        ("lean.md", "| | D = 8 | D = 1 | bytes of a round |", ("omniglot-lean", "omniglot-lean-local")),
        ("augmentation.md", "| samples change | D = 8 | D = 1 | bytes of a round |", ("digits-augmented",)),
    ],
)
def test_a_table_has_the_rows_of_its_sweeps(page: str, heading: str, sweeps: tuple[str, ...]) -> None:
    text, read = document(page), [sweep(name) for name in sweeps]
    assert [row[0] for row in table(text, heading)] == [each["name"] for found in read for each in found["variant"]]
    for name, found in zip(sweeps, read, strict=True):
        assert f"tinymetafed sweep examples/sweeps/{name}.toml" in text
        assert f"n = {len(found['seeds'])}" in text


@pytest.mark.parametrize(
    ("page", "heading", "columns", "sweeps"),
    [
        ("augmentation.md", "| samples change | D = 8 | D = 1 | bytes of a round |", ("D = 8", "D = 1"), ("digits-augmented",)),
        ("augmentation.md", "| samples change | prediction |", ("D = 8", "D = 1"), ("omniglot-augmented",)),
        ("data.md", "| unseen | D = 1 | D = 8 |", ("D = 8",), ("omniglot-splits",)),
        ("data.md", "| | before | after | KB per round", ("after",), ("activity",)),
        ("data.md", "| 2,000 rounds | D = 0 |", ("D = 0", "D = 8", "D = 20"), ("activity-shared",)),
        (
            "data.md",
            "| | D = 0 | D = 1 | D = 2",
            ("D = 1", "D = 8", "D = 16"),
            ("presence-recorded", "presence-recorded-controls"),
        ),
        ("lean.md", "| | D = 8 | D = 1 | bytes of a round |", ("D = 8", "D = 1"), ("omniglot-lean", "omniglot-lean-local")),
        ("one-round.md", "| `model.activations` |", ("D = 8",), ("omniglot-activations",)),
        ("levels.md", "| P, % | up | down |", ("D = 8, %", "D = 1, %"), ("omniglot-levels",)),
        ("secure-aggregation.md", "| entries | which |", ("MSE",), ("sine-secure",)),
        ("strategies.md", "| `model.local_start` | clients |", ("MSE",), ("sine-starts", "sine-kept")),
    ],
)
def test_above_a_table_of_scores_stand_its_command_and_its_seeds(
    page: str, heading: str, columns: tuple[str, ...], sweeps: tuple[str, ...]
) -> None:
    text = document(page)
    place = text.index(heading)
    above = text[text.rindex("\n## ", 0, place) : place]
    for name in sweeps:
        assert f"tinymetafed sweep examples/sweeps/{name}.toml" in text[:place]
        assert f"n = {len(sweep(name)['seeds'])}" in above
    titles = [cell.strip() for cell in text[place:].partition("\n")[0].strip("|").split("|")]
    rows = table(text, heading)
    for column in columns:
        without = [row[titles.index(column)] for row in rows if " ± " not in row[titles.index(column)]]
        assert without == [], f"scores of '{column}' without an interval"


def test_shares_of_bytes_follow_from_the_bytes() -> None:
    rows = table(document("lean.md"), "| | D = 8 | D = 1 | bytes of a round |")
    sizes = [int(row[3].replace(",", "")) for row in rows]
    assert [row[4] for row in rows] == [f"{size / sizes[0]:.3f}".removeprefix("0") for size in sizes]


@pytest.mark.parametrize("example", ["omniglot-lean", "omniglot-lean-average"])
def test_the_lean_examples_take_the_ram_that_is_told(example: str) -> None:
    ram = manifest(spec.load(find(f"examples/{example}.toml")), "mps2").memory.ram_total
    assert ram <= MOST_RAM and f"{ram:,} {'bytes ' if example == 'omniglot-lean' else ''}for {example}" in document("lean.md")
