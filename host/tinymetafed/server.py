"""The round loop: who takes part, what comes back, how the global weights move."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from tinymetafed_codegen.protocol import Program

from .device import ClientResult, Job, federate
from .learn.downlink import Segment
from .learn.strategy import TinyMetaFed
from .learn.tasks import Task
from .learn.weights import Floats
from .link.exchange import Traffic
from .link.session import Session

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Round:
    """A finished round: the weights after it and what it took."""

    index: int
    weights: Floats = field(repr=False)
    alpha: float
    clients: list[int]
    devices: list[int]
    traffic: Traffic
    seconds: float
    change: float  # Euclidean norm of the weights' change, for the journal only


def rounds(strategy: TinyMetaFed, task: Task, sessions: Sequence[Session], weights: Floats) -> Iterator[Round]:
    """Meta-trains round by round. Which device serves which client never reaches the result.

    Raises LinkError, DeltaError, StrategyError.
    """
    experiment = strategy.experiment
    phases = strategy.training()
    before = _total(sessions)
    for session in sessions:
        session.configure(Program.TRAIN, phases, strategy.top_k, strategy.uplink)
    traffic = _total(sessions) - before  # counted in the first round, so that a run's sums leave nothing out
    with ThreadPoolExecutor(max_workers=len(sessions)) as pool:
        for index in range(experiment.run.rounds):
            started = time.monotonic()
            clients = strategy.clients(index)
            devices = [(index * len(clients) + place) % len(sessions) for place in range(len(clients))]
            download = strategy.download(weights)

            def one_client(
                session: Session, client: int, index: int = index, download: list[Segment] = download
            ) -> ClientResult:
                job = Job(Program.TRAIN, phases, experiment.run.seed, client, index)
                return federate(session, task, job, download, strategy.n_global, strategy.top_k)

            results = side_by_side(pool, [sessions[d] for d in devices], clients, one_client)
            moved = strategy.update(weights, [result.delta for result in results], index)
            change = float(np.linalg.norm(moved.astype(np.float64) - weights))
            weights = moved
            yield Round(
                index=index,
                weights=weights,
                alpha=float(strategy.alpha(index)),
                clients=clients,
                devices=devices,
                traffic=sum((result.traffic for result in results), traffic),
                seconds=time.monotonic() - started,
                change=change,
            )
            traffic = Traffic()


def _total(sessions: Sequence[Session]) -> Traffic:
    return sum((session.traffic for session in sessions), Traffic())


def side_by_side(
    pool: ThreadPoolExecutor,
    sessions: Sequence[Session],
    items: Sequence[Item],
    work: Callable[[Session, Item], Outcome],
) -> list[Outcome]:
    """``work(session, item)`` for each pair, one thread per distinct session; outcomes in the items' order."""
    outcomes: list[Outcome | None] = [None] * len(items)
    queues: dict[int, list[int]] = {}
    for place, session in enumerate(sessions):
        queues.setdefault(id(session), []).append(place)

    stop = threading.Event()

    def serve(places: list[int]) -> None:
        for place in places:
            if stop.is_set():
                return
            outcomes[place] = work(sessions[place], items[place])

    if len(queues) == 1:
        serve(list(range(len(items))))
    else:
        try:
            for future in as_completed([pool.submit(serve, places) for places in queues.values()]):
                future.result()
        except BaseException:  # Ctrl-C too: the others finish what they are at, and no more
            stop.set()
            raise
    return outcomes  # type: ignore[return-value]  # every place was filled, or an exception is under way
