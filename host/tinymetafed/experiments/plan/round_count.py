"""Counts the bytes and messages of a client's round, by simulating some rounds of the experiment."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.spec import Experiment

from ...devices.link.exchange import MAX_UNDER_WAY
from ...federation.rounds import rounds
from ...learn.strategies import Strategy
from ...learn.weights import initial
from ...runs.setup import Setup, set_up
from ...simulation.kernels import open_kernels
from ...simulation.simulated_clients import SimulatedClients
from ...wire.messages import loads_at_once
from .fleet_round import DeviceRound

ROUNDS = 5


def counted(experiment: Experiment, source: str, data: Path | None) -> tuple[DeviceRound, Strategy]:
    """Counts a client's round.

    Args:
        experiment: The experiment.
        source: Its name in errors.
        data: Folder of the task's data; None for the usual place.

    Returns:
        The mean over a few simulated rounds, and the experiment's strategy.

    Raises:
        UsageError: Its clients are boards, which cannot be simulated.
        Error: SpecError, DataError, BuildError.
    """
    if experiment.task.boards_are_clients:
        raise UsageError(
            f"{source}: task.client_per_board = true: only boards have the data, so no round can be counted here; plan "
            "with --set task.client_per_board=false --set run.clients=8"
        )
    few = experiment.run.model_copy(update={"rounds": ROUNDS})
    return simulated(set_up(experiment.model_copy(update={"run": few}), source, data), ROUNDS)


def simulated(setup: Setup, count: int) -> tuple[DeviceRound, Strategy]:
    """As ``counted``, over so many rounds of a set-up."""
    strategy, manifest = setup.strategy, setup.design.manifest
    clients = SimulatedClients(open_kernels(setup.design, 1), strategy, setup.task)
    first = initial(manifest, setup.experiment.run.seed, setup.experiment.model.init)
    served = sum(len(each.contributions) for each in islice(rounds(strategy, setup.task, clients, first), count))
    sent, asked = clients.traffic, clients.requests
    recipe = strategy.training_recipe()
    segments = strategy.download(first)
    found = DeviceRound(
        bytes_down=sent.down / served,
        bytes_up=sent.up / served,
        samples_down=sent.samples_down / served,
        samples_up=sent.samples_up / served,
        loads=asked.loads / served,
        samples=asked.samples / served,
        pulls=asked.pulls / served,
        others=asked.others / served,
        loads_at_once=loads_at_once(manifest.mac_bytes),
        samples_at_once=1,
        pulls_wait=strategy.secure_sum is not None,
        weights=strategy.n_global,
        weight_bytes=max((segment.dtype.width for segment in segments), default=0),
        entries=strategy.top_k,
        entry_bytes=recipe.uplink.width,
    )
    if not asked.samples:
        return found, strategy
    fits = int(manifest.receive_window // (sent.samples_down / asked.samples + 1))
    return replace(found, samples_at_once=max(1, min(MAX_UNDER_WAY, fits))), strategy
