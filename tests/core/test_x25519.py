"""The core's X25519 against the vectors of RFC 7748 and against Python's integers."""

from __future__ import annotations

import pytest
from core_harness import Core
from curve25519 import BASE, PRIME, multiply
from hypothesis import example, given, settings
from hypothesis import strategies as st

keys = st.one_of(st.binary(min_size=32, max_size=32), st.integers(-20, 20).map(lambda n: (PRIME + n).to_bytes(32, "little")))


@pytest.mark.parametrize(
    ("scalar", "point", "product"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_vectors_of_the_rfc(core: Core, scalar: str, point: str, product: str) -> None:
    """RFC 7748, section 5.2."""
    assert core.x25519(bytes.fromhex(scalar), bytes.fromhex(point)).hex() == product


def test_repeated_vector_of_the_rfc(core: Core) -> None:
    """RFC 7748, section 5.2: once and a thousand times."""
    assert core.x25519(BASE, BASE).hex() == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert core.x25519(BASE, BASE, 1000).hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


@given(mine=keys, theirs=keys)
@settings(max_examples=20)
def test_two_boards_agree(core: Core, mine: bytes, theirs: bytes) -> None:
    assert core.x25519(mine, core.x25519(theirs, BASE)) == core.x25519(theirs, core.x25519(mine, BASE))


@settings(max_examples=60)
@given(scalar=keys, point=keys)
@example(scalar=b"\xff" * 32, point=b"\xff" * 32)
@example(scalar=b"\x01" * 32, point=bytes(32))
def test_equals_pythons_integers(core: Core, scalar: bytes, point: bytes) -> None:
    assert core.x25519(scalar, point) == multiply(scalar, point)
