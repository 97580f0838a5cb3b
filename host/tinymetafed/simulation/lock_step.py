"""Runs of one model in lock-step: the rounds that several threads ask for are computed in one call, one lane per client."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Recipe, SampleSet, Status

from ..learn.codecs.level_load import LeveledWeights
from ..learn.tasks import Floats
from .batches import Batch
from .kernels import ClientRound, Kernels, TrainedRound


class _Waiting:
    """A round that a member has asked for, and then its outcome."""

    def __init__(self, asked: ClientRound) -> None:
        self.asked = asked
        self.trained: TrainedRound | None = None
        self.error: Exception | None = None


class LockStep:
    """Kernels that several runs share, each in a thread of its own.

    A round with few clients fills few lanes of a vector. Here a round waits until every run has asked for its next one or has
    ended; then all are computed together. Every run gets the bits that it would get alone.
    """

    def __init__(self, kernels: Kernels, runs: int) -> None:
        """Waits for members.

        Args:
            kernels: The kernels of the runs' model.
            runs: How many members there will be.
        """
        self._kernels = kernels
        self._members = runs
        self._waiting: list[_Waiting] = []
        self._changed = threading.Condition()

    @contextmanager
    def member(self) -> Iterator[Member]:
        """The kernels for one run, to be opened once for each; the other runs wait for its rounds until it closes them."""
        try:
            yield Member(self, self._kernels)
        finally:
            with self._changed:
                self._members -= 1
                self._compute_if_complete()

    def train(self, asked: ClientRound) -> TrainedRound:
        """Waits for the other runs' rounds and returns what ``Kernels.train_round`` would."""
        mine = _Waiting(asked)
        with self._changed:
            self._waiting.append(mine)
            self._compute_if_complete()
            while mine.trained is None and mine.error is None:
                self._changed.wait()
        if mine.error is not None:
            raise mine.error
        assert mine.trained is not None
        return mine.trained

    @contextmanager
    def alone(self) -> Iterator[Kernels]:
        """The kernels, while no other thread uses them."""
        with self._changed:
            yield self._kernels

    def _compute_if_complete(self) -> None:
        """Trains the rounds that wait if all runs have asked; those whose recipes differ, one after the other."""
        if len(self._waiting) < self._members or not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        alike: dict[Recipe, list[_Waiting]] = {}
        for each in waiting:
            alike.setdefault(each.asked.recipe, []).append(each)
        for together in alike.values():
            try:
                trained = self._kernels.train_rounds([each.asked for each in together])
                for each, outcome in zip(together, trained, strict=True):
                    each.trained = outcome
            except Exception as error:  # for the threads that asked
                for each in together:
                    each.error = error
        self._changed.notify_all()


class Member:
    """The kernels as one of the runs sees them (see Kernels)."""

    def __init__(self, lock_step: LockStep, kernels: Kernels) -> None:
        self._lock_step = lock_step
        self.manifest: ModelManifest = kernels.manifest
        self.lanes = kernels.lanes
        self.threads = kernels.threads

    def samples(self, seed: int, clients: Sequence[int], round_: int, sample_set: SampleSet, count: int) -> Batch:
        """See Kernels."""
        with self._lock_step.alone() as kernels:
            return kernels.samples(seed, clients, round_, sample_set, count)

    def train_round(self, asked: ClientRound) -> TrainedRound:
        """See Kernels."""
        return self._lock_step.train(asked)

    def adapt(
        self, asked: ClientRound, test: Batch, weights: Floats | None = None, start: Floats | None = None
    ) -> tuple[list[Status], Floats, Floats]:
        """See Kernels."""
        with self._lock_step.alone() as kernels:
            return kernels.adapt(asked, test, weights, start)

    def load_on_wire(self, weights: LeveledWeights) -> tuple[int, int]:
        """See Kernels."""
        with self._lock_step.alone() as kernels:
            return kernels.load_on_wire(weights)
