"""Networks of the papers' size and the small ones: accuracy, bytes and RAM, with all layers and with those that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinymetafed_codegen.locate import find
from tinymetafed_codegen.memory.trainable import MEASURED

from ...bench import keeping_nothing
from ...learn.comparisons import paired
from ...learn.metric import Metric
from ...runs.setup import design_of
from ..budget import Outcome, Plan
from ..budget.budget_table import ALL
from ..sweep import Row, Spread, score, table
from . import baselines, claims
from .claims import Claim, Comparison
from .measured import BASE, DEFAULT, Measured, bytes_of_round, plus_minus

SWEEP = "paper-size"
BOARD_BYTES = 256 * 1024  # RAM of the emulated board, and of a Nano 33 BLE
BUDGET = "192KB"
SMALL, LARGE = "small", "papers' size"


@dataclass(frozen=True)
class Case:
    """A use case. ``plan``: the runs of the large network in which only layers within BUDGET train."""

    key: str
    name: str
    input: str
    plan: Plan


CASES = (
    Case("omniglot", "Omniglot", "28x28", Plan(budgets=(BUDGET,), criteria=(MEASURED,), checked=None)),
    Case(
        "digits",
        "Keywords",
        "49x10",
        Plan(
            example=find("examples") / "digits-paper-size.toml",
            budgets=(BUDGET,),
            criteria=(MEASURED,),
            start_rounds=100,
            tasks=20,
            clients=16,
            checked=None,
        ),
    ),
)
NAMES = {case.key: case.name for case in CASES}


@dataclass(frozen=True)
class SizeLine:
    """A network and method as text. ``weights``: that train; ``bytes``: of one device in a round; ``clients``: that trained."""

    name: str
    weights: str
    ram: str
    fits: str
    accuracy: str
    one: str
    bytes: str
    share: str
    clients: str
    tasks: str
    seeds: str


@dataclass(frozen=True)
class SizeTable:
    """The networks of a use case as text."""

    title: str
    lines: list[SizeLine]
    notes: list[str]


def shortened(plan: Plan, divisor: int) -> Plan:
    """The plan with one seed, and rounds divided by ``divisor``."""
    return replace(plan, seeds=1, start_rounds=plan.start_rounds // divisor, rounds=plan.rounds // divisor)


def file_of(case: Case, runs: Path, *, quick: bool) -> Path:
    """Where the outcomes of the case's plan are kept."""
    return runs / f"what-fits-{case.key}{'-quick' if quick else ''}.json"


def tables(measured: Measured, fitting: Mapping[str, Sequence[Outcome]]) -> list[SizeTable]:
    """A table for each use case. ``fitting``: the outcomes of each case's plan, by its key."""
    return [_table(case, measured, fitting.get(case.key, ())) for case in CASES]


def tested(measured: Measured, fitting: Mapping[str, Sequence[Outcome]]) -> list[Claim]:
    """What the tables are compared for, as one family of tests."""
    found = []
    for case in CASES:
        names = [(LARGE, DEFAULT), (SMALL, DEFAULT), (LARGE, BASE)]
        ours, small, whole = (measured.rows.get(f"{case.name}, {network}, {method}") for network, method in names)
        found += [claims.compared(case.name, ours, other) for other in (small, whole) if ours and other]
        outcomes = fitting.get(case.key, ())
        some, every = _scores(_within(outcomes, BUDGET)), _scores(_all_layers(outcomes))
        if some and every:
            names_ = f"{LARGE}, layers within {BUDGET}", "all layers, from the same start"
            found.append(Comparison(case.name, *names_, Metric.ACCURACY, paired(some, every)))
    return claims.tested(found)


def _table(case: Case, measured: Measured, outcomes: Sequence[Outcome]) -> SizeTable:
    rows = [row for name, row in measured.rows.items() if name.startswith(f"{case.name}, ")]
    by_network = {network: [row for row in rows if f", {network}, " in row.cell.name] for network in (SMALL, LARGE)}
    lines = [_line(case, row, _base(same)) for same in by_network.values() for row in same]
    large = _base(by_network[LARGE])
    for name, same in (
        ("all layers, from a start", _all_layers(outcomes)),
        (f"{BUDGET}, from a start", _within(outcomes, BUDGET)),
    ):
        if same and large is not None:
            lines.append(_fitting(f"{LARGE}, {DEFAULT}, {name}", same, large))
    return SizeTable(f"{case.name}, {case.input}", lines, table.notes(rows))


def _line(case: Case, row: Row, base: Row | None) -> SizeLine:
    experiment = keeping_nothing(row.cell.experiment)
    manifest = design_of(experiment, str(row.cell.source)).manifest
    sent, whole = _of_a_device(row), None if base is None else _of_a_device(base)
    return SizeLine(
        name=row.cell.name.removeprefix(f"{case.name}, "),
        weights=f"{manifest.n_parameters:,}",
        ram=f"{manifest.memory.ram_total:,}",
        fits=_fits(manifest.memory.ram_total),
        accuracy=plus_minus(row.after),
        one=score(baselines.mean_at(row, 1), Metric.ACCURACY),
        bytes="–" if sent is None else f"{sent:,.0f}",
        share=f"{sent / whole:.3f}" if sent and whole else "–",
        clients=f"{experiment.run.rounds * experiment.run.devices_per_round:,}",
        tasks=f"{experiment.evaluation.tasks}",
        seeds=f"{len(row.scores)} of {row.seeds}",
    )


def _fitting(name: str, same: Sequence[Outcome], large: Row) -> SizeLine:
    devices, whole = large.cell.experiment.run.devices_per_round, _of_a_device(large)
    sent = [each.bytes_of_round / devices for each in same if each.bytes_of_round is not None]
    mean = sum(sent) / len(sent) if sent else None
    first, scores = same[0], _scores(same)
    return SizeLine(
        name=name,
        weights=f"{first.weights:,}",
        ram=f"{first.ram:,}",
        fits=_fits(first.ram),
        accuracy=plus_minus(Spread.of(list(scores.values()))),
        one="–",
        bytes="–" if mean is None else f"{mean:,.0f}",
        share=f"{mean / whole:.3f}" if mean and whole else "–",
        clients=f"{first.case.start_rounds * devices:,} + {first.case.rounds * devices:,}",
        tasks=f"{first.case.tasks}",
        seeds=f"{len(scores)} of {len(same)}",
    )


def _base(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row.cell.name.endswith(BASE)), None)


def _of_a_device(row: Row) -> float | None:
    total = bytes_of_round(row)
    return None if total is None else total / row.cell.experiment.run.devices_per_round


def _fits(ram: int) -> str:
    return "yes" if ram <= BOARD_BYTES else "no"


def _all_layers(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [each for each in outcomes if each.case.trains == ALL]


def _within(outcomes: Sequence[Outcome], budget: str) -> list[Outcome]:
    return [each for each in outcomes if each.case.budget == budget]


def _scores(outcomes: Sequence[Outcome]) -> dict[int, float]:
    return {each.case.seed: each.accuracy for each in outcomes if each.accuracy is not None}
