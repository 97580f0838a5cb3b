"""Measures what a server takes for updates: their part of the round loop, the memory for them, and packing of messages."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...federation.clients import Adapted, DeviceFacts, Served, Traffic
from ...federation.rounds import rounds
from ...learn.codecs.delta import Sparse
from ...learn.tasks import Samples
from ...learn.weights import Floats, initial
from ...runs.setup import Setup
from .host_cost import ServerCost

FEW, MANY = 64, 576  # updates of a round
REPEATS = 5
LEVEL = 6  # of zlib
LARGEST = 0.02  # entry of an update
SPREAD = 40  # of the int8 values of an update


@dataclass
class _Ready:
    """Clients whose updates are there at once, as if gateways had brought them."""

    served: list[Served[Sparse]]
    devices: list[DeviceFacts]
    traffic: Traffic = field(default_factory=Traffic)

    def exclude(self, board: str, why: str) -> None:
        """Nothing: all go on."""

    def train(
        self, weights: Floats, clients: Sequence[int], round_: int, boards: Sequence[bytes] | None = None
    ) -> list[Served[Sparse]]:
        """All updates."""
        return self.served

    def adapt(
        self,
        weights: Floats,
        clients: Sequence[int],
        count: int,
        on_client: Callable[[], None] = lambda: None,
        test_of: Callable[[int], Samples] | None = None,
    ) -> list[Adapted]:
        """Nothing: no client is tested."""
        return []


def server_cost(small: Callable[[int], Setup], large: Callable[[int], Setup]) -> ServerCost:
    """Measures the server's part of a round.

    Args:
        small: Gives the set-up of a small model with so many clients in a round.
        large: The same of a larger one.
    """
    per_update = []
    for made in (small, large):
        few, many = (_seconds(made(count), count) for count in (FEW, MANY))
        per_update.append((float(made(FEW).strategy.top_k), max(0.0, many - few) / (MANY - FEW)))
    (k, one), (larger_k, other) = per_update
    per_entry = max(0.0, other - one) / (larger_k - k)
    few, many = (_peak(small(count), count) for count in (FEW, MANY))
    content = _content(small(FEW))
    packed = zlib.compress(content, LEVEL)
    return ServerCost(
        per_update=max(0.0, one - per_entry * k),
        per_entry=per_entry,
        packing=_least(lambda: zlib.compress(content, LEVEL)) / len(content),
        unpacking=_least(lambda: zlib.decompress(packed)) / len(content),
        memory_per_entry=(many - few) / ((MANY - FEW) * k),
    )


def _updates(setup: Setup, count: int) -> _Ready:
    """Updates with entries as a selection and int8 values make them."""
    n, k = setup.strategy.n_global, setup.strategy.top_k
    draw = np.random.default_rng(1)
    served, devices = [], []
    for place in range(count):
        indices = np.sort(draw.choice(n, k, replace=False)).astype(np.int64)
        levels = np.rint(draw.normal(0, SPREAD, k)).clip(-127, 127)
        values = levels.astype(np.float32) * np.float32(LARGEST / 127)
        served.append(Served(Sparse(indices, values), f"board{place}", False, ""))
        devices.append(DeviceFacts(f"board{place}", "native", f"{place:016x}", 1024))
    return _Ready(served, devices)


def _round(setup: Setup, clients: _Ready) -> Callable[[], object]:
    """A call that does the next round."""
    first = initial(setup.design.manifest, setup.experiment.run.seed, setup.experiment.model.init)
    following = rounds(setup.strategy, setup.task, clients, first)
    return lambda: next(following)


def _seconds(setup: Setup, count: int) -> float:
    return _least(_round(setup, _updates(setup, count)))


def _least(work: Callable[[], object]) -> float:
    """The least processor seconds of some calls."""
    found = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def _peak(setup: Setup, count: int) -> float:
    """Bytes in use at most, for the updates and in the round."""
    tracemalloc.start()
    try:
        _round(setup, _updates(setup, count))()
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def _content(setup: Setup) -> bytes:
    """Updates as gateways send them: a bitmap of indices and int8 values."""
    found = []
    for each in _updates(setup, FEW).served:
        assert each.outcome is not None
        chosen = np.zeros(setup.strategy.n_global, np.uint8)
        chosen[each.outcome.indices] = 1
        levels = np.rint(each.outcome.values * np.float32(127 / LARGEST)).astype(np.int8)
        found.append(np.packbits(chosen, bitorder="little").tobytes() + levels.tobytes())
    return b"".join(found)
