"""Writes docs/paper.md: all methods in one table, the papers' tables with measured figures, and what they show."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2

from tinymetafed_codegen.files import write_if_changed
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.spec import Experiment

from ...bench import BenchError
from ...federation.observer import Observer
from ...learn.comparisons import LEVEL
from ...learn.tasks import DataError
from .. import budget, sweep
from ..sweep import table
from . import ablation, baselines, claims, hardware, parts, plots, shots, size, tried_rates
from .hardware import Estimate
from .measured import BASE, DEFAULT, ONLINE, USE_CASES, Measured, bytes_of_round, bytes_text, plus_minus, share_text
from .parts import Part
from .published import ABLATION, NANO_33_BLE, SHOTS, WEIGHTS

QUICK = 10  # a quick run has this fraction of the rounds: one in QUICK
_MOVING = "omniglot-moving"
_TEMPLATES = Path(__file__).parent / "templates"
_COURSES = (BASE, "TinyReptile P25 i8/f16", DEFAULT, "TinyMetaFed P10 i8/i8")


@dataclass(frozen=True)
class _Runs:
    """How sweeps are run: the folder of the runs, runs at a time, the folder of the data, and the observer of progress."""

    folder: Path
    jobs: int
    data: Path | None
    quick: bool
    observer: Observer

    def swept(self, title: str, name: str, only: Collection[str] = ()) -> Measured:
        """The rows of a sweep, which is run as far as it is not finished; with ``only`` the rows of these names alone."""
        return _measured(title, name, self.folder, self.jobs, self.data, self.quick, self.observer, only)


def write(
    out: Path, runs: Path, jobs: int, data: Path | None, quick: bool, observer: Observer, part: Part | None = None
) -> Path:
    """Runs the sweeps as far as they are not finished, and writes paper.md with its plots.

    If the data of a sweep are missing, the document says so instead of its figures.

    Args:
        out: Folder for the document.
        runs: Folder of the runs.
        jobs: Runs at a time.
        data: Folder of the data sets; None for the usual place.
        quick: One seed and a tenth of the rounds.
        observer: Is told of progress.
        part: The only part of the document that is written again, by its sweeps alone; None for all of it.

    Returns:
        Path of the document.

    Raises:
        SweepError: There is no document to write a part into.
        Error: As sweep.execute.
    """
    how, path = _Runs(runs, jobs, data, quick, observer), out / "paper.md"
    if part is None:
        text = _whole(out, how)
    else:
        parts.check(path, part)  # before hours of runs
        text = parts.replaced(path, part, _PARTS[part](how))
    write_if_changed(path, text)
    return path


def _whole(out: Path, how: _Runs) -> str:
    """The text of the document; its plots are written."""
    own = {part: parts.marked(part, write_part(how)) for part, write_part in _PARTS.items()}
    cases = {case.key: how.swept(case.title, case.sweep) for case in USE_CASES}
    sine = how.swept("Sine waves", "sine")
    try:
        rounds, unmeasured = hardware.measure(how.observer), ""
    except BenchError as error:
        rounds, unmeasured = [], str(error)
    pictures = out / "paper"
    compared = baselines.compared(cases["omniglot"])
    omniglot = [row for row in compared if bytes_of_round(row) is not None and row.after.mean is not None]
    if omniglot:
        courses = [row for name in _COURSES for row in omniglot if row.cell.name == name]
        write_if_changed(pictures / "pareto.svg", plots.pareto(omniglot))
        write_if_changed(pictures / "convergence.svg", plots.convergence(courses))
    found, restarts = claims.claims(cases, sine), _variant(cases["omniglot"], ablation.STEPS[2])
    return _template("paper").render(
        quick=QUICK if how.quick else 0,
        claims=found,
        level=LEVEL,
        worse=[each for each in found if each.verdict == claims.WORSE],
        methods=[baselines.methods(case, cases[case.key]) for case in USE_CASES],
        rates=own[Part.RATES],
        moving=own[Part.MOVING],
        size=own[Part.SIZE],
        ablations=[each for case in USE_CASES for each in ablation.tables(case, cases[case.key])],
        constant=_variant(cases["omniglot"], ablation.STEPS[1]).strategy,
        restarts=restarts.strategy,
        cycles=restarts.run.rounds // (restarts.strategy.restart_rounds or restarts.run.rounds),
        shots=own[Part.SHOTS],
        published_rounds=NANO_33_BLE,
        rounds=rounds,
        unmeasured=unmeasured,
        power=dict(zip(("volts", "milliamperes"), hardware.supply(), strict=True)),
        pareto=[
            (i + 1, row.cell.name, plus_minus(row.after), bytes_text(row), share_text(row, cases["omniglot"].rows.get(BASE)))
            for i, row in enumerate(omniglot)
        ],
        sine=f"Not run: {sine.missing}" if sine.missing else table.markdown(list(sine.rows.values())),
        findings=_findings(cases, sine, rounds),
    )


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(f"{name}.md.j2")


def _rates(how: _Runs) -> str:
    """The settings that were tried for each method."""
    tunings = []
    for case in USE_CASES:
        if case.tuning:
            tuned = how.swept(f"{case.short}, rates", case.tuning)
            used = _cells(case.sweep) | {f"{name}, drawings move": cell for name, cell in _cells(_MOVING).items()}
            tunings.append(tried_rates.table(case, tuned, used))
    return _template("rates").render(tunings=tunings)


def _moving(how: _Runs) -> str:
    """All methods with drawings that move."""
    measured = how.swept("Drawings that move", _MOVING)
    rows = list(measured.rows.values())
    found = baselines.methods(USE_CASES[0], measured)
    return _template("moving").render(
        missing=found.missing,
        lines=found.lines,
        about=found.about,
        notes=found.notes,
        comparisons=table.comparisons(rows) if rows else [],
    )


def _size(how: _Runs) -> str:
    """Networks of the papers' size."""
    measured, fitting = how.swept("The papers' size", size.SWEEP), {}
    plans = {case.key: size.shortened(case.plan, QUICK) if how.quick else case.plan for case in size.CASES}
    if not measured.missing:
        for case in size.CASES:
            file = size.file_of(case, how.folder, quick=how.quick)
            fitting[case.key] = budget.run_all(plans[case.key], file, file.with_suffix(""), how.data, how.observer).outcomes
    return _template("size").render(
        published=WEIGHTS,
        starting=" and ".join(f"{plan.start_rounds} ({size.NAMES[key]})" for key, plan in plans.items()),
        budget=size.BUDGET,
        missing=measured.missing,
        tables=[] if measured.missing else size.tables(measured, fitting),
        tested=size.tested(measured, fitting),
    )


def _shots(how: _Runs) -> str:
    """Accuracy by the number of samples to adapt with."""
    cases = {case.key: how.swept(case.title, case.sweep, shots.METHODS) for case in USE_CASES}
    apart, tests = shots.differences(cases)
    return _template("shots").render(
        columns=SHOTS, lines=shots.lines(cases), differences=apart if tests else [], tests=tests, level=LEVEL
    )


_PARTS: Mapping[Part, Callable[[_Runs], str]] = {
    Part.RATES: _rates,
    Part.MOVING: _moving,
    Part.SIZE: _size,
    Part.SHOTS: _shots,
}


def _cells(name: str) -> dict[str, sweep.Cell]:
    """The rows of a sweep as planned, by name."""
    return {cell.name: cell for cell in sweep.load(_file(name)).cells}


def _file(name: str) -> Path:
    return find("examples") / "sweeps" / f"{name}.toml"


def _measured(
    title: str,
    name: str,
    runs: Path,
    jobs: int,
    data: Path | None,
    quick: bool,
    observer: Observer,
    only: Collection[str] = (),
) -> Measured:
    planned = sweep.load(_file(name))
    if only:
        planned = replace(planned, cells=tuple(cell for cell in planned.cells if cell.name in only))
    folder = runs / (f"{name}-quick" if quick else name)
    planned = planned.shortened(QUICK) if quick else planned
    observer.event(f"{title}: {len(planned.runs)} runs in {folder}")
    try:
        diverged = sweep.execute(planned, folder, jobs, data, observer)
    except DataError as error:
        return Measured(title, planned, {}, str(error).replace("\n", " "))
    return Measured(title, planned, {row.cell.name: row for row in sweep.rows(planned, folder, diverged)})


def _variant(measured: Measured, name: str) -> Experiment:
    """The experiment of a variant; the schedule of α is the same for all use cases."""
    return next(cell.experiment for cell in measured.sweep.cells if cell.name == name)


def _findings(cases: Mapping[str, Measured], sine: Measured, rounds: Sequence[Estimate]) -> list[str]:
    """What is not a comparison of accuracies: cost, sine waves and the round on a board, one sentence each."""
    found = []
    for case in USE_CASES:
        rows, step = cases[case.key].rows, ABLATION[case.key][2]
        names = [ablation.STEPS[i] for i in (0, 2, 3)]
        base, whole, three_quarters = (rows.get(name) or rows.get(name + ONLINE) for name in names)
        if base is None or whole is None or three_quarters is None:
            continue
        dense, total = bytes_of_round(base), bytes_of_round(three_quarters)
        if total is not None and dense:
            local = 1 - whole.cell.manifest.n_global / whole.cell.manifest.n_parameters
            found.append(
                f"{case.short}, cost: the papers' {step.cost:.2f} at P = 100 means that {1 - step.cost:.0%} of the weights "
                f"are local; here {local:.0%} are, and the same formula gives {whole.cost:.2f}. P = 75 in float32 costs "
                f"{three_quarters.cost:.2f} by values alone and {total / dense:.2f} of TinyReptile's bytes on the wire, "
                "indices and framing included."
            )
    row, whole_net = sine.rows.get("TinyMetaFed P100 f32"), sine.rows.get(BASE)
    if row is not None and whole_net is not None and row.after.mean is not None and whole_net.after.mean is not None:
        local = 1 - row.cell.manifest.n_global / row.cell.manifest.n_parameters
        found.append(
            f"Sine waves: with partial reconstruction {local:.1%} of the weights are local, and the error is "
            f"{row.after.mean:.3f} against TinyReptile's {whole_net.after.mean:.3f}, over {len(row.scores)} seeds; "
            "the table above has the test."
        )
    if rounds:
        ours, theirs = rounds[0], NANO_33_BLE[-1]
        found.append(
            f"Presence on the Nano 33 BLE: the paper's round trains for {theirs.train} s; here it takes about "
            f"{1000 * ours.train_seconds:.0f} ms, and with the line {ours.seconds:.2f} s against "
            f"{theirs.seconds:.1f} s (estimates). It takes {ours.ram_bytes / 1000:.1f} KB of RAM against {theirs.memory_kb} KB."
        )
    return found
