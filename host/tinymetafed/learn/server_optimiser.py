"""The server's optimisers that keep state between rounds, and the average of weights; explicit float32, weight by weight."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from tinymetafed_codegen.spec import SharingSpec

from .aggregate import move
from .weights import Floats


@dataclass(frozen=True)
class ServerState:
    """What the server keeps between rounds besides the global weights; all vectors are float32[n_global].

    ``momentum``: the running mean of changes. ``variance``: the running mean of their squares. ``average``: the mean of the
    weights after the last ``averaged`` rounds. Each is None where the experiment has none, or before the first round.
    """

    momentum: Floats | None = field(default=None, repr=False)
    variance: Floats | None = field(default=None, repr=False)
    average: Floats | None = field(default=None, repr=False)
    averaged: int = 0

    @classmethod
    def of(cls, vectors: Mapping[str, Floats], averaged: int) -> Self:
        """The state with these ``vectors``, by the names of ``parts``."""
        return cls(vectors.get("momentum"), vectors.get("variance"), vectors.get("average"), averaged)

    def parts(self) -> Iterator[tuple[str, Floats]]:
        """The vectors that there are, by name."""
        for name, vector in (("momentum", self.momentum), ("variance", self.variance), ("average", self.average)):
            if vector is not None:
                yield name, vector

    @property
    def sha256(self) -> str:
        """SHA-256 of names and vectors, little-endian; "" where there are none."""
        parts = [name.encode() + vector.astype("<f4").tobytes() for name, vector in self.parts()]
        return hashlib.sha256(b"".join(parts)).hexdigest() if parts else ""

    def result(self, weights: Floats) -> Floats:
        """The weights that training has come to: the average where there is one, otherwise the latest ``weights``."""
        return weights if self.average is None else self.average


def step(
    spec: SharingSpec, weights: Floats, change: Floats, alpha: np.float32, state: ServerState
) -> tuple[Floats, ServerState]:
    """The step of an optimiser with state.

    With "momentum" m ← β m + (1 - β) Δ and g ← g + α m. With "adam" and "yogi" g ← g + α m / (√v + τ), where v is a running
    mean of Δ²: "adam" has v ← v - (1 - β₂) (v - Δ²), "yogi" v ← v - (1 - β₂) Δ² sign(v - Δ²). At first m = 0 and v = τ².
    A weight that no device sent has Δ = 0: its mean decays and still moves it.

    Args:
        spec: The strategy; its ``server`` is not "sgd".
        weights: float32[n_global], g; not modified.
        change: float32[n_global], Δ, the mean of the round's deltas.
        alpha: The server's learning rate of the round.
        state: The state before the round.

    Returns:
        The new weights and the new state.

    Source: Reddi et al., arXiv 2003.00295, Algorithm 2; for momentum Hsu et al., arXiv 1909.06335, here as a mean.
    """
    one, beta = np.float32(1), np.float32(spec.server_momentum)
    before = np.zeros_like(weights) if state.momentum is None else state.momentum
    momentum = beta * before + (one - beta) * change
    if not spec.is_adaptive:
        return move(weights, momentum, alpha), replace(state, momentum=momentum)
    floor, fresh = np.float32(spec.server_floor), one - np.float32(spec.server_decay)
    past = np.full_like(weights, floor * floor) if state.variance is None else state.variance
    square = change * change
    variance = past - fresh * (past - square if spec.server == "adam" else square * np.sign(past - square))
    moved = move(weights, momentum / (np.sqrt(variance) + floor), alpha)
    return moved, replace(state, momentum=momentum, variance=variance)


def averaged(state: ServerState, weights: Floats, round_: int, first: int) -> ServerState:
    """The state with the weights after a round in the average, a ← a + (g - a) / n.

    An average that begins before the round ``first``, because the run was extended since, is dropped and begins anew.

    Args:
        state: The state before.
        weights: float32[n_global], g, after the round.
        round_: The round, from 0.
        first: The first round whose weights are averaged.
    """
    if round_ < first:
        return state if state.average is None and state.averaged == 0 else replace(state, average=None, averaged=0)
    before = state.average
    if before is None or round_ - state.averaged < first:
        return replace(state, average=weights, averaged=1)
    count = state.averaged + 1
    mean: Floats = before + (weights - before) / np.float32(count)
    return replace(state, average=mean, averaged=count)
