"""State that a board keeps from one round to the next: changes not yet sent, and its client's local weights."""

from __future__ import annotations

import numpy as np
import pytest
from rig import CLIENT, QUICK, SEED, Board, Boards, devices

from tinymetafed.learn import prng, weights
from tinymetafed.learn.codecs import delta
from tinymetafed_codegen.protocol import Dtype, Program, Recipe, Stream

CAPACITY = 991  # bytes of data in a chunk; the chunk size does not change the delta


def empty_round(board: Board, token: int, client: int, round: int) -> np.ndarray:
    """Local weights at the start of a client's round."""
    board.load(token, board.weights(token))
    board.session.train(token, Program.TRAIN, SEED, client, round)
    return board.fetch()[board.n_global :]


@pytest.mark.parametrize("uplink", [Dtype.F32, Dtype.F16, Dtype.I8])
@pytest.mark.parametrize("url", devices(QUICK))
def test_what_was_not_sent_goes_into_the_next_delta(boards: Boards, url: str, uplink: Dtype) -> None:
    board = boards(url, "keeping")
    board.forget()
    n, k = board.n_global, board.n_global // 20
    board.configure(k, uplink)
    owed = np.zeros(n, np.float32)
    for token in range(1, 6):
        received = board.load(token, board.weights(token))
        if token == 3:  # an adaptation sends no delta and leaves no residual
            board.train(token, Program.ADAPT)
            continue
        board.train(token)
        change = board.fetch()[:n] - received + owed
        sent = board.delta(token, k)
        expected = delta.decode(delta.encode(change, k, uplink, CAPACITY, token=token), n=n, k=k, token=token)
        np.testing.assert_array_equal(sent.indices, expected.indices)
        np.testing.assert_array_equal(sent.values.view(np.uint32), expected.values.view(np.uint32))
        owed = change - sent.dense(n)
    assert np.count_nonzero(owed) > n // 2, "no unsent change was left for the next delta"

    board.forget()
    board.configure(k, uplink)
    received = board.load(1, board.weights(1))
    board.train(1)
    fresh = delta.encode(board.fetch()[:n] - received, k, uplink, CAPACITY, token=1)
    np.testing.assert_array_equal(board.delta(1, k).values, delta.decode(fresh, n=n, k=k, token=1).values)


@pytest.mark.parametrize("url", devices(QUICK))
def test_the_local_part_goes_on_from_its_clients_last_round(boards: Boards, url: str) -> None:
    board = boards(url, "keeping")
    board.forget()
    board.configure()
    model = board.experiment.model
    start = weights.local_start(board.manifest, model.local_start, model.local_start_scale)
    fixed = np.concatenate([tensor.ravel() for tensor in start.values()])
    board.load(1, board.weights(1))
    np.testing.assert_array_equal(board.fetch()[board.n_global :], fixed)
    board.train(1)
    ended = board.fetch()[board.n_global :]
    board.session.configure(Program.TRAIN, Recipe((), board.strategy.top_k))
    np.testing.assert_array_equal(empty_round(board, 2, CLIENT, 6), ended)
    board.load(3, board.weights(3))
    board.train(3, Program.ADAPT)  # an adaptation of the same client, whose result is not kept
    np.testing.assert_array_equal(empty_round(board, 4, CLIENT, 7), ended)
    np.testing.assert_array_equal(empty_round(board, 5, CLIENT + 1, 7), fixed)
    board.forget()
    board.session.configure(Program.TRAIN, Recipe((), board.strategy.top_k))
    np.testing.assert_array_equal(empty_round(board, 1, CLIENT, 8), fixed)
    assert not np.array_equal(ended, fixed)


@pytest.mark.parametrize("url", devices(["native:1", "qemu:1"]))
def test_the_local_part_is_redrawn_for_every_client_and_round(boards: Boards, url: str) -> None:
    board = boards(url, "every-op")
    board.forget()
    board.session.configure(Program.TRAIN, Recipe((), board.strategy.top_k))
    kernel = next(tensor for tensor in board.manifest.parameters if tensor.part == "local")
    places = kernel.offset + np.arange(kernel.size)
    for token, (client, round) in enumerate([(3, 5), (3, 6), (4, 5), (3, 5)], start=1):
        words, _ = prng.draw(SEED, client, round, Stream.LOCAL_START, places)
        drawn = np.float32(board.experiment.model.local_start_scale) * (np.float32(2) * prng.uniform(words) - np.float32(1))
        local = empty_round(board, token, client, round)
        np.testing.assert_array_equal(local[: kernel.size], drawn)
        assert not local[kernel.size :].any()  # its bias
