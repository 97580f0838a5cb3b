"""The document's plots as SVG files."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...runs.charts import Series, chart
from ..figure import decades, render
from ..sweep import Row


def pareto(rows: Sequence[Row]) -> str:
    """Accuracy against bytes of a round: a point per row, numbered from 1, with its 95 % confidence interval over seeds."""
    partial = [row for row in rows if row.cell.manifest.n_global < row.cell.manifest.n_parameters]
    series = []
    for label, role, chosen in (
        ("TinyMetaFed", "after", partial),
        ("the whole network travels", "before", [row for row in rows if row not in partial]),
    ):
        points = [(math.log10(_bytes(row)), _percent(row)) for row in chosen]
        errors = [100 * (row.after.ci95 or 0) for row in chosen]
        series.append((Series(label, role, points, errors, line=False, dots=True), chosen))
    lows = [y - e for one, _ in series for (_, y), e in zip(one.points, one.errors, strict=True)]
    highs = [y + e for one, _ in series for (_, y), e in zip(one.points, one.errors, strict=True)]
    drawn = chart(
        [one for one, _ in series],
        "bytes of a round on the wire, logarithmic",
        "accuracy after adaptation (%)",
        "Accuracy of unseen clients against the bytes of a round",
        y_range=(math.floor(min(lows)), math.ceil(max(highs))),
        x_ticks=decades([x for one, _ in series for x, _ in one.points]),
    )
    order = [row for _, chosen in series for row in chosen]
    labels = [(x, y, str(rows.index(row) + 1)) for row, (_, x, y) in zip(order, drawn.dots, strict=True)]
    return render(drawn, labels)


def convergence(rows: Sequence[Row]) -> str:
    """Accuracy during training against the bytes sent so far, mean over seeds."""
    roles = ("before", "truth", "after", "samples")
    series = [Series(row.cell.name, role, _course(row), dots=True) for role, row in zip(roles, rows, strict=False)]
    ys = [y for one in series for _, y in one.points]
    drawn = chart(
        series,
        "bytes down and up since the start, all rounds, logarithmic",
        "accuracy after adaptation (%)",
        "Accuracy of unseen clients during training, against the bytes sent so far",
        y_range=(math.floor(min(ys)), math.ceil(max(ys))),
        x_ticks=decades([x for one in series for x, _ in one.points]),
    )
    return render(drawn)


def _course(row: Row) -> list[tuple[float, float]]:
    """(log10 of bytes, percent) at each evaluation that all seeds have."""
    per_round = _bytes(row)
    by_round: dict[int, list[float]] = {}
    for run in row.runs.values():
        for entry in run.evaluations:
            by_round.setdefault(entry.round, []).extend([] if entry.after is None else [entry.after])
    means = {round_: float(np.mean(scores)) for round_, scores in by_round.items() if len(scores) == len(row.runs)}
    return [(math.log10(per_round * round_), 100 * score) for round_, score in sorted(means.items()) if round_]


def _bytes(row: Row) -> float:
    assert row.bytes_down is not None and row.bytes_up is not None  # a row without runs is not drawn
    return row.bytes_down + row.bytes_up


def _percent(row: Row) -> float:
    assert row.after.mean is not None
    return 100 * row.after.mean
