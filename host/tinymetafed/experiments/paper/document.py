"""Writes docs/paper.md: the papers' tables with measured figures, and which results reproduce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from tinymetafed_codegen.files import write_if_changed
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.section import Section

from ...bench import BenchError
from ...federation.meta_test import mean
from ...federation.observer import Observer
from ...federation.result import DCurve, Score
from ...learn.metric import Metric
from ...learn.tasks import DataError
from .. import sweep
from ..sweep import Row, Sweep, table
from ..sweep.table import Spread
from . import hardware, plots
from .hardware import Estimate
from .published import ABLATION, FINE_TUNING, NANO_33_BLE, SHOTS, Step

QUICK = 10  # a quick run has this fraction of the rounds: one in QUICK
_MARGIN = 1.0  # a difference of so many points of accuracy counts as none
_TEMPLATES = Path(__file__).parent / "templates"

BASE = "TinyReptile f32"
_ABLATION = (BASE, "TinyMetaFed P100 f32, constant rate", "TinyMetaFed P100 f32", "TinyMetaFed P75 f32", "TinyMetaFed P50 f32")
_OURS = ("TinyMetaFed P50 i8/f16", "TinyMetaFed P25 i8/f16", "TinyMetaFed P10 i8/i8")
_COURSES = (BASE, "TinyMetaFed P100 f32", "TinyMetaFed P25 i8/f16", "TinyMetaFed P10 i8/i8")
DEFAULT = "TinyMetaFed P25 i8/f16"


@dataclass(frozen=True)
class UseCase:
    """A use case of the papers, with the task that represents it here (in ``title``) and its sweep."""

    key: str
    title: str
    sweep: str


USE_CASES = (
    UseCase("omniglot", "Omniglot, 5 characters", "omniglot"),
    UseCase("keywords", "Keywords: here 4 spoken digits (FSDD), in the papers 4 words of Speech Commands", "digits"),
    UseCase("presence", "Presence: here a generator of rooms, in the papers proprietary data", "presence"),
)


@dataclass(frozen=True)
class Measured:
    """A sweep's rows by name; ``missing`` says why there are none."""

    title: str
    sweep: Sweep
    rows: Mapping[str, Row]
    missing: str = ""


@dataclass(frozen=True)
class AblationLine:
    """A line of an ablation table as text: the paper's figures, ours, and whether they agree."""

    name: str
    published: str
    published_cost: str
    accuracy: str
    difference: str
    cost: str
    bytes: str
    share: str
    seeds: str
    verdict: str


@dataclass(frozen=True)
class AblationTable:
    """A use case's ablation, as text; ``missing`` says why there is none."""

    title: str
    missing: str
    lines: list[AblationLine]
    notes: list[str]
    about: str


def write(out: Path, runs: Path, jobs: int, data: Path | None, quick: bool, observer: Observer) -> Path:
    """Runs the sweeps as far as they are not finished, and writes paper.md with its plots.

    If the data of a sweep are missing, the document says so instead of its figures.

    Args:
        out: Folder for the document.
        runs: Folder of the runs.
        jobs: Runs at a time.
        data: Folder of the data sets; None for the usual place.
        quick: One seed and a tenth of the rounds.
        observer: Is told of progress.

    Returns:
        Path of the document.

    Raises:
        Error: As sweep.execute.
    """
    cases = {case.key: _measured(case.title, case.sweep, runs, jobs, data, quick, observer) for case in USE_CASES}
    sine = _measured("Sine waves", "sine", runs, jobs, data, quick, observer)
    try:
        rounds, unmeasured = hardware.measure(observer), ""
    except BenchError as error:
        rounds, unmeasured = [], str(error)
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pictures = out / "paper"
    omniglot = [row for row in cases["omniglot"].rows.values() if row.bytes_up and row.after.mean is not None]
    if omniglot:
        courses = [row for name in _COURSES for row in omniglot if row.cell.name == name]
        write_if_changed(pictures / "pareto.svg", plots.pareto(omniglot))
        write_if_changed(pictures / "convergence.svg", plots.convergence(courses))
    text = templates.get_template("paper.md.j2").render(
        quick=QUICK if quick else 0,
        ablations=[_ablation(case, cases[case.key]) for case in USE_CASES],
        constant=_rate(cases["omniglot"], _ABLATION[1]),
        schedule=_rate(cases["omniglot"], _ABLATION[2]),
        shots=_shots(cases),
        columns=SHOTS,
        published_rounds=NANO_33_BLE,
        rounds=rounds,
        unmeasured=unmeasured,
        power=dict(zip(("volts", "milliamperes"), hardware.supply(), strict=True)),
        pareto=[(i + 1, *_price(row, cases["omniglot"].rows.get(BASE))) for i, row in enumerate(omniglot)],
        sine=f"Not run: {sine.missing}" if sine.missing else table.markdown(list(sine.rows.values())),
        findings=_findings(cases, sine, rounds),
    )
    write_if_changed(out / "paper.md", text)
    return out / "paper.md"


def _measured(title: str, name: str, runs: Path, jobs: int, data: Path | None, quick: bool, observer: Observer) -> Measured:
    planned = sweep.load(find("examples") / "sweeps" / f"{name}.toml")
    folder = runs / (f"{name}-quick" if quick else name)
    planned = planned.shortened(QUICK) if quick else planned
    observer.event(f"{title}: {len(planned.runs)} runs in {folder}")
    try:
        diverged = sweep.execute(planned, folder, jobs, data, observer)
    except DataError as error:
        return Measured(title, planned, {}, str(error).replace("\n", " "))
    return Measured(title, planned, {row.cell.name: row for row in sweep.rows(planned, folder, diverged)})


# Tables


def _ablation(case: UseCase, measured: Measured) -> AblationTable:
    rows, steps = measured.rows, ABLATION[case.key]
    lines = []
    for name, step in [*zip(_ABLATION, steps, strict=True), *((name, None) for name in _OURS)]:
        if (row := rows.get(name)) is not None:
            lines.append(_line(row, rows[BASE], step, steps[0]))
    default = rows.get(DEFAULT)
    return AblationTable(
        title=measured.title,
        missing=measured.missing,
        lines=lines,
        notes=table.notes(list(rows.values())),
        about="" if default is None else _about(measured, default),
    )


def _rate(measured: Measured, name: str) -> Section:
    """The strategy of a variant, with the schedule of α, which is the same for all use cases."""
    return next(cell.experiment.strategy for cell in measured.sweep.cells if cell.name == name)


def _about(measured: Measured, row: Row) -> str:
    weights, shared = row.cell.manifest.n_parameters, row.cell.manifest.n_global
    experiment = row.cell.experiment
    return (
        f"{weights:,} weights, of which {shared:,} are global ({shared / weights:.0%}); {experiment.run.rounds} rounds; "
        f"{len(measured.sweep.seeds)} seed(s), each with other clients held out; "
        f"{experiment.evaluation.tasks} unseen clients each"
    )


def _line(row: Row, base: Row, step: Step | None, first: Step) -> AblationLine:
    difference = paired(row, base)
    total = _total(row)
    of_base = _total(base)
    return AblationLine(
        name=step.name if step else row.cell.name,
        published=f"{step.accuracy:.1f}" if step else "–",
        published_cost=f"{step.cost:.2f}" if step else "–",
        accuracy=_plus_minus(row.after),
        difference="–" if row is base or difference.mean is None else _signed(difference.mean),
        cost=f"{row.cost:.2f}",
        bytes="–" if total is None else f"{total:,.0f}",
        share="–" if total is None or not of_base else f"{total / of_base:.3f}",
        seeds=f"{len(row.scores)} of {row.seeds}",
        verdict=verdict(difference, step, first) if step and row is not base else "–",
    )


def paired(row: Row, base: Row) -> Spread:
    """Differences of accuracy (0 to 1) to ``base``, seed by seed."""
    return Spread.of([row.scores[seed] - base.scores[seed] for seed in row.scores if seed in base.scores])


def verdict(difference: Spread, step: Step, first: Step) -> str:
    """Whether a step changes accuracy as in the papers.

    Args:
        difference: Measured differences of accuracy (0 to 1) to the first step.
        step: The step in the paper.
        first: The first step in the paper.

    Returns:
        "yes" within 1 point; "undecided" if the paper's difference is within the confidence interval; otherwise "no, better"
        or "no, worse".
    """
    if difference.mean is None:
        return "not measured"
    ours, theirs = 100 * difference.mean, step.accuracy - first.accuracy
    if abs(ours - theirs) <= _MARGIN:
        return "yes"
    if difference.ci95 is None or abs(ours - theirs) <= 100 * difference.ci95:
        return "undecided"
    return "no, better" if ours > theirs else "no, worse"


def _shots(cases: Mapping[str, Measured]) -> list[tuple[str, str, list[str]]]:
    """Accuracy by number of adaptation samples: (method, unseen clients, cells)."""
    lines = []
    for case in USE_CASES:
        title = _short(case)
        lines.append((f"{title}: TinyReptile, papers", "–", [f"{value:.1f}" for value in FINE_TUNING[case.key]]))
        for name in (BASE, DEFAULT, "random initialisation"):
            row = cases[case.key].rows.get(name)
            results = [run.result for run in row.runs.values() if run.result is not None] if row is not None else []
            if results:
                curves = [curve(result.d_curve) for result in results]
                means = [mean([one[d] for one in curves]) if all(d in one for one in curves) else None for d in SHOTS]
                clients = " + ".join(str(result.d_curve.n_tasks) for result in results)
                lines.append((f"{title}: {name}, here", clients, [table.score(each, Metric.ACCURACY) for each in means]))
    return lines


def curve(measured: DCurve) -> dict[int, Score]:
    """A run's accuracy by number of samples per class."""
    return dict(zip(measured.d, measured.mean, strict=True))


def _price(row: Row, base: Row | None) -> tuple[str, str, str, str]:
    total, of_base = _total(row), None if base is None else _total(base)
    share = "–" if total is None or not of_base else f"{total / of_base:.3f}"
    return row.cell.name, _plus_minus(row.after), f"{total:,.0f}", share


def _plus_minus(spread: Spread) -> str:
    """Percent, with the confidence interval over seeds."""
    if spread.mean is None:
        return "–"
    return f"{100 * spread.mean:.1f}" + ("" if spread.ci95 is None else f" ± {100 * spread.ci95:.1f}")


def _total(row: Row) -> float | None:
    return None if row.bytes_down is None or row.bytes_up is None else row.bytes_down + row.bytes_up


def _short(case: UseCase) -> str:
    return case.title.partition(":")[0].partition(",")[0]


# What differs


def _findings(cases: Mapping[str, Measured], sine: Measured, rounds: Sequence[Estimate]) -> list[str]:
    """The papers' claims and our measurements, one sentence each."""
    found = []
    for case in USE_CASES:
        rows, steps = cases[case.key].rows, ABLATION[case.key]
        if not all(name in rows and rows[name].after.mean is not None for name in _ABLATION):
            continue
        title = _short(case)
        base, _, whole, three_quarters, half = (rows[name] for name in _ABLATION)
        published = [step.accuracy for step in steps]
        found.append(
            f"{title}, partial reconstruction with the schedule, against TinyReptile: {published[2] - published[0]:+.1f} "
            f"points in the papers, {_points(paired(whole, base))} here: {verdict(paired(whole, base), steps[2], steps[0])}."
        )
        found.append(
            f"{title}, from P = 100 to P = 50: {published[4] - published[2]:+.1f} points in the papers, "
            f"{_points(paired(half, whole))} here: {verdict(paired(half, whole), steps[4], steps[2])}."
        )
        dense, total = _total(base), _total(three_quarters)
        if total is not None and dense:
            local = 1 - whole.cell.manifest.n_global / whole.cell.manifest.n_parameters
            found.append(
                f"{title}, cost: the papers' {steps[2].cost:.2f} at P = 100 means that {1 - steps[2].cost:.0%} of the weights "
                f"are local; here {local:.0%} are, and the same formula gives {whole.cost:.2f}. P = 75 in float32 costs "
                f"{three_quarters.cost:.2f} by values alone and {total / dense:.2f} of TinyReptile's bytes on the wire, "
                "indices and framing included."
            )
    row, whole_net = sine.rows.get("TinyMetaFed P100 f32"), sine.rows.get(BASE)
    if row is not None and whole_net is not None and row.after.mean is not None and whole_net.after.mean is not None:
        local = 1 - row.cell.manifest.n_global / row.cell.manifest.n_parameters
        found.append(
            f"Sine waves: with partial reconstruction {local:.1%} of the weights are local, and the error is "
            f"{row.after.mean:.3f} against TinyReptile's {whole_net.after.mean:.3f}."
        )
    if rounds:
        ours, theirs = rounds[0], NANO_33_BLE[-1]
        found.append(
            f"Presence on the Nano 33 BLE: the paper's round trains for {theirs.train} s; here it takes about "
            f"{1000 * ours.train_seconds:.0f} ms, and with the line {ours.seconds:.2f} s against "
            f"{theirs.seconds:.1f} s (estimates). It takes {ours.ram_bytes / 1000:.1f} KB of RAM against {theirs.memory_kb} KB."
        )
    return found


def _points(difference: Spread) -> str:
    if difference.mean is None:
        return "not measured"
    interval = "" if difference.ci95 is None else f" ± {100 * difference.ci95:.1f}"
    return _signed(difference.mean) + interval


def _signed(difference: float) -> str:
    return f"{round(100 * difference, 1) + 0.0:+.1f}"
