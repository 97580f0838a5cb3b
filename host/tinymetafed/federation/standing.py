"""What the deltas of a run say about the boards that sent them: how long they are, where they point, and who stands out.

Everything here follows from the journal's contributions in their order, so a resumed run comes to the same conclusions.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median_low

from tinymetafed_codegen.section import StrictJson
from tinymetafed_codegen.spec import SharingSpec

from ..learn import defence
from ..learn.codecs.delta import Sparse
from ..learn.weights import Floats

LATEST = 50  # latest contributions of a board that its standing is judged by
FEWEST = 5  # contributions of a board before it is judged
FEWEST_BOARDS = 3  # that have FEWEST contributions; of two, none can be said to be the unusual one
LONG = 4.0  # times the running median: honest norms stay below twice
APART = 0.3  # least difference of mean cosines that counts
ERRORS = 4.0  # and so many standard errors of an ordinary board's mean cosine
BETWEEN = 6.0  # and so many times the median distance of boards' mean cosines from the middle


@dataclass(frozen=True)
class Measure(StrictJson):
    """One delta against those of the run so far.

    ``norm``: its Euclidean norm. ``typical``: the running median of norms. ``cosine``: between it and the direction in
    which the weights have moved since the run began. ``weight``: the factor that the defence left of it: 1 all, 0 nothing.
    """

    norm: float
    typical: float
    cosine: float
    weight: float

    @property
    def ratio(self) -> float:
        """The norm in running medians."""
        if self.typical > 0:
            return min(self.norm / self.typical, sys.float_info.max)
        return sys.float_info.max if self.norm else 1.0


@dataclass
class Board:
    """The record of one board: its latest measures in order of time, what they come to, and how many there were in all.

    ``ratio``: lower median of the norms, each in the running medians of its time. ``cosine``, ``spread``: mean and standard
    deviation of the cosines. ``aside``: why the board was set aside, "" if it was not.
    """

    latest: list[Measure] = field(default_factory=list)
    ratio: float = 1.0
    cosine: float = 0.0
    spread: float = 0.0
    rounds: int = 0
    aside: str = ""

    def add(self, measure: Measure) -> None:
        """Takes in a contribution."""
        self.latest = [*self.latest[1 - LATEST :], measure]
        cosines = [each.cosine for each in self.latest]
        self.ratio = median_low([each.ratio for each in self.latest])
        self.cosine = math.fsum(cosines) / len(cosines)
        self.spread = math.sqrt(math.fsum([(cosine - self.cosine) ** 2 for cosine in cosines]) / len(cosines))
        self.rounds += 1


class Standing:
    """The record of every board of a run, by unique id, and the norms that came."""

    def __init__(self, *, trust: bool) -> None:
        """``trust``: whether boards that stand out are set aside; otherwise they are only measured."""
        self.boards: dict[str, Board] = {}  # empty without trust
        self.norms: list[float] = []
        self._trust = trust

    @property
    def aside(self) -> dict[str, str]:
        """Why boards were set aside, by unique id."""
        return {board: record.aside for board, record in self.boards.items() if record.aside}

    def add(self, measures: Iterable[tuple[str, Measure]]) -> dict[str, str]:
        """Takes in the contributions of a round.

        Args:
            measures: Unique id of the board ("" in a simulation, where no board is judged) and measure, in client order.

        Returns:
            The boards that are set aside from now on, and why.
        """
        came: dict[str, Board] = {}
        for board, measure in measures:
            self.norms.append(measure.norm)
            if self._trust and board:
                came[board] = self.boards.setdefault(board, Board())
                came[board].add(measure)
        del self.norms[: -defence.NORMS]
        for board, record in came.items():
            record.aside = record.aside or self._unusual(board)
        return {board: record.aside for board, record in came.items() if record.aside}

    def _unusual(self, board: str) -> str:
        """Why a board should be set aside, as the end of a sentence; "" if it should not.

        Its mean cosine must be further from the middle board's than chance explains, and than boards differ among each other:
        honest boards with data of their own differ too. At most a minority is ever set aside.
        """
        judged = {name: each for name, each in self.boards.items() if each.rounds >= FEWEST and not each.aside}
        record = self.boards[board]
        if board not in judged or len(judged) < FEWEST_BOARDS:
            return ""
        if 2 * (len(self.aside) + 1) >= len(self.boards):
            return ""
        if record.ratio > LONG:
            return f"its deltas are typically {record.ratio:.3g} times as long as the median, after {record.rounds} rounds"
        means = {name: each.cosine for name, each in judged.items()}
        middle = median_low(means.values())
        between = median_low([abs(mean - middle) for mean in means.values()])
        error = median_low([each.spread for each in judged.values()]) / math.sqrt(len(record.latest))
        if abs(means[board] - middle) > max(APART, ERRORS * error, BETWEEN * between):
            return (
                f"its deltas point in another direction than those of the others (mean cosine {means[board]:.2f}, of others "
                f"{middle:.2f}), after {record.rounds} rounds"
            )
        return ""


class Guard:
    """Stands between the boards and the strategy: measures the deltas of each round and applies the experiment's defence."""

    def __init__(self, spec: SharingSpec, first: Floats, past: Iterable[Sequence[tuple[str, Measure]]] = ()) -> None:
        """Makes the guard of a run.

        Args:
            spec: The experiment's strategy.
            first: float32[n_global], the weights that the run began with.
            past: Unique id of the board and measure of each contribution of the finished rounds.
        """
        self._spec, self._first = spec, first
        self.standing = Standing(trust=spec.trusts)
        for measures in past:
            self.standing.add(measures)

    def _share(self, norm: float, typical: float) -> float:
        """The factor that the bound leaves of a delta."""
        spec = self._spec
        most = spec.defence_bound * typical
        if spec.defence == "none" or norm <= most:
            return 1.0
        return 0.0 if spec.trusts and norm > max(LONG * typical, most) else most / norm

    def measure(
        self, weights: Floats, contributed: Sequence[tuple[str, Sparse]]
    ) -> tuple[list[Sparse], list[Measure], dict[str, str]]:
        """Measures the deltas of a round and defends against those that lie.

        Args:
            weights: float32[n_global] before the round.
            contributed: Unique id of the board and delta of each client, in client order.

        Returns:
            The deltas for the strategy, each client's measure, and the boards that are set aside from now on.
        """
        spec, n = self._spec, weights.size
        deltas = [delta for _, delta in contributed]
        norms = [defence.norm(delta.values) for delta in deltas]
        typical = defence.typical([*self.standing.norms, *norms], weights)
        way = weights - self._first
        cosines = [defence.cosine(delta, way) for delta in deltas]
        left = [self._share(norm, typical) for norm in norms]
        if spec.defence != "none":
            deltas = [defence.scaled(delta, share) for delta, share in zip(deltas, left, strict=True)]
        liars = spec.liars(len(deltas))
        if spec.defence == "trimmed" and len(deltas) > 2 * liars:
            deltas = [defence.trimmed_mean(deltas, n, liars)]
        elif spec.defence == "krum" and len(deltas) >= 2 * liars + 3:
            chosen = defence.krum(deltas, n, liars)
            left = [share if at in chosen else 0.0 for at, share in enumerate(left)]
            deltas = [deltas[at] for at in chosen]
        measures = [Measure(*each) for each in zip(norms, [typical] * len(norms), cosines, left, strict=True)]
        boards = [board for board, _ in contributed]
        return deltas, measures, self.standing.add(zip(boards, measures, strict=True))


@dataclass(frozen=True)
class BoardDeltas(StrictJson):
    """The deltas of one board over a whole run, to find boards that stand out.

    ``board``: its unique id. ``norm_median``, ``norm_largest``: of its deltas' norms, each divided by the running median of its
    time. ``cosine``: mean of the cosines between its deltas and the direction in which the weights have moved since the run
    began. ``shortened``, ``left_out``: how many of its deltas the defence scaled down or did not use. ``aside``: why it was set
    aside, "" if it was not.
    """

    board: str
    rounds: int
    norm_median: float
    norm_largest: float
    cosine: float
    shortened: int
    left_out: int
    aside: str = ""


def by_board(spec: SharingSpec, past: Iterable[Sequence[tuple[str, Measure]]]) -> list[BoardDeltas]:
    """The deltas of each board of a run, in the order of their first contributions.

    Args:
        spec: The experiment's strategy.
        past: Unique id of the board ("" in a simulation) and measure of each contribution, by round.
    """
    standing = Standing(trust=spec.trusts)
    measures: dict[str, list[Measure]] = {}
    for contributed in past:
        standing.add(contributed)
        for board, measure in contributed:
            if board:
                measures.setdefault(board, []).append(measure)
    return [
        BoardDeltas(
            board=board,
            rounds=len(each),
            norm_median=median_low([measure.ratio for measure in each]),
            norm_largest=max(measure.ratio for measure in each),
            cosine=math.fsum(measure.cosine for measure in each) / len(each),
            shortened=sum(0 < measure.weight < 1 for measure in each),
            left_out=sum(measure.weight == 0 for measure in each),
            aside=standing.aside.get(board, ""),
        )
        for board, each in measures.items()
    ]
