"""The state of a run as typed values: from its store, and while it trains from what it says it is doing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum

from ..federation.board_state import BoardState, Presence
from ..federation.result import Score
from ..federation.standing import FEWEST, FEWEST_BOARDS, LONG, BoardDeltas, by_board
from ..learn.metric import Metric
from ..runs.estimate import RoundEstimate
from ..runs.report.score_charts import on_the_way
from ..runs.report.traffic_bars import dense_values, wire_bytes
from ..runs.report.wording import Scale, count, size, span
from ..runs.run_data import RunData
from ..runs.run_status import RunStatus

ABSENT = "–"
USUAL_BOARD = "nano33ble"  # whose energy is shown first where the run's own devices are no real boards


class Phase(StrEnum):
    """What is happening with a run."""

    STARTING = "starting"  # its devices start; it has no store yet
    TRAINING = "training"  # or its final meta-test
    FINISHED = "finished"
    STOPPED = "stopped"  # before its end; it can be continued
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class CurvePoint:
    """An evaluation: rounds trained and bytes sent before it, scores before and after adaptation."""

    round: int
    bytes: float
    before: Score
    after: Score


@dataclass(frozen=True)
class BoardLine:
    """A board of a run.

    ``state``: what it is doing, None where the run does not train. ``rounds``: client rounds that it trained. ``aside``: why it
    stands out, "" if it does not.
    """

    url: str
    unique_id: str
    board: str
    rounds: int
    state: BoardState | None = None
    aside: str = ""

    @property
    def doing(self) -> str:
        """What it is doing, or why it is not connected, as text."""
        return ABSENT if self.state is None else self.state.doing or self.state.reason or "waits"


@dataclass(frozen=True)
class EnergySoFar:
    """Estimated energy of the chips of all clients together, so far, in joules from low to high, if each were this board."""

    board: str
    joules: tuple[float, float]


@dataclass(frozen=True)
class RunState:
    """A run at a moment.

    ``problem``: why it cannot be shown, or how to continue it; "" if there is none. ``metric``: None where nothing is known.
    ``before``, ``after``: of unseen clients, None before the first evaluation or if they diverged; ``scored_after``: rounds
    trained before that evaluation, None before the first one. ``bytes_down``, ``bytes_up``: without samples; ``bytes_dense``:
    all global weights as float32, down and up once for each client and round. ``outliers``: boards that stand out, and why.
    ``energy``: by board, computed and not measured. ``status``: what it is doing, None where it does not train.
    """

    name: str
    path: str
    phase: Phase
    problem: str = ""
    task: str = ""
    metric: Metric | None = None
    rounds: int = 0
    planned: int = 0
    seconds: float = 0.0
    before: Score = None
    after: Score = None
    scored_after: int | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    bytes_samples: int = 0
    bytes_dense: int = 0
    retries: int = 0
    redone: int = 0
    skipped: int = 0
    outliers: tuple[str, ...] = ()
    energy: tuple[EnergySoFar, ...] = ()
    boards: tuple[BoardLine, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    status: RunStatus | None = None

    @property
    def step(self) -> str:
        """What it does, and how far it is, as "meta-training, 37 of 3,000"; "" where it does nothing."""
        status = self.status
        if status is None:
            return ""
        if not status.total:
            return status.stage or "starting"
        return f"{status.stage}, {count(min(status.done, status.total))} of {count(status.total)}"

    @property
    def score(self) -> str:
        """The latest score after adaptation, as text."""
        return ABSENT if self.metric is None or self.scored_after is None else Scale(self.metric).text(self.after)

    @property
    def score_context(self) -> str:
        """What the score is, as "accuracy after 50 rounds; 21.0 % before adaptation"."""
        if self.metric is None or self.scored_after is None:
            return "no evaluation yet"
        scale = Scale(self.metric)
        which = "final meta-test" if self.phase is Phase.FINISHED else f"after {count(self.scored_after)} rounds"
        return f"{scale.title}, {which}; {scale.text(self.before)} before adaptation"

    @property
    def traffic(self) -> str:
        """Bytes so far by direction, as text."""
        sent = f"{size(self.bytes_down)} down, {size(self.bytes_up)} up"
        return sent + (f", {size(self.bytes_samples)} of samples" if self.bytes_samples else "")

    @property
    def of_dense(self) -> str:
        """Bytes of weights and deltas as a share of dense float32 weights, as text. Samples would come on top of both."""
        total = self.bytes_down + self.bytes_up
        return f"{100 * total / self.bytes_dense:.0f} % of dense float32" if self.bytes_dense else ABSENT

    @property
    def energy_text(self) -> str:
        """Estimated energy of all clients so far on the first board, as text."""
        return f"{span(self.energy[0].joules, 'J')} ({self.energy[0].board})" if self.energy else ABSENT


def stored(run: RunData, estimate: RoundEstimate | None) -> RunState:
    """The state of a run that its store tells.

    Args:
        run: The run.
        estimate: One client's round on real boards; None if it cannot be estimated.

    Returns:
        The state, as if nobody trained the run.

    Raises:
        StoreError: The run's experiment cannot be read.
    """
    experiment = run.experiment()
    statuses = Counter(part.status for entry in run.rounds for part in entry.contributions)
    served = statuses.total() - statuses["skipped"]
    score = run.result.meta_test if run.result else run.evaluations[-1] if run.evaluations else None
    scored_after = run.result.rounds if run.result else run.evaluations[-1].round if run.evaluations else None
    deltas = by_board(experiment.strategy, run.measures())
    why = {each.board: text for each in deltas if (text := _unusual(each, deltas))}
    boards = tuple(
        BoardLine(each.url, each.unique_id, each.board, each.rounds, aside=why.get(each.unique_id, "")) for each in run.devices
    )
    return RunState(
        name=run.name,
        path=str(run.path),
        phase=Phase.FINISHED if run.result else Phase.STOPPED,
        problem="" if run.result else f"continue it with: tinymetafed {_command(run)} --resume {run.path}",
        task=experiment.task.title,
        metric=Metric.of(experiment.model.loss),
        rounds=run.trained,
        planned=experiment.run.rounds,
        seconds=sum(entry.seconds for entry in run.rounds),
        before=score.before if score else None,
        after=score.after if score else None,
        scored_after=scored_after,
        bytes_down=sum(entry.bytes_down for entry in run.rounds),
        bytes_up=sum(entry.bytes_up for entry in run.rounds),
        bytes_samples=sum(entry.bytes_samples for entry in run.rounds),
        bytes_dense=int(2 * dense_values(run) * served),
        retries=sum(entry.retries for entry in run.rounds),
        redone=statuses["redone"],
        skipped=statuses["skipped"],
        outliers=tuple(f"{line.url}: {line.aside}" for line in boards if line.aside),
        energy=_energy(run, estimate, served),
        boards=boards,
        curve=tuple(CurvePoint(each.round, wire_bytes(run, each), each.before, each.after) for each in on_the_way(run)),
    )


def at_work(state: RunState, status: RunStatus | None, now: float) -> RunState:
    """The state of a run with what it says it is doing.

    Args:
        state: As its store tells.
        status: What the run says; None if it says nothing.
        now: The moment, in seconds since 1970.

    Returns:
        The state at this moment.
    """
    if state.phase is Phase.UNREADABLE or status is None:
        return state
    if not status.is_fresh(now):
        return replace(state, problem=f"{state.problem} (it was killed, or this machine was asleep)" if state.problem else "")
    known = {(line.url, line.unique_id): line for line in state.boards}
    boards = []
    for each in status.boards:
        line = known.get((each.url, each.unique_id), BoardLine(each.url, each.unique_id, each.board, 0))
        dropped = each.presence is Presence.DROPPED
        boards.append(replace(line, state=each, aside=line.aside or (f"not used: {each.reason}" if dropped else "")))
    return replace(
        state,
        phase=Phase.STARTING if state.metric is None else Phase.TRAINING,
        problem="",
        boards=tuple(boards) or state.boards,
        outliers=tuple(f"{line.url}: {line.aside}" for line in boards if line.aside) or state.outliers,
        status=status,
    )


def _command(run: RunData) -> str:
    return "train" if run.header.asked.devices else "simulate"


def _unusual(board: BoardDeltas, all_: list[BoardDeltas]) -> str:
    """Why a board stands out; "" if it does not, or if too few boards are known to say so."""
    if board.aside:
        return f"set aside: {board.aside}"
    judged = sum(each.rounds >= FEWEST for each in all_)
    if board.rounds < FEWEST or judged < FEWEST_BOARDS or board.norm_median <= LONG:
        return ""
    return f"its deltas are typically {board.norm_median:.3g} times as long as the median"


def _energy(run: RunData, estimate: RoundEstimate | None, served: int) -> tuple[EnergySoFar, ...]:
    if estimate is None:
        return ()
    first = next((name for name in (run.manifest.board, USUAL_BOARD) if name in estimate.boards), "")
    ordered = sorted(estimate.boards.items(), key=lambda item: item[0] != first)
    return tuple(EnergySoFar(each.title, (each.joules[0] * served, each.joules[1] * served)) for _, each in ordered)
