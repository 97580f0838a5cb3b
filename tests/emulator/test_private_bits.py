"""Private updates on devices: the bits of the simulation, and no other way to a client's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rig import ALL, CLIENT, PRIVATE, PRIVATE_KEYS, ROUND, SEED, Board, Boards, present
from small_runs import Quiet, sine

from tinymetafed.learn.codecs import delta
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.runs import training
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed.simulation.client_rounds import ClientRound, TrainingClients
from tinymetafed.simulation.kernels import open_kernels
from tinymetafed_codegen.protocol import Configure, Dtype, Fetch, Predict, Program, Recipe, Selection, Status

EXPERIMENT = PRIVATE["private"]
INPUTS = np.zeros((1, 1), np.float32)


def simulated(board: Board, token: int) -> delta.Sparse:
    """The update of the round that ``of_round`` asks for, from the simulation."""
    made = design_of(EXPERIMENT, "test")
    kernels, recipe = open_kernels(made, 1), open_strategy(EXPERIMENT, made.manifest).training_recipe()
    samples = [kernels.samples(SEED, [CLIENT], ROUND, phase.sample_set, phase.count) for phase in recipe.phases]
    received = board.load(token, board.weights())
    (outcome,), _ = kernels.train_round(ClientRound(received, recipe, samples, TrainingClients(SEED, [CLIENT], ROUND)))
    assert isinstance(outcome, delta.Sparse)
    return outcome


def begin(board: Board) -> int:
    """Configures a private round; returns the number of entries of its update."""
    board.forget()
    k = board.strategy.top_k
    board.configure(k, Dtype.I8, Selection.RANDOM)
    return k


@pytest.mark.parametrize("url", present(ALL))
def test_private_updates_are_those_of_the_simulation(boards: Boards, url: str) -> None:
    board = boards(url, "private")
    k = begin(board)
    expected = simulated(board, 1)
    board.train(1)
    found = board.delta(1, k)
    assert np.array_equal(found.indices, expected.indices)
    assert np.array_equal(found.values.view(np.uint32), expected.values.view(np.uint32))
    assert np.array_equal(board.delta(1, k).values, found.values)  # asking again gives no other noise


@pytest.mark.xdist_group("emulator-native:1")  # of the test above with the same firmware
def test_a_federation_of_boards_ends_on_the_simulations_weights(tmp_path: Path) -> None:
    keys = ["run.rounds=1", "evaluation.tasks=1", "evaluation.every=0"]
    setup = set_up(sine(*PRIVATE_KEYS, *keys), "test", None)
    trained = training.train(setup, ["native:2"], ["native:1"], tmp_path / "boards", Quiet())
    simulated = training.simulate(setup, 1, tmp_path / "simulation", Quiet())
    assert trained.weights_sha256 == simulated.weights_sha256 and trained.redone == 0


@pytest.mark.parametrize("url", present(ALL[:1]))
def test_a_private_board_has_no_other_way_to_the_weights_of_a_round(boards: Boards, url: str) -> None:
    board = boards(url, "private")
    k = begin(board)
    for recipe in (
        Recipe(board.strategy.training(), k - 1, Dtype.I8, Selection.RANDOM),  # fewer entries, with noise for more
        Recipe(board.strategy.training(), k, Dtype.F32, Selection.RANDOM),
        Recipe(board.strategy.training(), k, Dtype.I8, Selection.GLOBAL),
    ):
        assert board.refusal(Configure(board.session.session, Program.TRAIN, recipe))[0] == Status.BAD_VALUE
    board.load(1, board.weights())
    assert board.refusal(Fetch(0, 10))[0] == Status.BAD_STATE
    assert board.session.predict(INPUTS, 1).size == 1  # the weights as received
    board.train(1)
    assert board.refusal(Fetch(0, 10))[0] == Status.BAD_STATE
    assert board.refusal(Predict(Dtype.F32, 1.0, INPUTS.tobytes()))[0] == Status.BAD_STATE
    without_delta = Recipe(board.strategy.training(), 0, Dtype.I8, Selection.RANDOM)
    board.session.configure(Program.TRAIN, without_delta)  # is taken, but this round was trained with another recipe
    assert board.refusal(Predict(Dtype.F32, 1.0, INPUTS.tobytes()))[0] == Status.BAD_STATE
    board.load(2, board.weights())
    board.train(2, Program.ADAPT)
    assert board.session.predict(INPUTS, 1).size == 1  # held-out clients are tested so
