"""N-way classification: each client tells a few classes apart, from a pool of samples of each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.protocol import SampleSet, Stream
from tinymetafed_codegen.spec import TaskBase, TaskShapes

from .. import prng
from . import Bytes, Samples, Task

Indices = NDArray[np.int64]

SCALE = 1 / 255  # of a pool's bytes, so that the brightest is 1


class Ways(Task):
    """A task of ``ways`` classes in bytes that the host streams; a subclass says what a client's classes are.

    Samples go round the classes: 0, 1, …, ways - 1, 0, 1, … Of each class, support takes the first of the round's order and
    query the last; adaptation has an order of its own, whose last ``test_shots`` are what the client is scored on, the
    same however many adapt. ``smallest_pool``: samples that every class of a held-out client has at least.
    """

    test_shots: int

    def __init__(self, spec: TaskBase, shapes: TaskShapes, seed: int, clients: int, smallest_pool: int) -> None:
        super().__init__(spec, shapes, seed, clients)
        self.adapt_limit = shapes.outputs * (smallest_pool - self.test_shots)

    @abstractmethod
    def pools(self, client: int) -> Sequence[Bytes]:
        """All samples of each of the client's classes in the order of their targets, uint8 [count, *input_shape]."""

    def samples(self, client: int, round: int, sample_set: SampleSet, count: int) -> Samples:
        """The first ``count``, classes in turn.

        Raises ValueError for more samples than a set has, and for TEST, which ``test_samples`` gives.
        """
        pools = self.pools(client)
        limit = min(len(pool) for pool in pools) - (self.test_shots if sample_set is SampleSet.ADAPT else 0)
        if count > limit * self.output_size or sample_set is SampleSet.TEST:
            raise ValueError(f"{count} {sample_set.name} samples of {self.output_size} classes; at most {limit} of each")
        orders = self._orders(client, round, Stream.ADAPT if sample_set is SampleSet.ADAPT else Stream.SUPPORT, pools)
        return self._in_turn(pools, [order[::-1] for order in orders] if sample_set is SampleSet.QUERY else orders, count)

    def test_samples(self, client: int, round: int) -> Samples:
        """The last of the adaptation's order, every class: the same for any number of ADAPT samples."""
        pools = self.pools(client)
        orders = self._orders(client, round, Stream.ADAPT, pools)
        return self._in_turn(pools, [order[-self.test_shots :] for order in orders], self.output_size * self.test_shots)

    def _orders(self, client: int, round: int, stream: Stream, pools: Sequence[Bytes]) -> list[Indices]:
        """A shuffle of each pool, all from one draw."""
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


@lru_cache(maxsize=1024)  # support and query share theirs, and a client's classes are the same in every round
def shuffle(seed: int, client: int, round: int, stream: Stream, n: int) -> Indices:
    """0..n-1 in random order (prng.permutation), int64 [n]."""
    return prng.permutation(seed, client, round, stream, n)
