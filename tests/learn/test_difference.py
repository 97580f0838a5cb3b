"""A version of the weights as what differs from another one: decoded bit by bit, it is the same version."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.learn.codecs import difference, downlink
from tinymetafed.learn.codecs.difference import Version, Versions, encode
from tinymetafed_codegen.messages.level_format import LevelFormat
from tinymetafed_codegen.optional_messages.difference_messages import (
    FINGERPRINT_FACTOR,
    STEP_ESCAPE,
    Difference,
    MoreDifference,
)
from tinymetafed_codegen.protocol import RICE_ESCAPE, RICE_RAW_BITS, WEIGHT_DTYPES, Coding, Dtype

TENSORS = (7, 1, 40, 12)
N = sum(TENSORS)
MANTISSA = {16: 10, 32: 23}
Floats = np.ndarray


def version(weights: Floats, dtype: Dtype) -> Version:
    return Version.of(downlink.encode(weights.astype(np.float32), dtype, TENSORS))


class Bits:
    """Reads bits one by one, the lowest bit of each byte first."""

    def __init__(self, data: bytes) -> None:
        self.left = [byte >> bit & 1 for byte in data for bit in range(8)]

    def take(self, count: int) -> int:
        bits, self.left = self.left[:count], self.left[count:]
        return sum(bit << i for i, bit in enumerate(bits))

    def rice(self, parameter: int, escape: int, raw: int) -> int:
        ones = 0
        while ones < escape and self.take(1):
            ones += 1
        return ones << parameter | self.take(parameter) if ones < escape else self.take(raw)


def decoded(base: Version, messages: list[Difference | MoreDifference]) -> list[int]:
    """The cells after a difference, as docs/protocol.md describes it."""
    first, cells, at = messages[0], base.cells.tolist(), 0
    assert isinstance(first, Difference)
    for message in messages:
        bits = Bits(message.data)
        for _ in range(message.count):
            at += 0 if first.gaps == Coding.RUN else bits.rice(first.gaps, RICE_ESCAPE, RICE_RAW_BITS)
            if at in base.scales.tolist():
                cells[at] = bits.take(32)
            else:
                exponent = cells[at] >> MANTISSA[base.width] & (255 if base.width == 32 else 31) if base.width > 8 else 0
                sign = -1 if bits.take(1) else 1
                step = bits.rice(min(max(first.steps - exponent, 0), base.width - 1), STEP_ESCAPE, base.width) + 1
                cells[at] = (cells[at] + sign * step) % (1 << base.width)
            at += 1
        assert len(bits.left) < 8 and not any(bits.left), "bytes are left over"
    assert sum(message.count for message in messages) == first.entries
    return cells


def sent(base: Version, new: Version, capacity: int) -> list[Difference | MoreDifference]:
    coded, rank, messages = encode(base, new), 0, []
    while not messages or rank < coded.entries:
        message, rank = coded.message(5, rank, capacity)
        assert isinstance(message, Difference | MoreDifference) and len(message.pack()) <= capacity
        messages.append(message)
    return messages


weight = st.floats(-60000, 60000, width=16) | st.sampled_from([0.0, -0.0, 1.0, 2.0**-14, 6e-8, -6e-8])
change = st.sampled_from([0.0, 0.0, 0.0, 1e-4, -1e-3, 0.5, -3.0]) | st.floats(-9, 9, width=16)


@settings(max_examples=25)
@given(
    st.sampled_from(WEIGHT_DTYPES),
    st.lists(weight, min_size=N, max_size=N),
    st.lists(change, min_size=N, max_size=N),
    st.integers(60, 300),
)
def test_a_difference_decodes_to_the_new_version(dtype: Dtype, old: list[float], by: list[float], capacity: int) -> None:
    before = np.array(old, np.float32)
    after = np.clip(before + np.array(by, np.float32), -65000, 65000)
    base, new = version(before, dtype), version(after, dtype)
    messages = sent(base, new, capacity)
    assert decoded(base, messages) == new.cells.tolist()
    assert (messages[0].base, messages[0].result) == (base.fingerprint, new.fingerprint)


def test_a_fingerprint_is_the_polynomial_of_the_cells() -> None:
    made = version(np.linspace(-1, 1, N), Dtype.I8)
    expected = 0
    for cell in made.cells.tolist():
        expected = (expected + cell) * FINGERPRINT_FACTOR % (1 << 64)
    assert made.fingerprint == expected.to_bytes(8, "little")
    assert made.scales.tolist() == [0, 8, 10, 51] and len(made.cells) == N + len(TENSORS)


def test_equal_versions_differ_in_nothing() -> None:
    same = version(np.ones(N), Dtype.F16)
    (message,) = sent(same, version(np.ones(N), Dtype.F16), 100)
    assert isinstance(message, Difference) and (message.entries, message.data) == (0, b"")


def test_old_versions_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "KEPT_VERSIONS", 3)
    known, made = Versions(), []
    for i in range(5):
        made.append(known.newest(downlink.encode(np.full(N, 1 + i / 1000, np.float32), Dtype.F16, TENSORS)))
    assert [each.fingerprint in known for each in made] == [False, False, True, True, True]
    assert known.difference(made[0].fingerprint, made[-1]) is None
    assert known.difference(made[2].fingerprint, made[-1]) is not None
    assert known.difference(made[3].fingerprint, made[2]) is None, "only the newest version is sent"


def test_all_weights_are_sent_where_a_difference_is_not_shorter() -> None:
    random, known = np.random.default_rng(1), Versions()
    old = known.newest(downlink.encode(random.normal(0, 1, N).astype(np.float32), Dtype.F16, TENSORS))
    new = known.newest(downlink.encode(random.normal(0, 900, N).astype(np.float32), Dtype.F16, TENSORS))
    assert encode(old, new).size >= new.size
    assert known.difference(old.fingerprint, new) is None


def test_a_difference_of_levels_is_not_longer_than_all_of_them_packed() -> None:
    random, levels = np.random.default_rng(1), LevelFormat(4, is_ranged=False)
    old, new = (Version.of(downlink.encode(random.normal(0, 1, N).astype(np.float32), Dtype.I8, TENSORS, levels)) for _ in "ab")
    assert new.size == sum((4 * size + 7) // 8 for size in TENSORS) <= encode(old, new).size
    known = Versions()
    known.newest(old.segments)
    assert known.difference(old.fingerprint, known.newest(new.segments)) is None
