"""A sweep's table of results: statistics over seeds, counted bytes, the papers' communication cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tinymetafed_codegen.libraries.markdown_text import markdown_text, table_row

from ...federation.result import Evaluation
from ...learn.metric import Metric
from ...runs.run_data import RunData
from ...runs.run_figures import values_only_cost
from ...runs.store import read_run
from . import comparison
from .comparison import Comparison
from .finished_runs import is_done
from .spread import Spread, score
from .sweep_file import Cell, Run, Sweep


@dataclass(frozen=True)
class Row:
    """One cell of the sweep.

    ``scores``: scores after adaptation of the finished runs, by seed. Bytes are means per round, all devices together.
    ``cost``: the papers' communication cost, TinyReptile's round = 1. ``troubles``: which runs failed, and how.
    ``compared``: with the sweep's baseline; None for the baseline itself, and without one.
    """

    cell: Cell
    metric: Metric
    seeds: int
    scores: Mapping[int, float]
    before: Spread
    after: Spread
    bytes_down: float | None
    bytes_up: float | None
    bytes_samples: float | None
    cost: float
    runs: Mapping[int, RunData] = field(repr=False)
    troubles: Sequence[str]
    compared: Comparison | None = None

    @property
    def finals(self) -> dict[int, Evaluation]:
        """The final meta-tests of the finished runs, by seed."""
        return {seed: run.evaluations[-1] for seed, run in self.runs.items()}

    @property
    def whole(self) -> bool:
        """Whether every seed has a score."""
        return len(self.scores) == self.seeds

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "name": self.cell.name,
            "metric": self.metric,
            "seeds_done": len(self.scores),
            "seeds": self.seeds,
            "before": vars(self.before),
            "after": vars(self.after),
            "after_by_seed": {str(seed): score for seed, score in self.scores.items()},
            "bytes_down": self.bytes_down,
            "bytes_up": self.bytes_up,
            "bytes_samples": self.bytes_samples,
            "values_only_cost": self.cost,
            "group": next((final.group for final in self.finals.values()), None),
            "n_tasks": next((final.n_tasks for final in self.finals.values()), None),
            "n_independent_by_seed": {str(seed): final.n_independent for seed, final in self.finals.items()},
            "unit": next((final.unit for final in self.finals.values()), None),
            "compared": None if self.compared is None else asdict(self.compared),
            "troubles": list(self.troubles),
        }


def rows(sweep: Sweep, out: Path, failed: Mapping[Path, str] | None = None) -> list[Row]:
    """The table of a sweep, finished or not.

    Args:
        sweep: The sweep.
        out: Its folder.
        failed: For runs that diverged or have too few clients what happened, by folder.

    Returns:
        One row per cell.

    Raises:
        Error: StoreError or SweepFailed.
    """
    found = [_row(cell, [Run(cell, seed) for seed in sweep.seeds], out, failed or {}) for cell in sweep.cells]
    # Clients that are left out in turn are compared one by one.
    return found if sweep.baseline is None or sweep.cells[0].left_out else compare(found, sweep.baseline)


def compare(table: Sequence[Row], baseline: str) -> list[Row]:
    """The rows, each compared with the one named ``baseline``."""
    scores = {row.cell.name: row.scores for row in table}
    compared = comparison.compare(scores, baseline, table[0].metric, "seed")
    return [replace(row, compared=compared.get(row.cell.name)) for row in table]


def _row(cell: Cell, runs: Sequence[Run], out: Path, failed: Mapping[Path, str]) -> Row:
    done = {run.seed: read_run(out / run.folder) for run in runs if is_done(run, out)}
    finals = {seed: run.evaluations[-1] for seed, run in done.items()}
    scores = {seed: final.after for seed, final in finals.items() if final.after is not None}
    troubles = [f"seed {seed} collapsed after {final.round} rounds" for seed, final in finals.items() if final.collapsed]
    troubles += [f"seed {seed} diverged" for seed in finals.keys() - scores.keys() if not finals[seed].collapsed]
    troubles += [f"seed {run.seed} {failed[run.folder]}" for run in runs if run.folder in failed]
    trained = [entry for run in done.values() for entry in run.rounds]

    def per_round(total: int) -> float | None:
        return total / len(trained) if trained else None if not done else 0.0

    return Row(
        cell=cell,
        metric=Metric.of(cell.experiment.model.loss),
        seeds=len(runs),
        scores=scores,
        before=Spread.of([final.before for final in finals.values() if final.before is not None]),
        after=Spread.of(list(scores.values())),
        bytes_down=per_round(sum(entry.bytes_down for entry in trained)),
        bytes_up=per_round(sum(entry.bytes_up for entry in trained)),
        bytes_samples=per_round(sum(entry.bytes_samples for entry in trained)),
        cost=values_only_cost(cell.experiment, cell.manifest),
        runs=done,
        troubles=troubles,
    )


# As text

HEADINGS = ("", "seeds", "before", "after", "SD", "95 % CI", "each seed", "bytes down", "up", "samples", "values-only cost")


def cells(row: Row) -> list[str]:
    """A row's texts below HEADINGS."""
    return [
        row.cell.name,
        f"{len(row.scores)} of {row.seeds}",
        score(row.before.mean, row.metric),
        score(row.after.mean, row.metric),
        score(row.after.sd, row.metric),
        "–" if row.after.ci95 is None else f"± {score(row.after.ci95, row.metric)}",
        ", ".join(score(each, row.metric) for each in row.scores.values()) or "–",
        *("–" if count is None else f"{count:,.0f}" for count in (row.bytes_down, row.bytes_up, row.bytes_samples)),
        f"{row.cost:.2f}",
    ]


def notes(table: Sequence[Row], left_out: Sequence[tuple[str, str]] = ()) -> list[str]:
    """Notes on the table: which rows are incomplete or left out, and which runs collapsed or diverged."""
    unfinished = [row.cell.name for row in table if not row.whole]
    found = [f"{row.cell.name}: {trouble}" for row in table for trouble in row.troubles]
    found += [f"{name}: left out: {reason}" for name, reason in left_out]
    return ([f"Not complete: {', '.join(unfinished)}."] if unfinished else []) + found


def comparisons(table: Sequence[Row]) -> list[str]:
    """A line for each row that is compared with the baseline."""
    compared = {row.cell.name: row.compared for row in table if row.compared is not None}
    return comparison.lines(compared, table[0].metric, "seed")


def scored(table: Sequence[Row]) -> str:
    """Whom each run was scored by: the group, tasks, and what is independent among them; "" before the first run."""
    finals = [final for row in table for final in row.finals.values()]
    if not finals:
        return ""
    tasks, units = sorted({final.n_tasks for final in finals}), sorted({final.unit for final in finals})
    counts = sorted({final.n_clients if final.n_independent is None else final.n_independent for final in finals})
    group = "validation" if all(final.group == "validation" for final in finals) else "test"

    def span(numbers: Sequence[int]) -> str:
        return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"

    named = " or ".join(f"{unit}{'' if counts == [1] else 's'}" for unit in units)
    return f"each run scores {span(tasks)} tasks of {group} clients, of {span(counts)} independent {named}"


def legend(table: Sequence[Row]) -> str:
    """A sentence that explains the figures."""
    what = {Metric.ACCURACY: "accuracy in percent", Metric.MSE: "mean squared error"}[table[0].metric]
    who = f"; {found}" if (found := scored(table)) else ""
    return f"{what[0].upper()}{what[1:]} of unseen clients{who}; bytes of a round on the wire, framing included, samples apart"


def markdown(table: Sequence[Row], left_out: Sequence[tuple[str, str]] = ()) -> str:
    """The table as Markdown, followed by its legend and notes."""
    lines = [table_row(HEADINGS), "|---|" + "---:|" * (len(HEADINGS) - 1), *(table_row(cells(row)) for row in table)]
    lines += ["", f"{legend(table)}.", *(f"- {markdown_text(note)}" for note in notes(table, left_out))]
    if compared := comparisons(table):
        lines += ["", markdown_text(compared[0]), "", *(f"- {markdown_text(line)}" for line in compared[1:])]
    return "\n".join(lines) + "\n"


def csv_text(table: Sequence[Row]) -> str:
    """The table as CSV: a line per run with a score, numbers unrounded."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["name", "seed", "metric", "before", "after", "bytes_down", "bytes_up", "bytes_samples", "values_only_cost"]
    )
    for row in table:
        for seed, after in row.scores.items():
            run = row.runs[seed]
            sums = (
                sum(entry.bytes_down for entry in run.rounds),
                sum(entry.bytes_up for entry in run.rounds),
                sum(entry.bytes_samples for entry in run.rounds),
            )
            per_round = (total / max(run.trained, 1) for total in sums)
            writer.writerow([row.cell.name, seed, row.metric, run.evaluations[-1].before, after, *per_round, row.cost])
    return file.getvalue()
