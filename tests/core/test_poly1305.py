"""Poly1305 of core and host against RFC 8439 and against `cryptography`, for every size and where sums carry."""

from __future__ import annotations

import os
import random

import pytest
from core_harness import Core
from hypothesis import example, given
from hypothesis import strategies as st

from tinymetafed.wire.poly1305 import Poly1305

FACTORS = st.one_of(st.binary(min_size=16, max_size=16), st.sampled_from([b"\0" * 16, b"\xff" * 16, b"\2" + b"\0" * 15]))
HASHES = int(os.environ.get("TINYMETAFED_HASHES", "2000"))
# Blocks of which sums are the prime, or a little more or less.
BLOCKS = st.sampled_from([b"\xff" * 16, b"\xfb" + b"\xff" * 15, b"\xfa" + b"\xff" * 15, b"\xfc" + b"\xff" * 15, b"\0" * 16])
MESSAGES = st.one_of(st.binary(max_size=200), st.lists(BLOCKS, max_size=8).map(b"".join))

# RFC 8439, section 2.5.2 and vectors 7 to 13 of appendix A.3: factor, what is added, message, tag.
VECTORS = {
    "2.5.2": (
        "85d6be7857556d337f4452fe42d506a8",
        "0103808afb0db2fd4abff6af4149f51b",
        b"Cryptographic Forum Research Group".hex(),
        "a8061dc1305136c6c22b8baf0c0127a9",
    ),
    "7": ("02" + "00" * 15, "00" * 16, "ff" * 16, "03" + "00" * 15),
    "8": ("02" + "00" * 15, "ff" * 16, "02" + "00" * 15, "03" + "00" * 15),
    "9": ("01" + "00" * 15, "00" * 16, "ff" * 16 + "f0" + "ff" * 15 + "11" + "00" * 15, "05" + "00" * 15),
    "10": ("01" + "00" * 15, "00" * 16, "ff" * 16 + "fb" + "fe" * 15 + "01" * 16, "00" * 16),
    "11": ("02" + "00" * 15, "00" * 16, "fd" + "ff" * 15, "fa" + "ff" * 15),
    "12": (
        "0100000000000000" + "0400000000000000",
        "00" * 16,
        "e33594d7505e43b9" + "00" * 8 + "3394d7505e4379cd" + "0100000000000000" + "00" * 16 + "01" + "00" * 15,
        "1400000000000000" + "5500000000000000",
    ),
    "13": (
        "0100000000000000" + "0400000000000000",
        "00" * 16,
        "e33594d7505e43b9" + "00" * 8 + "3394d7505e4379cd" + "0100000000000000" + "00" * 16,
        "13" + "00" * 15,
    ),
}


def tag(hashed: bytes, added: bytes) -> bytes:
    """Poly1305's tag of a hash."""
    total = int.from_bytes(hashed, "little") + int.from_bytes(added, "little")
    return (total % (1 << 128)).to_bytes(16, "little")


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_of_the_rfc(core: Core, name: str) -> None:
    factor, added, message, expected = map(bytes.fromhex, VECTORS[name])
    assert tag(core.poly1305(factor, message), added) == expected
    assert tag(Poly1305(factor).digest(message), added) == expected


@given(factor=FACTORS, message=MESSAGES)
@example(factor=b"\xff" * 16, message=b"\xff" * 4096)
def test_core_and_host_are_equal(core: Core, factor: bytes, message: bytes) -> None:
    assert core.poly1305(factor, message) == Poly1305(factor).digest(message)


@given(factor=FACTORS, message=MESSAGES)
def test_equals_cryptography(factor: bytes, message: bytes) -> None:
    theirs = pytest.importorskip("cryptography.hazmat.primitives.poly1305").Poly1305
    assert Poly1305(factor).digest(message) == theirs.generate_tag(factor + b"\0" * 16, message)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 1024])
def test_sizes_around_a_block(core: Core, size: int) -> None:
    message, factor = bytes(range(256)) * 4, bytes(range(100, 116))
    assert core.poly1305(factor, message[:size]) == Poly1305(factor).digest(message[:size])


def test_hashes_that_end_beside_the_prime_or_a_carry(core: Core) -> None:
    """The last block is chosen so that the sum, or its product, is within ten of the prime or of a multiple of 2^128."""
    prime, drawn, reached = (1 << 130) - 5, random.Random(1305), 0
    for _ in range(HASHES):
        factor = drawn.choice([drawn.randbytes(16), b"\xff" * 16, (1 << drawn.randrange(124)).to_bytes(16, "little")])
        r = int.from_bytes(factor, "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
        if r == 0:
            continue
        message = drawn.choice([drawn.randbytes(16), b"\xff" * 16]) * drawn.randrange(1, 68)
        so_far = 0
        for at in range(0, len(message), 16):
            so_far = (so_far + (1 << 128) + int.from_bytes(message[at : at + 16], "little")) * r % prime
        goal = (drawn.randrange(-10, 10) + (drawn.randrange(4) << 128)) % prime
        last = (goal * pow(r, -1, prime) ** drawn.randrange(2) - so_far) % prime
        if not 1 << 128 <= last < 2 << 128:
            continue
        reached += 1
        hashed = ((so_far + last) * r % prime % (1 << 128)).to_bytes(16, "little")
        message += (last - (1 << 128)).to_bytes(16, "little")
        assert core.poly1305(factor, message) == hashed == Poly1305(factor).digest(message)
    assert reached > HASHES / 8


def test_messages_that_differ_in_their_zeros_alone_have_other_hashes(core: Core) -> None:
    """A shorter message is not one with zeros behind it."""
    factor = bytes(range(1, 17))
    assert len({core.poly1305(factor, b"\0" * size) for size in range(64)}) == 64
