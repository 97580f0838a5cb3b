"""Repeats a run's rounds in a simulation, with the clients that took part in each, and compares the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.spec import Experiment

from ..federation.observer import Observer
from ..federation.participation import Participation
from ..federation.rounds import rounds
from ..learn.weights import initial, sha256
from ..simulation.kernels import open_kernels
from ..simulation.simulated_clients import SimulatedClients
from .journal import RoundEntry
from .run_data import RunData
from .setup import set_up
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
    clients = Participation(SimulatedClients(open_kernels(setup.design, threads), setup.strategy, setup.task), absent)
    first = initial(setup.design.manifest, experiment.run.seed, experiment.model.init)
    observer.stage("repeating the run's rounds", run.trained)
    reached, differs = sha256(first), None
    done = islice(rounds(setup.strategy, setup.task, clients, first), run.trained)
    for each, entry in zip(done, run.rounds, strict=True):
        reached = sha256(each.weights)
        observer.advance()
        if reached != entry.weights_sha256:
            differs = each.index
            break
    return Verification(run.trained, sum(map(len, absent.values())), sha256(run.weights), reached, differs)


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
