"""The server's step: a float32 mean in client order, absent entries as zeros, and g + α · change."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinymetafed.learn.aggregate import mean, move
from tinymetafed.learn.codecs.delta import Sparse

N = 6
numbers = st.floats(-1e3, 1e3, width=32)


def sparse(**entries: float) -> Sparse:
    """A delta from its entries by index; i3=0.5 is entry 3."""
    indices = [int(name[1:]) for name in entries]
    return Sparse(np.array(indices, np.int64), np.array(list(entries.values()), np.float32))


def test_an_entry_that_a_client_did_not_send_counts_as_zero() -> None:
    found = mean([sparse(i0=1.0, i3=3.0), sparse(i3=1.0, i5=-2.0)], N)
    assert found.dtype == np.float32
    assert found.tolist() == [0.5, 0, 0, 2, 0, -1]


def test_one_client_is_its_own_mean() -> None:
    assert mean([sparse(i1=0.1)], N).tolist() == [0, float(np.float32(0.1)), 0, 0, 0, 0]


def test_the_sum_is_float32_in_client_order() -> None:
    large, small = sparse(i0=2.0**24), sparse(i0=1.0)
    # In float32, 2^24 + 1 = 2^24, so the position of the small terms decides.
    assert mean([large, small, small], N)[0] == np.float32(2**24) / np.float32(3)
    assert mean([small, small, large], N)[0] == np.float32(2**24 + 2) / np.float32(3)


@given(st.lists(arrays(np.float32, N, elements=numbers), min_size=1, max_size=5), st.integers(0, 1 << 16))
def test_mean_and_move_are_the_textbooks_within_rounding(deltas: list[np.ndarray], steps: int) -> None:
    everything = np.arange(N)
    found = mean([Sparse(everything, delta) for delta in deltas], N)
    np.testing.assert_allclose(found, np.mean(np.stack(deltas).astype(np.float64), axis=0), rtol=1e-5, atol=1e-3)
    weights = np.linspace(-1, 1, N, dtype=np.float32)
    alpha = np.float32(steps / (1 << 16))
    moved = move(weights, found, alpha)
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved, weights + (alpha * found))


def test_alpha_zero_does_not_move() -> None:
    weights = np.array([1, -2, 3], np.float32)
    np.testing.assert_array_equal(move(weights, np.full(3, 9, np.float32), np.float32(0)), weights)
