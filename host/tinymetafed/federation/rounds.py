"""The round loop: who takes part, what comes back, how the global weights move."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pydantic.dataclasses

from ..learn.codecs.delta import Sparse
from ..learn.strategies import Strategy, StrategyError
from ..learn.tasks import Task
from ..learn.weights import Floats
from .clients import Clients, Served, Traffic


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class Contribution:
    """What one client's round came to: its update as a digest, and who trained it."""

    client: int
    device: str  # Device.url that served it in the end, "" when skipped
    status: str  # accepted, redone (accepted after a first attempt was lost) or skipped
    digest: str  # of the update, see digest(); "" when skipped
    entries: int
    note: str  # why it was redone or skipped, one line; "" otherwise


@dataclass(frozen=True)
class Round:
    """A finished round: the weights after it and what it took."""

    index: int
    weights: Floats = field(repr=False)
    alpha: float
    contributions: list[Contribution]
    traffic: Traffic
    seconds: float
    change: float  # Euclidean norm of the weights' change, for the journal only


def rounds(
    strategy: Strategy,
    task: Task,
    clients: Clients,
    weights: Floats,
    start: int = 0,
    boards: Sequence[bytes] | None = None,
) -> Iterator[Round]:
    """Meta-trains from round ``start`` on, whose ``weights`` [n_global] are given, to the run's end.

    Where the clients are never reaches the result. ``boards``: unique ids of the boards that the clients live on, in their
    order, for only there is their data or what they keep; one that is lost is skipped. None: any board serves any client.
    Raises LinkError, StrategyError.
    """
    end = strategy.experiment.run.rounds
    of = task.clients if boards is None else len(boards)
    before = clients.traffic  # with what configuring takes, so that a run's sums leave nothing out
    for index in range(start, end):
        began = time.monotonic()
        chosen = strategy.clients(index, of)
        _check(chosen, of, index)
        served = clients.train(weights, chosen, index, boards)
        deltas = [each.outcome for each in served if each.outcome is not None]
        moved = strategy.update(weights, deltas, index) if deltas else weights
        _check_update(moved, weights.size, index)
        change = float(np.linalg.norm(moved.astype(np.float64) - weights))
        weights = moved
        yield Round(
            index=index,
            weights=weights,
            alpha=float(strategy.alpha(index)),
            contributions=[_contribution(client, each) for client, each in zip(chosen, served, strict=True)],
            traffic=clients.traffic - before,
            seconds=time.monotonic() - began,
            change=change,
        )
        before = clients.traffic


def _check(chosen: Sequence[int], of: int, round_: int) -> None:
    """A strategy may be a user's own: what it asks for must not reach the clients that are kept for the test."""
    if wrong := [client for client in chosen if not 0 <= client < of]:
        raise StrategyError(
            f"round {round_}: the strategy chose client {wrong[0]}, but those to train on are 0 to {of - 1}; held-out clients "
            "are never trained on"
        )
    if len(set(chosen)) < len(chosen):  # what it keeps would go from one time to the next on a board only
        raise StrategyError(f"round {round_}: the strategy chose clients {list(chosen)}, of which each may take part once")


def _check_update(moved: object, size: int, round_: int) -> None:
    """Of a user's own strategy: what the store cannot hold as it is, a continued run would not go on from."""
    if not isinstance(moved, np.ndarray) or moved.dtype != np.float32 or moved.shape != (size,):
        given = f"{moved.dtype} {list(moved.shape)}" if isinstance(moved, np.ndarray) else type(moved).__name__
        raise StrategyError(
            f"round {round_}: the strategy's update gave {given}, expected float32 [{size}]; compute in float32, or end with "
            ".astype(numpy.float32)"
        )
    if not np.isfinite(moved).all():
        raise StrategyError(f"round {round_}: the strategy's update gave a weight that is not finite; lower its step")


def digest(delta: Sparse) -> str:
    """SHA-256 of an update: its indices as little-endian int64, then its values as little-endian float32."""
    content = delta.indices.astype("<i8").tobytes() + delta.values.astype("<f4").tobytes()
    return hashlib.sha256(content).hexdigest()


def _contribution(client: int, served: Served[Sparse]) -> Contribution:
    delta = served.outcome
    return Contribution(
        client=client,
        device=served.device,
        status=served.status,
        digest=digest(delta) if delta is not None else "",
        entries=delta.indices.size if delta is not None else 0,
        note=served.note,
    )
