"""The core's ChaCha20 against the vectors of RFC 8439, and the host's masks against the core's."""

from __future__ import annotations

import numpy as np
import pytest
from core_harness import Core
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.learn.masked_sum import stream


@pytest.mark.parametrize(
    ("key", "index", "block"),
    [
        (
            bytes(32),
            0,
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
            "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
        ),
        (
            bytes(32),
            1,
            "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
            "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
        ),
        (
            bytes(31) + b"\1",
            1,
            "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
            "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
        ),
        (
            b"\0\xff" + bytes(30),
            2,
            "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
            "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
        ),
    ],
)
def test_vectors_of_the_rfc(core: Core, key: bytes, index: int, block: str) -> None:
    """RFC 8439, appendix A.1, vectors 1 to 4: those with nonce 0."""
    assert core.chacha20(key, index).hex() == block


@settings(max_examples=30)
@given(seed=st.binary(min_size=32, max_size=32), count=st.integers(0, 100))
def test_the_hosts_masks_are_the_boards(core: Core, seed: bytes, count: int) -> None:
    blocks = b"".join(core.chacha20(seed, index) for index in range(4))
    np.testing.assert_array_equal(stream(seed, count), np.frombuffer(blocks, "<u2")[:count])
