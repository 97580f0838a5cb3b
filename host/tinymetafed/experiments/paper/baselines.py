"""All methods in one table: accuracy, bytes, and how often a device trains on a sample."""

from __future__ import annotations

from dataclasses import dataclass

from tinymetafed_codegen.spec import Experiment

from ...federation.meta_test import mean
from ...federation.result import DCurve, Score
from ...learn.metric import Metric
from ..sweep import Row, score, table
from ..sweep.spread import Spread
from .ablation import STEPS
from .measured import BASE, ONLINE, Measured, UseCase, bytes_text, difference, plus_minus, points, share_text


@dataclass(frozen=True)
class MethodLine:
    """A method as text. ``one``: accuracy with one sample per class; ``online``: on each sample before training on it."""

    name: str
    accuracy: str
    difference: str
    one: str
    online: str
    bytes: str
    share: str
    uses: str
    seeds: str


@dataclass(frozen=True)
class MethodTable:
    """The methods of a use case as text; ``missing`` says why there are none."""

    title: str
    about: str
    missing: str
    lines: list[MethodLine]
    notes: list[str]


def methods(case: UseCase, measured: Measured) -> MethodTable:
    """A use case's table of methods."""
    base = measured.rows.get(BASE)
    return MethodTable(
        title=measured.title,
        about=_about(measured, base) if base is not None else "",
        missing=measured.missing,
        lines=[_line(row, base) for row in compared(measured)],
        notes=table.notes(list(measured.rows.values())),
    )


def compared(measured: Measured) -> list[Row]:
    """All rows of a use case but those of the ablation."""
    steps = {step + suffix for step in STEPS for suffix in ("", ONLINE)}
    return [row for name, row in measured.rows.items() if name not in steps]


def _about(measured: Measured, row: Row) -> str:
    experiment, weights = row.cell.experiment, row.cell.manifest.n_parameters
    partial = [each.cell.manifest.n_global for each in measured.rows.values() if each.cell.manifest.n_global < weights]
    shared = f", of which TinyMetaFed shares {partial[0]:,} ({partial[0] / weights:.0%})" if partial else ""
    return (
        f"{weights:,} weights{shared}; {experiment.run.rounds} rounds; {len(measured.sweep.seeds)} seed(s), each with other "
        f"clients held out; {experiment.evaluation.tasks} tasks of unseen clients each"
    )


def _line(row: Row, base: Row | None) -> MethodLine:
    results = [run.result for run in row.runs.values() if run.result is not None]
    online = [result.online.after for result in results if result.online is not None and result.online.after is not None]
    return MethodLine(
        name=row.cell.name,
        accuracy=plus_minus(row.after),
        difference="–" if row is base or base is None else points(difference(row, base)),
        one=score(mean_at(row, 1), Metric.ACCURACY),
        online=plus_minus(Spread.of(online)),
        bytes=bytes_text(row),
        share=share_text(row, base),
        uses=_uses(row.cell.experiment),
        seeds=f"{len(row.scores)} of {row.seeds}",
    )


def _uses(experiment: Experiment) -> str:
    """How many times a device trains on a support and on a query sample in a round; "–" without rounds."""
    if experiment.run.rounds == 0:
        return "–"
    support, query = experiment.strategy.uses
    return f"{support}" if support == query else f"{support}, {query}"


def mean_at(row: Row, d: int) -> Score:
    """The mean over seeds after adapting with ``d`` samples per class; None where a seed has no such score."""
    curves = [curve(run.result.d_curve) for run in row.runs.values() if run.result is not None]
    found = [one.get(d) for one in curves]
    return mean(found) if found and None not in found else None


def curve(measured: DCurve) -> dict[int, Score]:
    """A run's accuracy by number of samples per class."""
    return dict(zip(measured.d, measured.mean, strict=True))
