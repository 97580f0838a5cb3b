"""Scores of a sweep by the number of samples that an unseen client adapts with, and what adapting gains."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from tinymetafed_codegen.libraries.markdown_text import markdown_text, table_row

from ...federation.meta_test import mean
from ...learn.comparisons import Difference, paired
from ...learn.metric import Metric
from ...runs.run_data import RunData
from .comparison import signed
from .spread import Spread, with_interval
from .table import Row

_Scores = Mapping[int, float | None]  # by number of samples


class CurveJson(TypedDict):
    """One curve as JSON: ``scores`` by seed or group, and then by number of samples."""

    name: str
    samples: str
    unit: str
    scores: dict[str, dict[str, float | None]]
    gain: float | None
    gain_ci95: float | None


@dataclass(frozen=True)
class Curve:
    """The scores of a row by number of samples; 0 is the model without adaptation.

    ``samples``: what the numbers count. ``unit``: what ``scores`` are by and intervals are over: seeds, or, where clients
    are left out together, their groups. ``gain``: the score after adapting as the experiment says minus that before, paired.
    """

    name: str
    metric: Metric
    samples: str
    unit: str
    scores: Mapping[str, _Scores]
    gain: Difference

    def as_json(self) -> CurveJson:
        """JSON values."""
        return {
            "name": self.name,
            "samples": self.samples,
            "unit": self.unit,
            "scores": {key: {str(n): score for n, score in scores.items()} for key, scores in self.scores.items()},
            "gain": self.gain.mean,
            "gain_ci95": self.gain.ci95,
        }

    @property
    def numbers(self) -> list[int]:
        """The numbers of samples that every seed or group has a score for."""
        first, *others = self.scores.values()
        return [number for number in first if all(number in other for other in others)]

    def at(self, number: int) -> Spread:
        """Mean and interval after adapting with a number of samples; unknown if a run diverged."""
        found = [scores[number] for scores in self.scores.values()]
        known = [score for score in found if score is not None]
        return Spread.of(known if len(known) == len(found) else [])


def curves(rows: Sequence[Row]) -> tuple[Curve, ...]:
    """The curve of every row that has a finished run; where clients are left out, of every variant.

    Args:
        rows: The rows of a sweep.
    """
    variants: dict[str, list[Row]] = {}
    for row in rows:
        if row.runs:
            variants.setdefault(row.cell.variant or row.cell.name, []).append(row)
    return tuple(_curve(name, same) for name, same in variants.items())


def _curve(name: str, rows: Sequence[Row]) -> Curve:
    grouped = bool(rows[0].cell.left_out)
    runs: dict[str, Sequence[RunData]] = (
        {", ".join(row.cell.left_out): list(row.runs.values()) for row in rows}
        if grouped
        else {str(seed): [run] for seed, run in rows[0].runs.items()}
    )
    finals = {key: [run.evaluations[-1] for run in some] for key, some in runs.items()}
    before = {key: mean([final.before for final in each]) for key, each in finals.items()}
    after = {key: mean([final.after for final in each]) for key, each in finals.items()}
    results = [run.result for some in runs.values() for run in some if run.result is not None]
    return Curve(
        name=name,
        metric=rows[0].metric,
        samples=results[0].d_curve.samples if results else "labelled samples",
        unit="groups of clients" if grouped else "seeds",
        scores={key: _mean_curve(some) for key, some in runs.items()},
        gain=paired(_known(after), _known(before)),
    )


def _mean_curve(runs: Sequence[RunData]) -> _Scores:
    """The mean of several runs' curves, at the numbers of samples that all have."""
    found = [dict(zip(run.result.d_curve.d, run.result.d_curve.mean, strict=True)) for run in runs if run.result is not None]
    numbers = [number for number in found[0] if all(number in other for other in found)] if found else []
    return {number: mean([each[number] for each in found]) for number in numbers}


def _known(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {key: score for key, score in scores.items() if score is not None}


# As text


def headings(found: Sequence[Curve]) -> list[str]:
    """The row, a column for each number of samples, and the gain."""
    return ["", *(f"D = {number}" for number in _numbers(found)), "gain"]


def cells(found: Sequence[Curve]) -> list[list[str]]:
    """A row of texts for each curve, below ``headings``."""
    numbers = _numbers(found)
    return [
        [
            curve.name,
            *(with_interval(curve.at(number), curve.metric) if number in curve.numbers else "–" for number in numbers),
            signed(curve.gain, curve.metric),
        ]
        for curve in found
    ]


def legend(found: Sequence[Curve]) -> str:
    """A sentence that explains the figures."""
    what = {Metric.ACCURACY: "Accuracy in percent", Metric.MSE: "Mean squared error"}[found[0].metric]
    return (
        f"{what} by number D of {found[0].samples} that an unseen client adapts with; 0 is the model as trained, gain the "
        f"difference by adapting as the experiment says; ± is Student's 95 % interval over {found[0].unit}"
    )


def markdown(found: Sequence[Curve]) -> str:
    """The table as Markdown, followed by a sentence that explains it."""
    heads = headings(found)
    lines = [table_row(heads), "|---|" + "---:|" * (len(heads) - 1), *(table_row(line) for line in cells(found))]
    return "\n".join([*lines, "", f"{markdown_text(legend(found))}."]) + "\n"


def csv_text(found: Sequence[Curve]) -> str:
    """The table as CSV: a line per row, seed or group, and number of samples; numbers unrounded."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["name", found[0].unit, "metric", "samples", "score"])
    for curve in found:
        for key, scores in curve.scores.items():
            for number, score in scores.items():
                writer.writerow([curve.name, key, curve.metric, number, score])
    return file.getvalue()


def _numbers(found: Sequence[Curve]) -> list[int]:
    return sorted({number for curve in found for number in curve.numbers})
