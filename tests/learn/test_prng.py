"""Threefry on the host: published test vectors, scalar and vector implementations, and functions that use it."""

from __future__ import annotations

import numpy as np
import pytest

from tinymetafed.learn import prng
from tinymetafed_codegen.protocol import Stream

KNOWN = [  # Random123's test vectors for threefry2x32 with 20 rounds: key, counter, words
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("key", "counter", "answer"), KNOWN)
@pytest.mark.parametrize("count", [1, 100])
def test_published_test_vectors(key: tuple[int, int], counter: tuple[int, int], answer: tuple[int, int], count: int) -> None:
    a, b = prng.threefry(key, np.full(count, counter[0], dtype=np.uint32), counter[1])
    assert a.dtype == b.dtype == np.uint32
    assert a.shape == b.shape == (count,)
    assert set(zip(a.tolist(), b.tolist(), strict=True)) == {answer}


def test_few_and_many_draws_agree() -> None:
    many = prng.draw(7, 8, 9, Stream.QUERY, np.arange(1000))
    for i in (0, 1, 500, 999):
        one = prng.draw(7, 8, 9, Stream.QUERY, i)
        assert one[0].shape == ()
        assert (one[0], one[1]) == (many[0][i], many[1][i])


def test_every_coordinate_matters() -> None:
    names = [(1, 2, 3, Stream.QUERY), (0, 2, 3, Stream.QUERY), (1, 0, 3, Stream.QUERY), (1, 2, 0, Stream.QUERY)]
    names += [(1, 2, 3, stream) for stream in Stream if stream != Stream.QUERY]
    draws = np.concatenate([prng.draw(*name, np.arange(100))[0] for name in names])
    assert np.unique(draws).size == draws.size


def test_stream_and_index_are_one_counter_word() -> None:
    assert prng.draw(5, 6, 7, Stream.LOCAL_START, 12) == prng.threefry((5, 6), 7, 7 << 24 | 12)


def test_uniform_is_exact_and_below_one() -> None:
    ends = prng.uniform(np.array([0, 0xFF, 0x100, 0xFFFFFFFF], dtype=np.uint32))
    assert ends.tolist() == [0.0, 0.0, 2.0**-24, 1 - 2.0**-24]
    numbers = prng.uniform(prng.draw(1, 1, 1, Stream.TEST, np.arange(100_000))[0])
    assert numbers.dtype == np.float32
    assert abs(numbers.mean() - 0.5) < 0.005
    assert np.abs(np.histogram(numbers, 10, (0, 1))[0] - 10_000).max() < 500


@pytest.mark.parametrize("n", [0, 1, 2, 9, 1000])
def test_permutation_holds_each_number_once(n: int) -> None:
    order = prng.permutation(1, 2, 3, Stream.DATA_SPLIT, n)
    assert sorted(order.tolist()) == list(range(n))
    assert np.array_equal(order, prng.permutation(1, 2, 3, Stream.DATA_SPLIT, n))
    if n > 9:
        assert not np.array_equal(order, prng.permutation(1, 2, 4, Stream.DATA_SPLIT, n))


def test_permutations_of_three_are_all_equally_likely() -> None:
    seen = [tuple(prng.permutation(1, client, 0, Stream.DATA_SPLIT, 3).tolist()) for client in range(1200)]
    counts = [seen.count(order) for order in set(seen)]
    assert len(counts) == 6 and min(counts) > 150


@pytest.mark.parametrize("arguments", [(-1, 0, 0, 0), (2**32, 0, 0, 0), (0, 2**32, 0, 0), (0, 0, -1, 0), (0, 0, 0, 2**24)])
def test_numbers_out_of_range_are_refused(arguments: tuple[int, int, int, int]) -> None:
    seed, client, round, index = arguments
    with pytest.raises(ValueError, match=r"2\^"):
        prng.draw(seed, client, round, Stream.SUPPORT, index)


def test_a_counter_that_is_not_an_integer_is_refused() -> None:
    with pytest.raises(ValueError, match="integers"):
        prng.threefry((0, 0), np.array([0.5]), 0)
