"""The trials' figures, which of them no other is better than in everything, and the table, the plot and the best experiment."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tinymetafed_codegen.design import built
from tinymetafed_codegen.libraries.markdown_text import markdown_text, table_row
from tinymetafed_codegen.memory import stored_activations
from tinymetafed_codegen.memory.work import multiply_accumulates

from ...learn.metric import Metric
from ...learn.strategies import open_strategy
from ...runs.charts import Chart, Series, chart
from ...runs.setup import design_of
from ..figure import decades
from ..search_ranges import Value
from ..sweep import Cell, Run, Spread, Sweep, is_done, score
from ..sweep import rows as sweep_rows
from .search_space import Objective

if TYPE_CHECKING:
    from .search import Plan


@dataclass(frozen=True)
class Figures:
    """The figures of a trial.

    ``after``: validation clients' score, over the seeds. ``bytes``: of a whole run, down and up, mean of the seeds. ``ram``: of
    the board in bytes, with the stack. ``work``: multiply-accumulates of one client's round.
    """

    metric: Metric
    after: Spread
    bytes: float
    ram: int
    work: int


@dataclass(frozen=True)
class Row:
    """A trial that has ended: its number from 1, the values that it changes, and its figures; None with a ``trouble``.

    ``runs``: folders of its runs, below that of the search.
    """

    number: int
    settings: Mapping[str, Value]
    figures: Figures | None
    trouble: str = ""
    runs: tuple[Path, ...] = field(default=(), repr=False)

    @property
    def changes(self) -> str:
        """The values in words."""
        return ", ".join(f"{key}={shown(value)}" for key, value in self.settings.items()) or "the experiment as it is"


def shown(value: Value) -> str:
    """A value as it is shown; numbers with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def rows(number: int, settings: Mapping[str, Value], trouble: str, cell: Cell | None, plan: Plan, out: Path) -> Row | None:
    """A trial's row; None if it has not ended.

    Args:
        number: Its number, from 0.
        settings: The values that it changes.
        trouble: Why it has no figures, "" if it has.
        cell: Its runs; None with a ``trouble``.
        plan: The search.
        out: The search's folder.
    """
    if trouble:
        return Row(number + 1, settings, None, trouble)
    if cell is None:
        return None
    runs = [Run(cell, seed) for seed in plan.file.seeds]
    if not all(is_done(run, out) for run in runs):
        return None
    (row,) = sweep_rows(Sweep(plan.source, plan.file.seeds, (cell,)), out)
    if not row.whole or row.after.mean is None:
        return Row(number + 1, settings, None, "; ".join(row.troubles) or "no score")
    sent = [sum(entry.bytes_down + entry.bytes_up for entry in run.rounds) for run in row.runs.values()]
    figures = Figures(row.metric, row.after, sum(sent) / len(sent), _ram(cell, plan), _work(cell))
    return Row(number + 1, settings, figures, runs=tuple(run.folder for run in runs))


def _ram(cell: Cell, plan: Plan) -> int:
    return design_of(cell.experiment, str(cell.source), plan.board).manifest.memory.ram_total


def _work(cell: Cell) -> int:
    """Multiply-accumulates of one client's round."""
    experiment = cell.experiment
    net = stored_activations.arranged(built(experiment, str(cell.source)), experiment)
    phases = open_strategy(experiment, cell.manifest).training()
    return sum(phase.steps * multiply_accumulates(net, phase.variant) for phase in phases)


# Which trials are better


def losses(row: Row, objectives: Sequence[Objective]) -> list[float] | None:
    """A trial's figures of which less is better; None if it has none."""
    found = row.figures
    if found is None:
        return None
    assert found.after.mean is not None
    score = -found.after.mean if found.metric.higher_is_better else found.after.mean
    known: dict[Objective, float] = {"score": score, "bytes": found.bytes, "ram": found.ram, "work": found.work}
    return [known[objective] for objective in objectives]


def front(known: Sequence[Row], objectives: Sequence[Objective]) -> list[Row]:
    """The trials that no other trial is at least as good as in every objective and better in one; of equal ones the first."""
    scored = [(row, found) for row in known if (found := losses(row, objectives)) is not None]

    def is_beaten(at: int) -> bool:
        mine = scored[at][1]
        return any(
            all(a <= b for a, b in zip(other, mine, strict=True)) and (other != mine or place < at)
            for place, (_, other) in enumerate(scored)
            if place != at
        )

    return [row for at, (row, _) in enumerate(scored) if not is_beaten(at)]


def best(known: Sequence[Row]) -> Row | None:
    """The trial with the best score; of equal ones that with the fewest bytes, then the first. None without any."""
    scored = [(found, row.number, row) for row in known if (found := losses(row, ("score", "bytes"))) is not None]
    return min(scored)[2] if scored else None


# As text and as a plot

HEADINGS = ("", "trial", "score", "95 % CI", "bytes of a run", "RAM", "multiply-accumulates", "values")


def cells(known: Sequence[Row], objectives: Sequence[Objective]) -> list[list[str]]:
    """Texts below HEADINGS, the best score first; "*" marks the trials of the front, "best" the best one."""
    marked, chosen = {row.number for row in front(known, objectives)}, best(known)
    ordered = sorted(known, key=lambda row: (losses(row, ("score", "bytes")) or [math.inf, math.inf], row.number))
    return [_cells(row, row.number in marked, row is chosen) for row in ordered]


def _cells(row: Row, in_front: bool, is_best: bool) -> list[str]:
    mark = "best" if is_best else "*" if in_front else ""
    if (found := row.figures) is None:
        return [mark, str(row.number), "–", "–", "–", "–", "–", f"{row.changes} ({row.trouble})"]
    interval = "–" if found.after.ci95 is None else f"± {score(found.after.ci95, found.metric)}"
    numbers = [f"{found.bytes:,.0f}", f"{found.ram:,}", f"{found.work:,}"]
    return [mark, str(row.number), score(found.after.mean, found.metric), interval, *numbers, row.changes]


def legend(known: Sequence[Row], board: str, seeds: int) -> str:
    """A sentence that explains the figures."""
    metric = next((row.figures.metric for row in known if row.figures is not None), Metric.ACCURACY)
    what = "accuracy in percent" if metric is Metric.ACCURACY else "mean squared error"
    return (
        f"Score: {what} of validation clients after adaptation, mean of {seeds} seed(s), its interval over seeds; bytes of a "
        f"run on the wire, both ways; RAM of the board {board} with its stack, computed by the code generator; "
        "multiply-accumulates of one client's round, of which docs/boards.md says how many instructions each takes; * no other "
        "trial is as good in every objective and better in one"
    )


def markdown(known: Sequence[Row], objectives: Sequence[Objective], board: str, seeds: int) -> str:
    """The table as Markdown, with its legend."""
    lines = [table_row(HEADINGS), "|---|---:|---:|---:|---:|---:|---:|---|"]
    lines += [table_row([markdown_text(text) for text in texts]) for texts in cells(known, objectives)]
    return "\n".join([*lines, "", f"{legend(known, board, seeds)}."]) + "\n"


def csv_text(known: Iterable[Row], keys: Sequence[str]) -> str:
    """The table as CSV: a line per trial, numbers unrounded."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["trial", "metric", "score", "ci95", "bytes", "ram", "multiply_accumulates", "trouble", *keys])
    for row in known:
        found = row.figures
        numbers = (
            ["", "", "", "", "", ""]
            if found is None
            else [found.metric, found.after.mean, found.after.ci95, found.bytes, found.ram, found.work]
        )
        writer.writerow([row.number, *numbers, row.trouble, *(row.settings.get(key, "") for key in keys)])
    return file.getvalue()


def plot(known: Sequence[Row], objectives: Sequence[Objective]) -> tuple[Chart, list[tuple[float, float, str]]] | None:
    """Score against bytes, a point per trial, those of the front numbered; None without a trial that has figures."""
    scored = [row for row in known if row.figures is not None and row.figures.bytes > 0]
    if not scored:
        return None
    marked = [row for row in front(scored, objectives) if row in scored]
    others = [row for row in scored if row not in marked]
    percent = scored[0].figures is not None and scored[0].figures.metric is Metric.ACCURACY
    series = [
        Series("not surpassed in every objective", "after", [_point(row, percent) for row in marked], line=False, dots=True),
        Series("other trials", "before", [_point(row, percent) for row in others], line=False, dots=True),
    ]
    xs = [x for one in series for x, _ in one.points]
    drawn = chart(
        [one for one in series if one.points],
        "bytes of a run on the wire, logarithmic",
        "accuracy after adaptation (%)" if percent else "mean squared error after adaptation",
        "Score of validation clients against the bytes of a run, by trial",
        x_ticks=decades(xs),
    )
    labels = [(x, y, str(row.number)) for row, (_, x, y) in zip([*marked, *others], drawn.dots, strict=True) if row in marked]
    return drawn, labels


def _point(row: Row, percent: bool) -> tuple[float, float]:
    assert row.figures is not None and row.figures.after.mean is not None
    return math.log10(row.figures.bytes), row.figures.after.mean * (100 if percent else 1)
