"""The parts of the live pages as HTML: of a run, which are those of its report, and of several runs side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tinymetafed_codegen.errors import Error

from ..federation.board_state import Presence
from ..runs import report
from ..runs.charts import FRAME, Chart, Series, chart
from ..runs.report import run_page
from ..runs.report.comparison_page import COLOURS
from ..runs.report.wording import Scale, byte_unit, count, duration, sentence, size
from ..runs.run_status import RunStatus
from .run_state import ABSENT, BoardLine, Phase, RunState
from .run_watch import Look

FOLDER = Path(__file__).parent / "templates"
RUN_PARTS = ("run_summary", "live_status", "run_charts", "live_boards", "run_tables", "run_model")  # in the page's order
MOST_DOTS = 40  # of a curve whose points are marked
OVERVIEW_PARTS = ("live_heading", "live_runs", "live_curves")

Parts = dict[str, str]  # HTML by name of the part


@dataclass(frozen=True)
class RunRow:
    """A run in the table of runs, as text.

    ``role``: the colour of its curves. ``is_known``: whether its store could be read. ``problem``: why not, or how to go on.
    """

    role: str
    name: str
    link: str
    phase: str
    is_known: bool
    doing: str
    rounds: str
    share: float
    score: str
    scored: str
    bytes: str
    of_dense: str
    retries: str
    outliers: str
    energy: str
    took: str
    problem: str


@dataclass(frozen=True)
class BoardRow:
    """A board in the table of boards, as text; ``presence`` is a CSS class."""

    url: str
    board: str
    presence: str
    state: str
    doing: str
    rounds: str
    retries: str
    sent: str
    aside: str


def report_parts(look: Look, is_watched: bool) -> Parts:
    """The parts of a run's page that are those of its report so far; ``is_watched``: whether the run trains."""
    state, run = look.state, look.run
    parts = {name: "" for name in RUN_PARTS if name.startswith("run_")}
    if run is not None:
        try:
            with run.consistent():
                values = vars(run_page.page(run, look.estimate, is_watched=is_watched))
                return {name: _rendered(name, **values) for name in parts}
        except Error as error:
            state = RunState(state.name, state.path, Phase.UNREADABLE, problem=str(error))
    return parts | {"run_summary": _rendered("live_nothing", name=state.name, problem=state.problem if run else "")}


def doing_parts(state: RunState) -> Parts:
    """The parts of a run's page that say what it does: stage, clock, boards, events; empty for a finished run."""
    if state.phase is Phase.FINISHED:
        return {"live_status": "", "live_boards": ""}
    if state.status is None:
        return {"live_status": _rendered("live_stopped", state=state, phase=sentence(state.phase)), "live_boards": ""}
    absent_first = sorted(state.boards, key=lambda line: line.state is not None and line.state.presence is Presence.UP)
    boards = [_board_row(line) for line in absent_first]
    return {"live_status": _status(state, state.status), "live_boards": _rendered("live_boards", boards=boards)}


def overview_parts(name: str, states: Mapping[str, RunState]) -> Parts:
    """The page of several runs: a table, and charts of those that can be compared."""
    rows = [_run_row(number, key, state) for number, (key, state) in enumerate(states.items())]
    kinds: dict[tuple[str, str], list[tuple[RunRow, RunState]]] = {}
    for row, state in zip(rows, states.values(), strict=True):
        if state.metric is not None and state.curve:
            kinds.setdefault((state.task, state.metric), []).append((row, state))
    curves = [(task, _curves(runs)) for (task, _), runs in kinds.items()]
    return {
        "live_heading": _rendered("live_heading", name=name),
        "live_runs": _rendered("live_runs", rows=rows, problems=[(row.name, row.problem) for row in rows if row.problem]),
        "live_curves": _rendered("live_curves", curves=curves, frame=FRAME),
    }


def _run_row(number: int, key: str, state: RunState) -> RunRow:
    known = state.metric is not None
    return RunRow(
        role=f"run{number % COLOURS + 1}",
        name=key or state.name,
        link=f"/run/{quote(key)}",
        phase=state.phase,
        is_known=known,
        doing=state.step,
        rounds=f"{count(state.rounds)} of {count(state.planned)}" if known else ABSENT,
        share=min(1.0, state.rounds / state.planned) if state.planned else 0.0,
        score=state.score,
        scored=state.score_context,
        bytes=state.traffic,
        of_dense=state.of_dense,
        retries=count(state.retries) if known else ABSENT,
        outliers="; ".join(state.outliers) or ("none" if known else ABSENT),
        energy=state.energy_text,
        took=duration(state.seconds) if known else ABSENT,
        problem=state.problem,
    )


def _board_row(line: BoardLine) -> BoardRow:
    state = line.state
    if state is None:
        return BoardRow(line.url, line.board, "", ABSENT, ABSENT, count(line.rounds), ABSENT, ABSENT, line.aside or "no")
    presence = {Presence.UP: "up", Presence.AWAY: "away", Presence.LOST: "lost", Presence.DROPPED: "lost"}[state.presence]
    return BoardRow(
        url=line.url,
        board=line.board,
        presence=presence,
        state=state.presence,
        doing=line.doing,
        rounds=count(line.rounds),
        retries=count(state.retries),
        sent=f"{size(state.bytes_down)} down, {size(state.bytes_up)} up",
        aside=line.aside or "no",
    )


def _status(state: RunState, status: RunStatus) -> str:
    return _rendered(
        "live_status",
        phase=sentence(state.phase),
        step=state.step,
        done=min(status.done, status.total),
        total=status.total,
        began=round(status.step_began, 3),
        clock="this round" if status.stage == "meta-training" else "this step",
        mean=_short(state.seconds / state.rounds) if state.rounds else "",
        note=status.note,
        outliers=state.outliers,
        retries=count(state.retries),
        redone=count(state.redone),
        skipped=count(state.skipped),
        energy=state.energy_text,
        events=[(time.strftime("%H:%M:%S", time.localtime(event.at)), event.text) for event in reversed(status.events)],
    )


def _curves(runs: Sequence[tuple[RunRow, RunState]]) -> list[Chart]:
    """The scores of several runs of one task after adaptation, over rounds and over bytes."""
    metric = runs[0][1].metric
    assert metric is not None  # of each that has a curve
    scale = Scale(metric)
    unit, factor = byte_unit(max(point.bytes for _, state in runs for point in state.curve))
    drawn = []
    for label, how, x_of in (
        ("rounds trained", "over rounds", lambda point: float(point.round)),
        (f"{unit} on the wire, both ways", "over bytes", lambda point: point.bytes / factor),
    ):
        series = []
        for row, state in runs:
            points = [(x_of(point), scale.value(point.after)) for point in state.curve]
            series.append(Series(row.name, row.role, points, dots=len(points) <= MOST_DOTS))
        if any(math.isfinite(y) for one in series for _, y in one.points):
            summary = f"{scale.title} after adaptation {how}: {', '.join(row.name for row, _ in runs)}"
            drawn.append(chart(series, label, scale.label, summary, y_range=scale.y_range, log_y=scale.y_range is None))
    return drawn


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else duration(seconds)


def _rendered(template: str, **values: object) -> str:
    return report.environment(FOLDER).get_template(f"{template}.html.j2").render(values)
