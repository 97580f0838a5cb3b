"""Repeats a run's rounds in a simulation, with the clients that took part in each, and compares the weights."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path

from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.spec import Experiment

from ..federation.observer import Observer
from ..federation.participation import Participation
from ..federation.rounds import Round, rounds
from ..federation.standing import Guard
from ..learn.server_optimiser import ServerState
from ..learn.strategies import Strategy, open_strategy
from ..learn.weights import Floats, initial, sha256
from ..simulation.kernels import ClientKernels, open_kernels
from ..simulation.simulated_clients import URL, SimulatedClients
from .device_site import OnDevices
from .journal import RoundEntry, SessionEntry
from .run_data import RunData
from .setup import Setup, set_up
from .unchanged import same_code, same_data, same_model


@dataclass(frozen=True)
class Verification:
    """Whether the weights of a run are those of a simulation with the same clients in each round.

    ``rounds``: how many the run has. ``left_out``: how many contributions were skipped, because boards were late or lost.
    ``differs``: the first round after which the weights differ; None if there is none. ``weights_sha256``: of the run, after
    its last round; ``simulated_sha256``: of the simulation, after the round ``differs``, or else after the last one.
    """

    rounds: int
    left_out: int
    weights_sha256: str
    simulated_sha256: str
    differs: int | None

    @property
    def same(self) -> bool:
        """Whether the weights are the same after every round."""
        return self.differs is None


def absences(entries: Sequence[RoundEntry]) -> dict[int, frozenset[int]]:
    """The clients that were skipped, by round."""
    skipped = {
        entry.round: frozenset(part.client for part in entry.contributions if part.status == "skipped") for entry in entries
    }
    return {at: clients for at, clients in skipped.items() if clients}


def verify(run: RunData, data: Path | None, threads: int, observer: Observer) -> Verification:
    """Repeats a run's rounds in a simulation.

    Args:
        run: The run, finished or not.
        data: Folder of the task's data; None for the one that the run began with.
        threads: Threads to simulate on.
        observer: Is told of progress.

    Returns:
        Whether the weights are the same after each round.

    Raises:
        UsageError: The updates of the run have secret noise, so nobody can repeat them.
        Error: SpecError, DataError, BuildError, StoreError, StrategyError, TrainingFailed.
    """
    experiment = _simulated(run)
    if experiment.privacy.is_private and experiment.privacy.public_seed is None:
        raise UsageError(f"{run.path}: privacy.noise is secret, so nobody can repeat the run's updates")
    setup = set_up(experiment, str(run.path / "experiment.toml"), data or run.data)
    same_model(setup, run)
    same_code(setup, run)
    same_data(setup, run)
    absent = absences(run.rounds)
    observer.stage("compiling the simulation")
    kernels = open_kernels(setup.design, threads)
    first = initial(setup.design.manifest, experiment.run.seed, experiment.model.init)
    observer.stage("repeating the run's rounds", run.trained)
    reached, differs = sha256(first), None
    for each, entry in _repeated(setup, run, kernels, first, absent):
        reached = sha256(each.weights)
        observer.advance()
        if reached != entry.weights_sha256:
            differs = each.index
            break
    return Verification(run.trained, sum(map(len, absent.values())), sha256(run.weights), reached, differs)


def _repeated(
    setup: Setup, run: RunData, kernels: ClientKernels, weights: Floats, absent: Mapping[int, frozenset[int]]
) -> Iterator[tuple[Round, RoundEntry]]:
    """The rounds of a simulation from ``weights`` on, compared with those of the run.

    Each session is repeated with the number of rounds that the run had then, over which schedules are spread, and with what
    clients had still kept.
    """
    server, guard = ServerState(), Guard(setup.strategy.spec, weights)
    starts = [session.round for session in run.sessions]
    former: SimulatedClients | None = None
    for begun, entries in groupby(run.rounds, lambda entry: bisect_right(starts, entry.round)):
        past = replace(run, sessions=run.sessions[:begun])
        strategy, those = _strategy_of(setup, past), list(entries)
        clients = SimulatedClients(kernels, strategy, setup.task)
        if former is not None and _have_stores(setup, run, past.sessions[-1]):
            clients.remember(former)
        former, there = clients, Participation(clients, absent)
        done = rounds(strategy, setup.task, there, weights, those[0].round, guard=guard, server=server)
        for each, entry in zip(islice(done, len(those)), those, strict=True):
            weights, server = each.weights, each.server
            yield each, entry


def _strategy_of(setup: Setup, past: RunData) -> Strategy:
    """The strategy of a run that has had these sessions, of which the last may have extended it."""
    now = setup.experiment
    then = now.run.model_copy(update={"rounds": past.experiment().run.rounds})
    return setup.strategy if then == now.run else open_strategy(now.model_copy(update={"run": then}), setup.design.manifest)


def _have_stores(setup: Setup, run: RunData, session: SessionEntry) -> bool:
    """Whether clients still had in a session what they had kept in earlier ones."""
    urls = run.header.asked.devices
    on_boards = bool(urls) and all(device.url != URL for device in session.devices)
    return on_boards and OnDevices(urls, ()).has_stores(setup)


def _simulated(run: RunData) -> Experiment:
    """The run's experiment; where each board was a client, with as many clients that a simulation can train."""
    experiment = run.experiment()
    if not experiment.task.boards_are_clients:
        return experiment
    boards = sum(bool(device.unique_id) for device in run.sessions[0].devices)
    return experiment.model_copy(
        update={
            "task": experiment.task.model_copy(update={"client_per_board": False}),
            "run": experiment.run.model_copy(update={"clients": boards}),
        }
    )
