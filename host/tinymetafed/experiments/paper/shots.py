"""Accuracy by the number of samples that a client adapts with, of some methods, and how far two of them are apart at each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...learn.comparisons import LEVEL, Difference, holm, paired
from ..sweep import Row
from ..sweep.spread import Spread
from . import baselines
from .measured import BASE, DEFAULT, USE_CASES, Measured, plus_minus, points
from .published import FINE_TUNING, SHOTS

METHODS = (BASE, "TinyReptile P25 i8/f16", DEFAULT, "centralised", "local-only")
_TESTED = tuple(d for d in SHOTS if d)  # without a sample nothing has adapted
_NONE = "–"


@dataclass(frozen=True)
class ShotLine:
    """A method, or a difference of two, as text: seeds × tasks, and a cell for each number of samples."""

    name: str
    clients: str
    cells: list[str]


def lines(cases: Mapping[str, Measured]) -> list[ShotLine]:
    """The methods of all use cases, beside the papers' figures."""
    found = []
    for case in USE_CASES:
        published = [f"{value:.1f}" for value in FINE_TUNING[case.key]]
        found.append(ShotLine(f"{case.short}: TinyReptile, papers", _NONE, published))
        for name in METHODS:
            row = cases[case.key].rows.get(name)
            if row is not None and (clients := _clients(row)):
                spreads = [Spread.of(list(_scores(row, d).values())) for d in SHOTS]
                found.append(ShotLine(f"{case.short}: {name}, here", clients, [plus_minus(each) for each in spreads]))
    return found


def differences(cases: Mapping[str, Measured]) -> tuple[list[ShotLine], int]:
    """TinyMetaFed against TinyReptile seed by seed, at each number of samples.

    Returns:
        A line for each use case, whose differences bear an asterisk where Holm's correction for all of them together leaves p
        at the level or below; and the number of these tests.
    """
    apart: dict[str, dict[int, Difference]] = {}
    for case in USE_CASES:
        rows = cases[case.key].rows
        if DEFAULT in rows and BASE in rows:
            apart[case.key] = {d: paired(_scores(rows[DEFAULT], d), _scores(rows[BASE], d)) for d in _TESTED}
    tests = [(key, d) for key, found in apart.items() for d in _TESTED if found[d].p is not None]
    adjusted = dict(zip(tests, holm([apart[key][d].p for key, d in tests]), strict=True))
    table = [
        ShotLine(
            f"{case.short}: {DEFAULT} against {BASE}",
            _clients(cases[case.key].rows[DEFAULT]),
            [_NONE if d == 0 else _cell(apart[case.key][d], adjusted.get((case.key, d))) for d in SHOTS],
        )
        for case in USE_CASES
        if case.key in apart
    ]
    return table, len(tests)


def _cell(difference: Difference, adjusted: float | None) -> str:
    return points(difference) + (r" \*" if adjusted is not None and adjusted <= LEVEL else "")


def _scores(row: Row, d: int) -> dict[int, float]:
    """Accuracy with ``d`` samples per class, by seed; without seeds that have none."""
    curves = {seed: baselines.curve(run.result.d_curve) for seed, run in row.runs.items() if run.result is not None}
    return {seed: score for seed, curve in curves.items() if (score := curve.get(d)) is not None}


def _clients(row: Row) -> str:
    """Seeds × tasks; "" if nothing has finished."""
    tasks: Sequence[int] = [run.result.d_curve.n_tasks for run in row.runs.values() if run.result is not None]
    return f"{len(tasks)} × {max(tasks)}" if tasks else ""
