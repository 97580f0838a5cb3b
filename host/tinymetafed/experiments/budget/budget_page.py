"""Writes docs/budget.md: how a budget of RAM picks the layers that train, and accuracy against RAM as measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from tinymetafed_codegen.files import write_if_changed

from ...federation.meta_test import confidence, mean
from ...federation.result import Score
from .budget_table import ALL, BOARD, DEVICES, START, BudgetTable, Outcome, Plan

DOCUMENT, OUTCOMES = "budget.md", "budget.json"
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Row:
    """A row of the table, as text.

    ``seeds``: the accuracy of each seed. ``behind``: by how much it is below that of all layers, paired by seed.
    """

    budget: str
    trains: str
    layers: str
    weights: str
    ram: str
    products: str
    accuracy: str
    seeds: str
    behind: str


def write(table: BudgetTable, folder: Path) -> Path:
    """Writes the page into an existing folder and returns its path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    first = table.outcomes[0].case
    later = next((each.case for each in table.outcomes if each.case.rounds), first)
    path = folder / DOCUMENT
    text = environment.get_template("budget.md.j2").render(
        version=table.tinymetafed,
        rows=rows(table.outcomes),
        seeds=len({each.case.seed for each in table.outcomes}),
        start_rounds=first.start_rounds,
        rounds=later.rounds,
        tasks=first.tasks,
        gains=", ".join(f"{name} {gain:g}" for name, gain in table.gains.items()),
        sites=", ".join(("the simulation", *(f"`{url}`" for url in DEVICES))),
        hashes=", ".join(sorted(set(table.weights_sha256.values()))),
        instructions=", ".join(f"{count:,} {variant}" for variant, count in table.instructions.items()),
        checked=Plan.checked,
        board=BOARD,
        picked=_picked(table.outcomes),
    )
    write_if_changed(path, text)
    return path


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """The table: a row for each way to choose layers."""
    best = {each.case.seed: each.accuracy for each in outcomes if each.case.trains == ALL}
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for each in outcomes:
        groups.setdefault((each.case.budget, each.case.trains), []).append(each)
    found = []
    for (budget, trains), same in groups.items():
        one = same[0]
        found.append(
            Row(
                budget or {START: "", ALL: "no limit"}[trains],
                trains,
                f"{len(one.layers)}",
                f"{one.weights:,}",
                f"{one.ram:,}",
                f"{one.products:,}",
                _percent(mean([each.accuracy for each in same])),
                ", ".join(_percent(each.accuracy) for each in same),
                "" if trains == ALL else _behind([(best[each.case.seed], each.accuracy) for each in same]),
            )
        )
    return found


def _percent(score: Score) -> str:
    return "diverged" if score is None else f"{100 * score:.1f}"


def _behind(pairs: Sequence[tuple[Score, Score]]) -> str:
    """The mean of the differences in points, with the half-width of its 95 % interval where there are several."""
    points = [100 * (one - other) for one, other in pairs if one is not None and other is not None]
    if len(points) < len(pairs):
        return ""
    width = confidence(points)
    return f"{math.fsum(points) / len(points):.1f}" + ("" if width is None else f" ± {width:.1f}")


def _picked(outcomes: Sequence[Outcome]) -> list[tuple[str, str, str]]:
    """Budget, criterion and layers of each row with a budget."""
    chosen = {(each.case.budget, each.case.trains): ", ".join(each.layers) for each in outcomes if each.case.budget}
    return [(budget, trains, layers) for (budget, trains), layers in chosen.items()]
