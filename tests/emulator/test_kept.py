"""What a board keeps from one round to the next: changes that it has not sent, and its client's local part."""

from __future__ import annotations

import numpy as np
import pytest
from rig import CLIENT, QUICK, SEED, Board, Boards, devices

from tinymetafed.learn import prng, weights
from tinymetafed.learn.codecs import delta
from tinymetafed_codegen.protocol import Dtype, Program, Stream

CAPACITY = 991  # bytes of a chunk's data; how a delta is cut into chunks changes nothing of it


def empty_round(board: Board, round: int, client: int, draw: int) -> np.ndarray:
    """The local part as a client's round starts with it."""
    board.load(round, board.weights(round))
    board.session.train(round, Program.TRAIN, SEED, client, draw)
    return board.fetch()[board.n_global :]


@pytest.mark.parametrize("uplink", [Dtype.F32, Dtype.F16, Dtype.I8])
@pytest.mark.parametrize("url", devices(QUICK))
def test_what_was_not_sent_goes_into_the_next_delta(boards: Boards, url: str, uplink: Dtype) -> None:
    board = boards(url, "keeping")
    board.forget()
    n, k = board.n_global, board.n_global // 20
    board.configure(k, uplink)
    owed = np.zeros(n, np.float32)
    for round in range(1, 6):
        received = board.load(round, board.weights(round))
        if round == 3:  # an adaptation sends nothing, and owes nothing
            board.train(round, Program.ADAPT)
            continue
        board.train(round)
        change = board.fetch()[:n] - received + owed
        sent = board.delta(round, k)
        expected = delta.decode(delta.encode(change, k, uplink, CAPACITY, round=round), n=n, k=k, round=round)
        np.testing.assert_array_equal(sent.indices, expected.indices)
        np.testing.assert_array_equal(sent.values.view(np.uint32), expected.values.view(np.uint32))
        owed = change - delta.dense(sent, n)
    assert np.count_nonzero(owed) > n // 2, "nothing was left that could go into the next delta"

    board.forget()
    board.configure(k, uplink)
    received = board.load(1, board.weights(1))
    board.train(1)
    fresh = delta.encode(board.fetch()[:n] - received, k, uplink, CAPACITY, round=1)
    np.testing.assert_array_equal(board.delta(1, k).values, delta.decode(fresh, n=n, k=k, round=1).values)


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
    board.session.configure(Program.TRAIN, (), board.strategy.top_k, Dtype.F32)
    np.testing.assert_array_equal(empty_round(board, 2, CLIENT, 6), ended)
    board.load(3, board.weights(3))
    board.train(3, Program.ADAPT)  # of the same client, and not kept
    np.testing.assert_array_equal(empty_round(board, 4, CLIENT, 7), ended)
    np.testing.assert_array_equal(empty_round(board, 5, CLIENT + 1, 7), fixed)
    board.forget()
    board.session.configure(Program.TRAIN, (), board.strategy.top_k, Dtype.F32)
    np.testing.assert_array_equal(empty_round(board, 1, CLIENT, 8), fixed)
    assert not np.array_equal(ended, fixed)


@pytest.mark.parametrize("url", devices(QUICK))
def test_the_local_part_is_redrawn_for_every_client_and_draw(boards: Boards, url: str) -> None:
    board = boards(url, "every-op")
    board.forget()
    board.session.configure(Program.TRAIN, (), board.strategy.top_k, Dtype.F32)
    kernel = next(tensor for tensor in board.manifest.parameters if tensor.part == "local")
    places = kernel.offset + np.arange(kernel.size)
    for round, (client, draw) in enumerate([(3, 5), (3, 6), (4, 5), (3, 5)], start=1):
        words, _ = prng.draw(SEED, client, draw, Stream.LOCAL_START, places)
        drawn = np.float32(board.experiment.model.local_start_scale) * (np.float32(2) * prng.uniform(words) - np.float32(1))
        local = empty_round(board, round, client, draw)
        np.testing.assert_array_equal(local[: kernel.size], drawn)
        assert not local[kernel.size :].any()  # its bias
