"""Runs of one model in lock-step: the rounds that several threads ask for are computed in one call, one lane per client."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Recipe, SampleSet, Status

from ..learn.codecs.level_load import LeveledWeights
from ..learn.tasks import Floats
from .batches import Batch
from .client_rounds import ClientRound
from .kernels import Kernels, TrainedRound


class _Turn:
    """A member's wish to go on: to begin, or with the outcome of the round that it has asked for."""

    def __init__(self, asked: ClientRound | None = None) -> None:
        self.asked = asked
        self.trained: TrainedRound | None = None
        self.error: Exception | None = None
        self._given = threading.Semaphore(0)

    def give(self) -> None:
        """Lets the member go on."""
        self._given.release()

    def wait(self) -> None:
        """Waits until the turn is given."""
        self._given.acquire()


class LockStep:
    """Kernels that several runs share, each in a thread of its own.

    A round with few clients fills few lanes of a vector. Here a round waits until every run has asked for its next one or has
    ended; then all are computed together. Every run gets the bits that it would get alone.

    One thread runs at a time and hands its turn to the next. Threads that run at the same time would contend for Python's
    global lock, which costs more than a second core gains; other cores belong to other processes.
    """

    def __init__(self, kernels: Kernels, runs: int) -> None:
        """Waits for members.

        Args:
            kernels: The kernels of the runs' model.
            runs: How many members there will be.
        """
        self._kernels = kernels
        self._members = runs
        self._waiting: list[_Turn] = []  # rounds to compute
        self._ready: deque[_Turn] = deque()
        self._running = False
        self._changed = threading.Lock()  # a member that begins does so while another one has the turn

    @contextmanager
    def member(self) -> Iterator[Member]:
        """The kernels for one run, to be opened once for each; the other runs wait for its rounds until it closes them."""
        turn = _Turn()
        with self._changed:
            self._ready.append(turn)
            if not self._running:
                self._next()
        turn.wait()
        try:
            yield Member(self, self._kernels)
        finally:
            with self._changed:
                self._members -= 1
                self._next()

    def train(self, asked: ClientRound) -> TrainedRound:
        """Waits for the other runs' rounds and returns what ``Kernels.train_round`` would."""
        turn = _Turn(asked)
        with self._changed:
            self._waiting.append(turn)
            self._next()
        turn.wait()
        if turn.error is not None:
            raise turn.error
        assert turn.trained is not None
        return turn.trained

    def _next(self) -> None:
        """Gives the turn to the next member; if all wait for their rounds, these are computed first."""
        if not self._ready and self._waiting and len(self._waiting) == self._members:
            self._compute()
        self._running = bool(self._ready)
        if self._ready:
            self._ready.popleft().give()

    def _compute(self) -> None:
        """Trains the rounds that wait; those whose recipes differ, one after the other."""
        alike: dict[Recipe, list[tuple[_Turn, ClientRound]]] = {}
        for turn in self._waiting:
            assert turn.asked is not None
            alike.setdefault(turn.asked.recipe, []).append((turn, turn.asked))
        for together in alike.values():
            try:
                trained = self._kernels.train_rounds([asked for _, asked in together])
                for (turn, _), outcome in zip(together, trained, strict=True):
                    turn.trained = outcome
            except Exception as error:  # for the threads that asked
                for turn, _ in together:
                    turn.error = error
        self._ready.extend(self._waiting)
        self._waiting = []


class Member:
    """The kernels as one of the runs sees them (see Kernels); no other run uses them at the same time."""

    def __init__(self, lock_step: LockStep, kernels: Kernels) -> None:
        self._lock_step = lock_step
        self._kernels = kernels
        self.manifest: ModelManifest = kernels.manifest
        self.lanes = kernels.lanes
        self.threads = kernels.threads

    def samples(self, seed: int, clients: Sequence[int], round_: int, sample_set: SampleSet, count: int) -> Batch:
        """See Kernels."""
        return self._kernels.samples(seed, clients, round_, sample_set, count)

    def train_round(self, asked: ClientRound) -> TrainedRound:
        """See Kernels."""
        return self._lock_step.train(asked)

    def adapt(
        self, asked: ClientRound, test: Batch, weights: Floats | None = None, start: Floats | None = None
    ) -> tuple[list[Status], Floats, Floats]:
        """See Kernels."""
        return self._kernels.adapt(asked, test, weights, start)

    def load_on_wire(self, weights: LeveledWeights) -> tuple[int, int]:
        """See Kernels."""
        return self._kernels.load_on_wire(weights)
