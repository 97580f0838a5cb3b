"""The rates of each method: the settings that were tried on validation clients, and whether the best one is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..sweep import Cell, Row
from .measured import Measured, UseCase, plus_minus


@dataclass(frozen=True)
class TuningLine:
    """A method's settings as text, each with its score; ``best`` is what has the best mean, ``used`` what the tables use."""

    method: str
    settings: list[tuple[str, str]]
    best: str
    used: str


@dataclass(frozen=True)
class TuningTable:
    """The rates that were tried for a use case, as text; ``missing`` says why there is none."""

    title: str
    about: str
    missing: str
    lines: list[TuningLine]


def table(case: UseCase, tuned: Measured, used: Mapping[str, Cell]) -> TuningTable:
    """The table of a tuning sweep.

    Args:
        case: The use case.
        tuned: Its tuning sweep, whose rows are named "METHOD, KEY=VALUE, KEY=VALUE".
        used: The rows of the tables, by method.
    """
    by_method: dict[str, list[Row]] = {}
    for name, row in tuned.rows.items():
        by_method.setdefault(method_of(name), []).append(row)
    return TuningTable(
        title=case.short,
        about=_about(tuned),
        missing=tuned.missing,
        lines=[_line(method, rows, used) for method, rows in by_method.items()],
    )


def method_of(name: str) -> str:
    """The method of a row of a tuning sweep: its name without the settings."""
    return ", ".join(part for part in name.split(", ") if "=" not in part)


def _setting(name: str) -> str:
    return ", ".join(part for part in name.split(", ") if "=" in part)


def _about(tuned: Measured) -> str:
    rounds = max((cell.experiment.run.rounds for cell in tuned.sweep.cells), default=0)
    tasks = tuned.sweep.cells[0].experiment.evaluation.tasks
    return f"{rounds} rounds, {len(tuned.sweep.seeds)} seed(s), {tasks} tasks of validation clients each"


def _line(method: str, rows: Sequence[Row], used: Mapping[str, Cell]) -> TuningLine:
    means = [row.after.mean for row in rows if row.after.mean is not None]
    highest = max if rows[0].metric.higher_is_better else min
    best = [_setting(row.cell.name) for row in rows if means and row.after.mean == highest(means)]
    final = used.get(method)
    chosen = [row for row in rows if final is not None and _has(final, row)]
    return TuningLine(
        method=method,
        settings=[(_setting(row.cell.name), plus_minus(row.after)) for row in rows],
        best=" or ".join(best) or "–",
        used=_setting(chosen[0].cell.name) if chosen else "–",
    )


def _has(final: Cell, tried: Row) -> bool:
    """Whether a row of the tables has the settings that a row of a tuning sweep names."""
    for section in ("strategy", "adaptation"):
        one, other = (getattr(cell.experiment, section) for cell in (final, tried.cell))
        if one.model_dump() != other.model_dump():
            return False
    return True
