"""The content of the page that compares runs: how they differ, their scores and their traffic."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinymetafed_codegen.spec import Experiment, dump

from ...learn.metric import Metric
from ..charts import FRAME, WIDE, Chart, Level, Role, Series, chart
from ..journal import RoundEntry, RunResult
from ..privacy_accounting import spent
from ..run_data import RunData
from ..run_figures import values_only_cost
from .arena import Bar, MemoryPicture, memory_picture
from .board_tables import EstimateRow, estimates
from .traffic_bars import down, samples, up, wire_bytes
from .wording import Scale, byte_unit, chance, count, curve_intervals, interval, sentence, tested

COLOURS = 8  # of curves; with more runs they repeat
ABSENT = "–"
_WAYS = (("down", down), ("up", up), ("samples", samples))


@dataclass(frozen=True)
class Row:
    """A run in the table, as text; ``differing`` has its values of the keys that differ between runs."""

    role: Role
    name: str
    differing: list[str]
    untrained: str
    before: str
    after: str
    down: str
    up: str
    samples: str
    share: str
    values: str


@dataclass(frozen=True)
class DTable:
    """The metric of each run by number of samples, as text."""

    samples: str
    d: list[str]
    rows: list[tuple[str, list[str]]]


@dataclass(frozen=True)
class ComparisonPage:
    """The template's values; ``keys`` are split where a line may break. ``seeds`` says what the figures do not cover."""

    count: str
    task: str
    metric: str
    better: str
    frame: dict[str, int]
    left_out: list[str]
    keys: list[list[str]]
    rows: list[Row]
    tested: list[str]
    seeds: str
    charts: list[tuple[str, str, Chart]]
    d_curves: DTable
    traffic: list[tuple[Role, str, list[Bar]]]
    memories: list[tuple[str, str, MemoryPicture]]
    estimates: list[EstimateRow]
    basis: str
    privacy: list[tuple[str, str]]
    provenance: list[tuple[str, str, str, str, str]]


def kind(run: RunData) -> tuple[str, str]:
    """Task and metric, which compared runs must have in common. Raises StoreError if the experiment cannot be read."""
    experiment = run.experiment()
    return experiment.task.kind, Metric.of(experiment.model.loss)


def page(runs: Sequence[RunData], left_out: Sequence[str]) -> ComparisonPage:
    """The template's values.

    Args:
        runs: Finished runs of the same task and metric.
        left_out: A line of text for each run that was left out.

    Returns:
        The values.
    """
    experiments, results = [run.experiment() for run in runs], [_result(run) for run in runs]
    scale = Scale(Metric.of(experiments[0].model.loss))
    names = _names(runs)
    named = list(zip(names, runs, strict=True))
    keys = differing(experiments)
    private = {name: found for name, run in named if (found := spent(run)) is not None}
    return ComparisonPage(
        count=count(len(runs)),
        task=experiments[0].task.title,
        metric=sentence(scale.title),
        better="higher" if scale.metric.higher_is_better else "lower",
        frame=FRAME,
        left_out=list(left_out),
        keys=[re.findall(r"[^._]+[._]?", key) for key in keys],
        rows=[_row(run, i, names[i], keys, scale, runs[0]) for i, run in enumerate(runs)],
        tested=sorted({tested(result.meta_test) for result in results}),
        seeds=_seeds(experiments),
        charts=[drawn for drawn in _charts(runs, names, scale) if drawn is not None],
        d_curves=_d_table(runs, names, scale),
        traffic=_traffic(runs, names),
        memories=_memories(runs, names),
        estimates=[(f"{name}, {row[0]}", *row[1:]) for name, run in named for row in estimates(_result(run).estimate)],
        basis=next((sentence(result.estimate.basis) for result in results if result.estimate), ""),
        privacy=[(name, found.text) for name, found in private.items()],
        provenance=[
            (name, str(run.path), str(run.header.seed), result.versions["tinymetafed"], result.weights_sha256)
            for (name, run), result in zip(named, results, strict=True)
        ],
    )


def differing(experiments: Sequence[Experiment]) -> list[str]:
    """Keys (SECTION.KEY) whose values differ between experiments, in the order in which they first occur."""
    flat = [_flat(dump(experiment)) for experiment in experiments]
    keys = dict.fromkeys(key for one in flat for key in one)
    return [key for key in keys if any(one.get(key, ABSENT) != flat[0].get(key, ABSENT) for one in flat)]


def _flat(value: object, key: str = "") -> dict[str, str]:
    """The leaves of nested sections and lists as text, by their paths."""
    if isinstance(value, dict):
        return {k: text for name, inner in value.items() for k, text in _flat(inner, f"{key}.{name}" if key else name).items()}
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return {k: text for i, inner in enumerate(value) for k, text in _flat(inner, f"{key}[{i}]").items()}
    return {key: str(value).lower() if isinstance(value, bool) else str(value)}


def _seeds(experiments: Sequence[Experiment]) -> str:
    """Says that intervals do not cover seeds; the smallest number of seeds that one setting was trained with decides."""
    seeds: dict[tuple[tuple[str, str], ...], set[int]] = {}
    for experiment in experiments:
        setting = tuple(pair for pair in _flat(dump(experiment)).items() if pair[0] != "run.seed")
        seeds.setdefault(setting, set()).add(experiment.run.seed)
    fewest = min(map(len, seeds.values()))
    if fewest > 1:
        return (
            f"Each setting was trained with {fewest} seeds or more; intervals are over the clients of one run, not over seeds."
        )
    return (
        "Some settings were trained with one seed only. Training differs from seed to seed, which no interval covers, so a "
        "difference between two runs may be chance: compare several seeds with tinymetafed sweep."
    )


def _names(runs: Sequence[RunData]) -> list[str]:
    """Folder names; where two runs share one, their paths."""
    names = [run.name for run in runs]
    return [str(run.path) if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)]


def _role(number: int) -> Role:
    return f"run{number % COLOURS + 1}"


def _result(run: RunData) -> RunResult:
    assert run.result is not None  # those without one are left out
    return run.result


def _per_round(run: RunData, sent: Callable[[RoundEntry], int]) -> float:
    """Mean bytes of a round, all clients together."""
    return float(sum(map(sent, run.rounds)) / max(run.trained, 1))


def _row(run: RunData, number: int, name: str, keys: Sequence[str], scale: Scale, first: RunData) -> Row:
    experiment, test = run.experiment(), _result(run).meta_test
    flat = _flat(dump(experiment))
    total, reference = (sum(_per_round(one, way) for _, way in _WAYS) for one in (run, first))
    untrained = _result(run).untrained
    return Row(
        role=_role(number),
        name=name,
        differing=[flat.get(key, ABSENT) for key in keys],
        untrained=scale.text(untrained.after) if untrained else ABSENT,
        before=scale.text(test.before),
        after=scale.mean(test.after, interval(test)),
        down=count(_per_round(run, down)),
        up=count(_per_round(run, up)),
        samples=count(_per_round(run, samples)),
        share=f"{total / reference:.2f}" if reference else ABSENT,
        values=f"{values_only_cost(experiment, run.manifest):.2f}" if run.rounds else ABSENT,
    )


def _charts(runs: Sequence[RunData], names: Sequence[str], scale: Scale) -> list[tuple[str, str, Chart] | None]:
    """Heading, note and chart: the metric over rounds, over bytes and over samples."""
    sent = [wire_bytes(run, run.evaluations[-1]) for run in runs]
    unit, factor = byte_unit(max(sent))
    over_rounds = [[(float(entry.round), scale.value(entry.after)) for entry in run.evaluations] for run in runs]
    over_bytes = [[(wire_bytes(run, entry) / factor, scale.value(entry.after)) for entry in run.evaluations] for run in runs]
    tries = (
        "Unseen clients after adaptation: validation clients on the way; the last point is the final meta-test, of test "
        "clients, with its 95 % confidence interval over what is independent among them in this one run. No federation: the "
        "test clients adapted from the initial weights."
    )
    smallest = min((total for total in sent if total), default=0.0)
    curves = [_result(run).d_curve for run in runs]
    tried = sorted({d for curve in curves for d in curve.d})
    over_samples = []
    for curve in curves:
        means = zip(curve.d, curve.mean, strict=True)
        over_samples.append([(float(tried.index(d)), scale.value(mean)) for d, mean in means])
    errors = [[scale.value(half_width) for half_width in curve_intervals(curve)] for curve in curves]
    final = [_final_error(run, scale) for run in runs]
    guess = _guessing(runs)
    references = [*guess, *_untrained(runs, names, scale)]
    shared = [y for points in (*over_rounds, *over_samples) for _, y in points] + [level.y for level in references]
    return [
        _chart("Over rounds", tries, names, over_rounds, final, "rounds trained", scale, references, shared),
        _chart(
            "Over bytes", f"{tries} Bytes include framing, retries and streamed samples.", names, over_bytes, final,
            f"{unit} on the wire, both ways", scale, references, shared,
            log_x=bool(smallest) and max(sent) > WIDE * smallest,
        ),
        _chart(
            "More and fewer samples",
            "Clients of the final meta-test by number of adaptation samples, with 95 % confidence intervals over what is "
            "independent among them in this one run.",
            names, over_samples, errors, curves[0].samples, scale, guess, shared,
            ticks=[(float(i), str(d)) for i, d in enumerate(tried)],
        ),
    ]  # fmt: skip


def _guessing(runs: Sequence[RunData]) -> list[Level]:
    """The accuracy of guessing, for each number of classes; none for values."""
    known = {chance(run.experiment(), run.manifest.output_size) for run in runs}
    return [Level(label, "chance", y) for label, y in sorted(each for each in known if each)]


def _untrained(runs: Sequence[RunData], names: Sequence[str], scale: Scale) -> list[Level]:
    """The score without federation: one line where all runs have the same one, otherwise one for each."""
    levels = [
        Level(f"{name}, no federation", _role(i), scale.value(untrained.after))
        for i, (run, name) in enumerate(zip(runs, names, strict=True))
        if (untrained := _result(run).untrained)
    ]
    if len(levels) == len(runs) and len({level.y for level in levels}) == 1:
        return [Level("no federation", "untrained", levels[0].y)]
    return levels


def _final_error(run: RunData, scale: Scale) -> list[float]:
    """Half-widths of the evaluations' intervals; only the last one is drawn, because all of them would hide the curve."""
    half_width = interval(_result(run).meta_test)
    return [math.nan] * (len(run.evaluations) - 1) + [scale.value(half_width)]


def _chart(
    heading: str,
    note: str,
    names: Sequence[str],
    curves: Sequence[list[tuple[float, float]]],
    errors: Sequence[list[float]],
    x_label: str,
    scale: Scale,
    levels: Sequence[Level],
    shared: Sequence[float],
    ticks: Sequence[tuple[float, str]] | None = None,
    log_x: bool = False,
) -> tuple[str, str, Chart] | None:
    """A chart of all runs; None if there is nothing to draw, because every model diverged or nothing was sent."""
    if not any(math.isfinite(y) and (x > 0 or not log_x) for points in curves for x, y in points):
        return None
    series = [
        Series(name, _role(i), points, half_widths, dots=len(points) <= 40)
        for i, (name, points, half_widths) in enumerate(zip(names, curves, errors, strict=True))
    ]
    summary = f"{scale.title} {heading.lower()}: {', '.join(names)}"
    drawn = chart(
        series,
        x_label,
        scale.label,
        summary,
        y_range=scale.y_range,
        log_y=scale.y_range is None,
        x_ticks=ticks,
        log_x=log_x,
        levels=levels,
        shared=shared,
    )
    return heading, note, drawn


def _d_table(runs: Sequence[RunData], names: Sequence[str], scale: Scale) -> DTable:
    """The metric of each run by number of samples, as text."""
    curves = [_result(run).d_curve for run in runs]
    tried = sorted({d for curve in curves for d in curve.d})
    rows = []
    for name, curve in zip(names, curves, strict=True):
        known = {
            d: scale.mean(mean, half_width)
            for d, mean, half_width in zip(curve.d, curve.mean, curve_intervals(curve), strict=True)
        }
        rows.append((name, [known.get(d, ABSENT) for d in tried]))
    return DTable(curves[0].samples, [str(d) for d in tried], rows)


def _traffic(runs: Sequence[RunData], names: Sequence[str]) -> list[tuple[Role, str, list[Bar]]]:
    """Mean bytes of a round by direction, all bars on one scale."""
    amounts = [[(way, _per_round(run, sent)) for way, sent in _WAYS] for run in runs]
    longest = max(amount for of_run in amounts for _, amount in of_run) or 1
    rows = []
    for i, (name, of_run) in enumerate(zip(names, amounts, strict=True)):
        drawn = [(way, amount) for way, amount in of_run if amount or way != "samples"]
        rows.append((_role(i), name, [Bar(way, count(amount), round(amount / longest, 4)) for way, amount in drawn]))
    return rows


def _memories(runs: Sequence[RunData], names: Sequence[str]) -> list[tuple[str, str, MemoryPicture]]:
    """Each different arena once: the names of its runs, their total RAM, and the picture."""
    pictures: list[tuple[list[str], list[str], MemoryPicture]] = []
    for run, name in zip(runs, names, strict=True):
        picture = memory_picture(run.manifest)
        ram = f"{name} {picture.total}"
        same = next((known for known in pictures if (known[2].boxes, known[2].steps) == (picture.boxes, picture.steps)), None)
        if same is None:
            pictures.append(([name], [ram], picture))
        else:
            same[0].append(name)
            same[1].append(ram)
    return [(", ".join(known), ", ".join(ram), picture) for known, ram, picture in pictures]
