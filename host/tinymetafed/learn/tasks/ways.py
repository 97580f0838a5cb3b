"""N-way classification: every client has a few classes, and a pool of samples for each class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence, Sized
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.protocol import SampleSet, Stream
from tinymetafed_codegen.spec import TaskBase, TaskShapes

from .. import prng
from . import Bytes, Samples, Task

Indices = NDArray[np.int64]

SCALE = 1 / 255  # input value of level 1, so that level 255 is 1


class Ways(Task):
    """Base class of tasks with ``ways`` classes of byte samples; a subclass defines the classes of a client.

    Classes take turns: 0, 1, …, ways - 1, 0, 1, … A round shuffles the pool of each class; the support set takes its first
    samples and the query set its last. Adaptation shuffles each pool separately; its last ``test_shots`` samples are the test
    samples, for any number of ADAPT samples.

    Attributes:
        test_shots: Test samples per class.
    """

    test_shots: int

    def __init__(self, spec: TaskBase, shapes: TaskShapes, seed: int, clients: int, smallest_pool: int) -> None:
        """``smallest_pool``: the smallest number of samples in a class of a held-out client. Others: see ``Task``."""
        super().__init__(spec, shapes, seed, clients)
        self.adapt_limit = shapes.outputs * (smallest_pool - self.test_shots)

    @abstractmethod
    def pools(self, client: int) -> Sequence[Bytes]:
        """The pools of the client's classes, in the order of their targets, each uint8 [count, *input_shape]."""

    def pool_units(self, client: int) -> Sequence[Sequence[str]]:
        """The independent unit of each sample of the client's pools, in the order of ``pools``; see ``Task.units``."""
        (unit,) = super().units(client)
        return [[unit] * len(pool) for pool in self.pools(client)]

    def units(self, client: int) -> Sequence[str]:
        """The unit of each test sample, classes in turn."""
        units = self.pool_units(client)
        orders = self._orders(client, 0, Stream.ADAPT, units)
        return [
            of_class[order[-self.test_shots + shot]]
            for shot in range(self.test_shots)
            for of_class, order in zip(units, orders, strict=True)
        ]

    def samples(self, client: int, round: int, sample_set: SampleSet, count: int) -> Samples:
        """The first ``count`` samples of a set, classes in turn.

        Raises ValueError for more samples than the set has, and for TEST (see ``test_samples``).
        """
        pools = self.pools(client)
        limit = min(len(pool) for pool in pools) - (self.test_shots if sample_set is SampleSet.ADAPT else 0)
        if count > limit * self.output_size or sample_set is SampleSet.TEST:
            raise ValueError(f"{count} {sample_set.name} samples of {self.output_size} classes; at most {limit} of each")
        orders = self._orders(client, round, Stream.ADAPT if sample_set is SampleSet.ADAPT else Stream.SUPPORT, pools)
        return self._in_turn(pools, [order[::-1] for order in orders] if sample_set is SampleSet.QUERY else orders, count)

    def test_samples(self, client: int, round: int) -> Samples:
        """The last ``test_shots`` samples of every class in the adaptation's order."""
        pools = self.pools(client)
        orders = self._orders(client, round, Stream.ADAPT, pools)
        return self._in_turn(pools, [order[-self.test_shots :] for order in orders], self.output_size * self.test_shots)

    def _orders(self, client: int, round: int, stream: Stream, pools: Sequence[Sized]) -> list[Indices]:
        """A random order of each pool, all taken from one permutation."""
        ends = np.cumsum([len(pool) for pool in pools])
        order = shuffle(self.seed, client, round, stream, int(ends[-1]))
        return [
            order[(order >= end - len(pool)) & (order < end)] - (end - len(pool)) for end, pool in zip(ends, pools, strict=True)
        ]

    def _in_turn(self, pools: Sequence[Bytes], orders: Sequence[Indices], count: int) -> Samples:
        shots = -(-count // self.output_size)
        chosen = [pool[order[:shots]] for pool, order in zip(pools, orders, strict=True)]
        levels = np.stack(chosen, axis=1).reshape(-1, *chosen[0].shape[1:])[:count]
        targets = np.arange(count, dtype=np.float32) % self.output_size
        return Samples.from_levels(levels, SCALE, targets[:, None])


@lru_cache(maxsize=1024)  # support and query set share an order, and a client's classes are the same in every round
def shuffle(seed: int, client: int, round: int, stream: Stream, n: int) -> Indices:
    """``prng.permutation`` with a cache: the numbers 0 to n - 1 in random order, int64 [n]."""
    return prng.permutation(seed, client, round, stream, n)
