"""The core's Threefry against published test vectors and the host's implementation."""

from __future__ import annotations

import pytest
from core_harness import Core
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.learn import prng
from tinymetafed_codegen.protocol import Stream

words = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(
    ("key", "counter", "answer"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_published_values(
    core: Core, key: tuple[int, int], counter: tuple[int, int], answer: tuple[int, int]
) -> None:
    assert core.threefry(key, counter) == answer


@given(seed=words, client=words, round=words, stream=st.sampled_from(Stream), first=st.integers(0, 2**24 - 20))
def test_draws_are_those_of_the_host(core: Core, seed: int, client: int, round: int, stream: Stream, first: int) -> None:
    indices = range(first, first + 20)
    a, b = prng.draw(seed, client, round, stream, indices)
    expected = list(zip(a.tolist(), b.tolist(), prng.uniform(a).tolist(), strict=True))
    assert core.draw(seed, client, round, stream, indices) == expected
