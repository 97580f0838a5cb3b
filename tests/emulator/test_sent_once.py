"""Boards that keep samples are sent each of them once, and end on the bits of boards that are sent every pass."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from clocks import HUNG_SECONDS
from rig import CLIENT, ROUND, SEED, Board

from tinymetafed_codegen.protocol import Await, Program, State, Status

pytestmark = [pytest.mark.essential, pytest.mark.parametrize("model", ["streamed"])]


def first_steps(board: Board) -> list[int]:
    """The steps of the first pass over each set of a round, whose samples must be sent."""
    phases = board.strategy.training()
    starts = np.cumsum([0, *(phase.steps for phase in phases)])
    assert all(phase.passes > 1 for phase in phases)
    return [int(start) + i for start, phase in zip(starts, phases, strict=False) for i in range(phase.count)]


def begin(board: Board, token: int) -> None:
    board.load(token, board.weights())
    assert board.session.train(token, Program.TRAIN, SEED, CLIENT, ROUND).state == State.TRAINING


def send_once(board: Board, token: int) -> None:
    """Sends each sample once, and waits for the step that needs it."""
    for step in first_steps(board):
        assert board.session.request(Await(token, step)).step == step
        board.session.request(board.sample(token, step))
    done = board.session.request(Await(token, board.steps(Program.TRAIN)))
    assert (done.state, done.step) == (State.DONE, board.steps(Program.TRAIN))


def sent_in_every_pass(board: Board) -> np.ndarray:
    """The weights after a round whose samples are sent in every pass. Leaves token 1 behind."""
    board.configure()
    board.load(1, board.weights())
    assert board.train(1).state == State.DONE
    return board.fetch()


def test_samples_sent_once_train_to_the_weights_of_samples_sent_in_every_pass(board: Board, model: str) -> None:
    kept = board.manifest.kept_samples
    assert kept is not None and kept.samples == 9
    assert board.manifest.passes_sent(board.strategy.training()) == [1, 1]
    expected = sent_in_every_pass(board)
    begin(board, 2)
    send_once(board, 2)
    np.testing.assert_array_equal(board.fetch(), expected)
    assert len(first_steps(board)) == 12 and board.steps(Program.TRAIN) == 24


def test_a_sample_that_comes_again_and_predictions_between_passes_change_nothing(board: Board, model: str) -> None:
    expected = sent_in_every_pass(board)
    images = board.images(2)
    begin(board, 2)
    for step in first_steps(board):
        board.session.request(Await(2, step))
        for _ in range(2):
            assert board.session.request(board.sample(2, step)).step > step
        board.session.predict(images, board.manifest.output_size, 1 / 255)  # in the arena, where samples lie too
        other = dataclasses.replace(board.sample(2, step), data=board.sample(2, step + 1).data)
        assert board.session.request(other).step > step, "a late copy, which is neither trained nor kept"
    assert board.session.request(Await(2, board.steps(Program.TRAIN))).state == State.DONE
    np.testing.assert_array_equal(board.fetch(), expected)


def test_a_refused_sample_is_not_kept(board: Board, model: str) -> None:
    expected = sent_in_every_pass(board)
    begin(board, 2)
    for step in first_steps(board):
        board.session.request(Await(2, step))
        good = board.sample(2, step)
        for change, status in (
            ({"data": np.float32(7).tobytes() + good.data[4:]}, Status.BAD_VALUE),
            ({"scale": float("nan")}, Status.NOT_FINITE),
            ({"data": good.data[:-1]}, Status.BAD_LENGTH),
        ):
            assert board.refusal(dataclasses.replace(good, **change))[0] == status
        board.session.request(good)
    assert board.session.request(Await(2, board.steps(Program.TRAIN))).state == State.DONE
    np.testing.assert_array_equal(board.fetch(), expected)


def test_samples_of_a_round_that_was_left_are_never_trained(board: Board, model: str) -> None:
    expected = sent_in_every_pass(board)
    begin(board, 2)
    wrong = dataclasses.replace(board.sample(2, 1), step=0)
    assert board.session.request(wrong).step == 1
    begin(board, 3)  # the host has begun anew, with the samples that belong there
    send_once(board, 3)
    np.testing.assert_array_equal(board.fetch(), expected)


def test_a_board_that_is_reset_between_passes_is_sent_its_samples_again(board: Board, model: str) -> None:
    expected = sent_in_every_pass(board)
    first = board.strategy.training()[0].count
    begin(board, 2)
    for step in range(first):
        board.session.request(board.sample(2, step))
    assert board.session.request(Await(2, first + 1)).step > first, "it goes on by itself"
    assert board.device.process is not None
    board.device.process.kill()
    board.device.process.wait()
    board.device.rejoin(HUNG_SECONDS)
    board.configure()
    assert board.refusal(Await(2, 0))[0] == Status.BAD_STATE
    begin(board, 1)
    assert board.session.request(Await(1, 0)).step == 0
    send_once(board, 1)
    np.testing.assert_array_equal(board.fetch(), expected)
