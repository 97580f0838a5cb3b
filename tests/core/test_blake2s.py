"""The core's BLAKE2s against hashlib's, with and without a key, for data in one and in two pieces."""

from __future__ import annotations

import hashlib

import pytest
from core_harness import Core
from hypothesis import given
from hypothesis import strategies as st

pieces = st.binary(max_size=200)


@given(first=pieces, second=pieces, key=st.binary(max_size=32), digest_bytes=st.integers(1, 32))
def test_equals_hashlibs(core: Core, first: bytes, second: bytes, key: bytes, digest_bytes: int) -> None:
    expected = hashlib.blake2s(first + second, key=key, digest_size=digest_bytes).digest()
    assert core.blake2s(first, second, key, digest_bytes) == expected


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 127, 128, 129, 4096])
@pytest.mark.parametrize("key", [b"", b"k" * 32])
def test_sizes_around_a_block(core: Core, size: int, key: bytes) -> None:
    data = bytes(range(256)) * 16
    expected = hashlib.blake2s(data[:size], key=key, digest_size=8).digest()
    assert core.blake2s(data[:size], b"", key, 8) == core.blake2s(b"", data[:size], key, 8) == expected


def test_vector_of_the_rfc(core: Core) -> None:
    """RFC 7693, appendix B."""
    expected = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    assert core.blake2s(b"abc", b"", b"", 32).hex() == expected
