"""Charts of a run's scores: over rounds, bytes, adaptation samples and clients, and the predictions of one client."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...federation.result import CurveExample, DCurve, Evaluation, Example, Score, Scores
from ...learn.client_groups import ClientGroup
from ..charts import Chart, Level, Point, Role, Series, chart
from ..run_data import RunData
from .traffic_bars import wire_bytes
from .wording import Scale, byte_unit, chance, curve_intervals, interval, tested

BEFORE_AND_AFTER: tuple[Role, Role] = ("before", "after")


def on_the_way(run: RunData) -> list[Evaluation]:
    """The evaluations of one group of clients: without the final meta-test if that was of others than those on the way."""
    return [entry for entry in run.evaluations if entry.group == run.evaluations[0].group]


def looked_at(run: RunData) -> str:
    """Whose scores the curves are of, in words."""
    return (
        "validation clients" if run.evaluations and run.evaluations[0].group is ClientGroup.VALIDATION else "held-out clients"
    )


def learning_chart(run: RunData, planned: int, scale: Scale) -> Chart | None:
    """The metric over rounds; None with fewer than two evaluations."""
    entries = on_the_way(run)
    series = [
        Series(
            f"{role} adaptation",
            role,
            [(float(entry.round), scale.value(score)) for entry, score in zip(entries, scores, strict=True)],
            dots=len(entries) <= 40,
        )
        for role, scores in (
            ("before", [entry.before for entry in entries]),
            ("after", [entry.after for entry in entries]),
        )
    ]
    if run.result:
        test = run.result.meta_test
        final = [(float(run.result.rounds), scale.value(test.after))]
        half_width = interval(test)
        errors = [scale.value(half_width)] if half_width is not None else []
        of_others = " of test clients" if test.group is ClientGroup.TEST else ""
        label = f"final meta-test{of_others}" + (", 95 % interval" if errors else "")
        series.append(Series(label, "final", final, errors, line=False))
    if not any(math.isfinite(y) for one in series for _, y in one.points) or len(run.evaluations) < 2:
        return None
    untrained = run.result.untrained if run.result else None
    return chart(
        series,
        "rounds trained",
        scale.label,
        f"{scale.title} of {looked_at(run)} over rounds trained",
        x_range=(0, float(planned)),
        y_range=scale.y_range,
        log_y=scale.y_range is None,
        levels=[
            *_guessing(run),
            *([Level("no federation", "untrained", scale.value(untrained.after))] if untrained else []),
        ],
    )


def over_bytes_chart(run: RunData, scale: Scale) -> Chart | None:
    """The metric over bytes sent; None with fewer than two evaluations."""
    points = [(wire_bytes(run, entry), scale.value(entry.after)) for entry in on_the_way(run)]
    if sum(math.isfinite(y) for _, y in points) < 2 or not points[-1][0]:
        return None
    unit, factor = byte_unit(points[-1][0])
    return chart(
        [Series("after adaptation", "after", [(x / factor, y) for x, y in points], dots=len(points) <= 40)],
        f"{unit} on the wire, both ways",
        scale.label,
        f"{scale.title} of {looked_at(run)} over bytes on the wire",
        y_range=scale.y_range,
        log_y=scale.y_range is None,
        levels=_guessing(run),
    )


def _guessing(run: RunData) -> list[Level]:
    """The accuracy of guessing; none for values."""
    guess = chance(run.experiment(), run.manifest.output_size)
    return [Level(guess[0], "chance", guess[1])] if guess else []


def d_curve_chart(run: RunData, curve: DCurve, scale: Scale) -> Chart | None:
    """The metric of held-out clients by number of adaptation samples; None if all models diverged."""
    points = [(float(i), scale.value(mean)) for i, mean in enumerate(curve.mean)]
    if not any(math.isfinite(y) for _, y in points):
        return None
    errors = [scale.value(half_width) for half_width in curve_intervals(curve)]
    known = any(math.isfinite(error) for error in errors)
    return chart(
        [Series("mean, 95 % confidence interval" if known else "mean", "after", points, errors, dots=True)],
        curve.samples,
        scale.label,
        f"{scale.title} over {curve.samples}, {tested(curve, 'new ')}",
        y_range=scale.y_range,
        log_y=scale.y_range is None,
        x_ticks=[(float(i), str(d)) for i, d in enumerate(curve.d)],
        levels=_guessing(run),
    )


def example_chart(example: Example) -> Chart:
    """One held-out client's predictions before and after adaptation, over its input or against the true values."""
    who = f"a client never trained on, {example.client}"
    if isinstance(example, CurveExample):
        shots = _points(example.samples_x, example.samples_y)
        return chart(
            [
                Series("truth", "truth", _points(example.x, example.truth)),
                Series("before", "before", _points(example.x, example.before)),
                Series("after", "after", _points(example.x, example.after)),
                Series(f"its {len(shots)} samples", "samples", shots, line=False, dots=True),
            ],
            "x",
            "y",
            f"{who}: before and after adaptation, against the truth",
        )
    true = [_number(value) for value in example.true]
    series = [Series("perfect", "truth", [(end, end) for end in (min(true), max(true))])]
    for role, predicted in (("before", example.before), ("after", example.after)):
        series.append(Series(role, role, _points(example.true, predicted), line=False, dots=True))
    return chart(series, "true", "predicted", f"{who}: predicted against true values, before and after adaptation")


def _points(x: Sequence[Score], y: Sequence[Score]) -> list[Point]:
    return [(_number(at), _number(value)) for at, value in zip(x, y, strict=True)]


def _number(value: Score) -> float:
    return math.nan if value is None else value


def spread_chart(meta_test: Scores, scale: Scale) -> Chart | None:
    """The scores of all held-out clients, best first."""
    series = []
    for column, role in enumerate(BEFORE_AND_AFTER):
        values = [scale.value(pair[column]) for pair in meta_test.per_task]
        ordered = sorted((v for v in values if math.isfinite(v)), reverse=scale.metric.higher_is_better)
        points = [(float(rank), value) for rank, value in enumerate(ordered, 1)]
        series.append(Series(f"{role} adaptation", role, points))
    if not any(one.points for one in series):
        return None
    return chart(
        series,
        "held-out clients, best first",
        scale.label,
        f"{scale.title} of every held-out client, sorted",
        y_range=scale.y_range,
        log_y=scale.y_range is None,
    )
