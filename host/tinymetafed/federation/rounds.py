"""The round loop: choose clients, train them, update the global weights with their deltas."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tinymetafed_codegen.optional_messages.secure_messages import LEAST_PARTICIPANTS
from tinymetafed_codegen.options.secure_sum import SecureSumFacts
from tinymetafed_codegen.section import StrictJson

from ..learn import masked_sum, server_optimiser
from ..learn.codecs.delta import Sparse
from ..learn.server_optimiser import ServerState
from ..learn.strategies import Diverged, Strategy, StrategyError
from ..learn.tasks import Task
from ..learn.weights import Floats
from .clients import Served, Traffic, Trainers
from .quorum import Late, Returned
from .standing import Guard, Measure
from .sums import Share, trained_as_sum

_INDEX, _VALUE = np.dtype("<i8"), np.dtype("<f4")  # of a delta's digest


@dataclass(frozen=True)
class Contribution(StrictJson):
    """One client's part in a round: the device that trained it and the digest of its delta.

    ``measure``: the delta against those of the run so far; None where no board is known and the experiment has no defence.
    """

    client: int
    device: str  # URL of the device that trained it, "" when skipped
    status: str  # accepted, redone (accepted after a first attempt was lost) or skipped
    digest: str  # of the delta, see digest(); "" when skipped, or when a gateway has added the delta to others
    entries: int
    note: str  # why it was redone or skipped, or what is unlikely in it, one line; "" otherwise
    measure: Measure | None = None


@dataclass(frozen=True)
class _Contributed:
    """A delta that came: its client, and URL and unique id of the board that trained it; the id is "" in a simulation."""

    client: int
    device: str
    board: str
    delta: Sparse


@dataclass(frozen=True)
class _Trained:
    """What the clients of a round did: each one's part, and the deltas that came, or ``mean``, where they were added up."""

    served: list[Served[Share]]
    mean: Sparse | None
    came: Sequence[_Contributed] = ()


@dataclass(frozen=True)
class Round:
    """A finished round: the weights after it and what the server keeps, its traffic and its duration.

    ``late``: clients that are skipped because the round ended before they were done. ``returned``: devices that take part
    again after they were late.
    """

    index: int
    weights: Floats = field(repr=False)
    server: ServerState
    alpha: float
    contributions: list[Contribution]
    traffic: Traffic
    seconds: float
    change: float  # Euclidean norm of the weights' change, for the journal only
    late: tuple[Late, ...] = ()
    returned: tuple[Returned, ...] = ()


def rounds(
    strategy: Strategy,
    task: Task,
    clients: Trainers,
    weights: Floats,
    start: int = 0,
    boards: Sequence[bytes] | None = None,
    guard: Guard | None = None,
    server: ServerState | None = None,
) -> Iterator[Round]:
    """Meta-trains from round ``start`` to the end of the run.

    Which devices the clients run on does not change the result, as long as the guard sets none of them aside.

    Args:
        strategy: Strategy of the experiment.
        task: Task of the experiment.
        clients: Clients of the experiment.
        weights: float32[n_global], the global weights before round ``start``.
        start: Number of the first round.
        boards: For each client number the unique id of its board, where a client's data or state exists on one board only;
            a client whose board is lost is skipped. None: any board may train any client.
        guard: The guard of the run, which knows its finished rounds; None for a run that begins.
        server: What the server kept from the round before ``start``; None for a run that begins.

    Yields:
        Each round as it ends.

    Raises:
        Error: LinkError or StrategyError.
    """
    end = strategy.experiment.run.rounds
    of = task.clients if boards is None else len(boards)
    guard = guard or Guard(strategy.spec, weights)
    server = server or ServerState()
    averaged_from = strategy.spec.averages_from(end)
    for board, why in guard.standing.aside.items():
        clients.exclude(board, why)
    before = clients.traffic  # taken before configuring, so that its bytes count too
    for index in range(start, end):
        began = time.monotonic()
        chosen = strategy.clients(index, of)
        _check(chosen, of, index, strategy.secure_sum)
        trained = _trained(strategy, clients, weights, chosen, index, boards)
        moved, measures, aside = weights, dict[int, Measure](), dict[str, str]()
        if trained.came or trained.mean is not None:
            moved, server, measures, aside = _updated(strategy, weights, server, trained, index, guard)
        server = server_optimiser.averaged(server, moved, index, averaged_from)
        for board, why in aside.items():
            clients.exclude(board, why)
        difference = np.subtract(moved, weights, dtype=np.float64)
        change = math.sqrt(difference.dot(difference))
        weights = moved
        yield Round(
            index=index,
            weights=weights,
            server=server,
            alpha=float(strategy.alpha(index)),
            contributions=[
                _contribution(client, each, measures.get(client)) for client, each in zip(chosen, trained.served, strict=True)
            ],
            traffic=clients.traffic - before,
            seconds=time.monotonic() - began,
            change=change,
            late=tuple(
                Late(client, each.late.device, each.late.away)
                for client, each in zip(chosen, trained.served, strict=True)
                if each.late is not None
            ),
            returned=tuple(each.back for each in trained.served if each.back is not None),
        )
        before = clients.traffic


def _trained(
    strategy: Strategy, clients: Trainers, weights: Floats, chosen: Sequence[int], round_: int, boards: Sequence[bytes] | None
) -> _Trained:
    """Trains the clients of a round."""
    if strategy.spec.pre_sums:
        return _Trained(*trained_as_sum(clients, weights, chosen, round_, boards, digest))
    served = clients.train(weights, chosen, round_, boards)
    ids = {device.url: device.unique_id for device in clients.devices}  # "" in a simulation
    came = [
        _Contributed(client, each.device, ids.get(each.device, ""), each.outcome)
        for client, each in zip(chosen, served, strict=True)
        if each.outcome is not None
    ]
    return _Trained([each.of(lambda delta: Share(delta.indices.size, digest(delta))) for each in served], None, came)


def _updated(
    strategy: Strategy, weights: Floats, server: ServerState, trained: _Trained, round_: int, guard: Guard
) -> tuple[Floats, ServerState, dict[int, Measure], dict[str, str]]:
    """The global weights after a round, which devices can receive, and what the server keeps; measures by client; boards that
    are set aside, and why.

    Raises StrategyError; then the round has no effect.
    """
    came = trained.came
    deltas = [each.delta for each in came]
    measures: list[Measure] = []
    aside: dict[str, str] = {}
    if trained.mean is not None:
        deltas = [trained.mean]
    elif strategy.secure_sum is not None:
        deltas = [masked_sum.mean(deltas, strategy.secure_sum)]
    elif strategy.spec.defence != "none" or any(each.board for each in came):
        deltas, measures, aside = guard.measure(weights, [(each.board, each.delta) for each in came])
    try:
        moved, server = strategy.step(weights, deltas, round_, server)
        _check_update(moved, weights.size, round_)
        strategy.downloaded(moved)
    except Diverged as error:
        if trained.mean is not None or strategy.secure_sum is not None:  # in a sum nobody is to blame
            raise
        worst = max(came, key=lambda each: _largest(each.delta))
        if not worst.board:
            raise
        raise Diverged(
            f"{error.what}, in round {round_}, which is not stored; its largest change, {_largest(worst.delta):.3g}, came from "
            f"client {worst.client} on {worst.device}",
            f"continue the run without that board; if other boards agree with it, {error.remedy}",
        ) from None
    return moved, server, {each.client: measure for each, measure in zip(came, measures, strict=False)}, aside


def _largest(delta: Sparse) -> float:
    return float(np.abs(delta.values).max(initial=np.float32(0)))


def _check(chosen: Sequence[int], of: int, round_: int, facts: SecureSumFacts | None) -> None:
    """Raises StrategyError if a user's own strategy chooses unknown or held-out clients, one twice, or too few to hide any."""
    if wrong := [client for client in chosen if not 0 <= client < of]:
        raise StrategyError(
            f"round {round_}: the strategy chose client {wrong[0]}, but the training clients are 0 to {of - 1}; held-out "
            "clients are never trained on"
        )
    least, most = (0, of) if facts is None else (LEAST_PARTICIPANTS, facts.seats)
    if not least <= len(chosen) <= most:
        raise StrategyError(
            f"round {round_}: the strategy chose {len(chosen)} clients, and privacy.secure_aggregation = true needs {least} to "
            f"{most}, which is run.devices_per_round"
        )
    if len(set(chosen)) < len(chosen):  # a client that keeps state would give other results on a board than in a simulation
        raise StrategyError(f"round {round_}: the strategy chose clients {list(chosen)}; choose each client only once")


def _check_update(moved: object, size: int, round_: int) -> None:
    """Raises StrategyError if a user's own strategy returns weights that the store cannot hold exactly."""
    if not isinstance(moved, np.ndarray) or moved.dtype != np.float32 or moved.shape != (size,):
        given = f"{moved.dtype} {list(moved.shape)}" if isinstance(moved, np.ndarray) else type(moved).__name__
        raise StrategyError(
            f"round {round_}: the strategy's update gave {given}, expected float32 [{size}]; compute in float32, or end with "
            ".astype(numpy.float32)"
        )
    if not np.isfinite(moved).all():
        raise StrategyError(f"round {round_}: the strategy's update gave a weight that is not finite; lower its step")


def digest(delta: Sparse) -> str:
    """SHA-256 of a delta: its indices as little-endian int64, then its values as little-endian float32."""
    content = hashlib.sha256(np.ascontiguousarray(delta.indices, _INDEX).data)
    content.update(np.ascontiguousarray(delta.values, _VALUE).data)
    return content.hexdigest()


def _contribution(client: int, served: Served[Share], measure: Measure | None) -> Contribution:
    share = served.outcome
    return Contribution(
        client=client,
        device=served.device,
        status=served.status,
        digest=share.digest if share is not None else "",
        entries=share.entries if share is not None else 0,
        note=served.note,
        measure=measure,
    )
