"""Writes docs/budget.md: how a budget of RAM picks the layers that train, and accuracy against RAM as measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from tinymetafed_codegen.files import write_if_changed

from ...federation.meta_test import confidence
from ...federation.result import Score
from .budget_table import ALL, BOARD, DEVICES, START, BudgetTable, Outcome, Plan

DOCUMENT, OUTCOMES = "budget.md", "budget.json"
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Row:
    """A row of the table, as text."""

    budget: str
    trains: str
    layers: str
    weights: str
    ram: str
    products: str
    accuracy: str


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
    """The table: a row for each way to choose layers, the mean over seeds with its 95 % interval (Student's t)."""
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
                _mean([each.accuracy for each in same]),
            )
        )
    return found


def _mean(scores: Sequence[Score]) -> str:
    """The mean in percent, and the half-width of its 95 % interval where there are several scores."""
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return f"{len(scores) - len(known)} of {len(scores)} diverged"
    mean, width = f"{100 * math.fsum(known) / len(known):.1f}", confidence(known)
    return mean if width is None else f"{mean} ± {100 * width:.1f}"


def _picked(outcomes: Sequence[Outcome]) -> list[tuple[str, str, str]]:
    """Budget, criterion and layers of each row with a budget."""
    chosen = {(each.case.budget, each.case.trains): ", ".join(each.layers) for each in outcomes if each.case.budget}
    return [(budget, trains, layers) for (budget, trains), layers in chosen.items()]
