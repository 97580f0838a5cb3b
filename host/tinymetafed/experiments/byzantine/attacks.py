"""Boards that lie, in a simulation: some boards replace the deltas that they send, or train on flipped labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import numpy as np

from tinymetafed_codegen.protocol import SampleSet, Stream

from ...federation.audit import Audit, Votes
from ...federation.clients import Adapted, DeviceFacts, Served, Traffic
from ...federation.rounds import digest
from ...learn import prng
from ...learn.codecs.delta import Sparse, select_top
from ...learn.metric import Metric
from ...learn.strategies import Strategy
from ...learn.tasks import Samples, Task
from ...learn.weights import Floats
from ...simulation.kernels import Kernels
from ...simulation.simulated_clients import SimulatedClients

HUGE = 3e38  # nearly the largest float32
LITTLE = 1.5  # standard deviations; the z of Baruch et al. 2019, section 5

Lie = Callable[[Sparse], Sparse]  # from the delta that an honest board sends


def _scaled(factor: float) -> Lie:
    return lambda delta: Sparse(delta.indices, delta.values * np.float32(factor))


def _all(value: float) -> Lie:
    return lambda delta: Sparse(delta.indices, np.full_like(delta.values, value))


def _one_huge(delta: Sparse) -> Sparse:
    values = delta.values.copy()
    values[0] = HUGE
    return Sparse(delta.indices, values)


class _ALittleIsEnough:
    """All liars send the mean of what they know of honest deltas, less LITTLE standard deviations per entry.

    They know the deltas that they trained honestly themselves, as in the paper's version without spying.

    Source: Baruch, Baruch and Goldberg 2019, arXiv 1902.06156, Algorithm 3.
    """

    def __init__(self, n: int) -> None:
        self._sum, self._squares, self._known = np.zeros(n), np.zeros(n), 0

    def __call__(self, delta: Sparse) -> Sparse:
        honest = delta.dense(self._sum.size).astype(np.float64)
        self._sum += honest
        self._squares += honest**2
        self._known += 1
        mean = self._sum / self._known
        deviation = np.sqrt(np.maximum(self._squares / self._known - mean**2, 0))
        lie = (mean - LITTLE * deviation).astype(np.float32)
        chosen = select_top(lie, delta.indices.size)
        return Sparse(chosen, lie[chosen])


ATTACKS: dict[str, Callable[[int], Lie] | None] = {
    "sign-flipped": lambda n: _scaled(-1),
    "sign x10": lambda n: _scaled(-10),
    "x100": lambda n: _scaled(100),
    "all +1": lambda n: _all(1),
    "all +100": lambda n: _all(100),
    "one 3e38": lambda n: _one_huge,
    "a little is enough": _ALittleIsEnough,
    "flipped labels": None,  # the data are changed, not the delta
}


class FlippedLabels:
    """A task whose query sets have wrong targets; the support sets stay, or it would only be another client's task."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getattr__(self, name: str) -> object:
        return getattr(self._task, name)

    def on_device(self, sample_set: SampleSet) -> bool:
        """No: the liar makes its own samples."""
        return False

    def samples(self, client: int, round: int, sample_set: SampleSet, count: int) -> Samples:
        """As the task's, but values have the other sign, and class i of n is called n - 1 - i."""
        honest = self._task.samples(client, round, sample_set, count)
        if sample_set is not SampleSet.QUERY:
            return honest
        if self._task.metric is Metric.MSE:
            return replace(honest, targets=-honest.targets)
        return replace(honest, targets=np.float32(self._task.output_size - 1) - honest.targets)


class LyingClients:
    """Simulated clients on boards, of which the first few lie (clients.Clients).

    Each round is done by other boards, drawn by the run's seed among those that are not excluded. Liars lie in every round, all
    in the same way, so that they confirm each other in audits. ``excluded``: the boards that are set aside, and why.
    ``repeated``: client rounds that were done again for audits.
    """

    def __init__(self, kernels: Kernels, strategy: Strategy, task: Task, boards: int, liars: int, attack: str) -> None:
        """Makes the boards.

        Args:
            kernels: The simulation's kernels.
            strategy: Strategy of the experiment.
            task: Task of the experiment.
            boards: Number of boards.
            liars: How many of them lie; 0 for none.
            attack: What they send, a key of ATTACKS.
        """
        self._honest = SimulatedClients(kernels, strategy, task)
        self._flipped = SimulatedClients(kernels, strategy, FlippedLabels(task))  # type: ignore[arg-type]
        self._seed, self._boards, self._liars = strategy.experiment.run.seed, boards, liars
        made = ATTACKS[attack]
        self._lie = None if made is None else made(strategy.n_global)
        share = strategy.spec.audit
        self._audit = Audit(share, digest, Random(self._seed)) if share else None
        self._votes = [Votes() for _ in range(boards)]
        self.devices = [DeviceFacts(_url(board), "simulated", f"{board:016x}", 0) for board in range(boards)]
        self.excluded: dict[int, str] = {}
        self.repeated = 0

    @property
    def traffic(self) -> Traffic:
        """That of the honest work."""
        return self._honest.traffic

    def exclude(self, board: str, why: str) -> None:
        """See Clients."""
        self.excluded.setdefault(int(board, 16), why)

    def train(
        self, weights: Floats, clients: Sequence[int], round_: int, boards: Sequence[bytes] | None = None
    ) -> list[Served[Sparse]]:
        """See Clients; every client is trained by the board that the round gives it, or by the next ones in an audit."""
        order = prng.permutation(self._seed, 1, round_, Stream.CLIENT_CHOICE, self._boards).tolist()
        there = [board for board in order if board not in self.excluded]
        served = []
        for at, (client, honest) in enumerate(zip(clients, self._honest.train(weights, clients, round_), strict=True)):
            assert honest.outcome is not None
            board, delta = self._answer(
                there[at % len(there) :] + there[: at % len(there)], honest.outcome, weights, client, round_
            )
            served.append(Served(delta, _url(board), False, ""))
        return served

    def adapt(
        self,
        weights: Floats,
        clients: Sequence[int],
        count: int,
        on_client: Callable[[], None] = lambda: None,
        test_of: Callable[[int], Samples] | None = None,
    ) -> list[Adapted]:
        """See Clients; those that are tested do not lie."""
        return self._honest.adapt(weights, clients, count, on_client, test_of)

    def _answer(self, boards: Sequence[int], honest: Sparse, weights: Floats, client: int, round_: int) -> tuple[int, Sparse]:
        """The first board's delta; if it is audited, that on which two boards agree first, as in devices/shared_work.py."""
        lie: Sparse | None = None
        said: dict[int, str] = {}
        audited = self._audit is not None and self._audit.due(self._votes[boards[0]])
        for board in boards:
            delta = honest
            if board < self._liars:
                lie = lie or self._lied(honest, weights, client, round_)
                delta = lie
            if not audited:
                return board, delta
            self.repeated += bool(said)
            claim = digest(delta)
            agree = [other for other, same in said.items() if same == claim]
            said[board] = claim
            if agree:
                self._count(said, claim)
                return board, delta
        return boards[0], honest  # nobody agrees: no board is trusted more than another

    def _lied(self, honest: Sparse, weights: Floats, client: int, round_: int) -> Sparse:
        if self._lie is not None:
            return self._lie(honest)
        delta = self._flipped.train(weights, [client], round_)[0].outcome
        assert delta is not None
        return delta

    def _count(self, said: dict[int, str], claim: str) -> None:
        for board, same in said.items():
            votes = self._votes[board]
            votes.confirmed += same == claim
            votes.refuted += same != claim
            if votes.excluded:
                self.exclude(f"{board:x}", f"other boards contradicted its results {votes.refuted} times")


def _url(board: int) -> str:
    return f"board {board}"
