"""Updates and weights in levels on the host: what no board sends is refused, and a tensor's scale has the least error."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.learn.codecs import downlink, level_update
from tinymetafed.learn.codecs.delta import DeltaError, quantise
from tinymetafed_codegen.messages.level_format import LevelFormat
from tinymetafed_codegen.optional_messages.level_messages import LevelCoding, LevelDelta
from tinymetafed_codegen.protocol import Coding

N, K = 300, 120
LEVELS = LevelFormat(4, True)
VALUES = (np.random.default_rng(3).normal(size=N) ** 3).astype(np.float32)
(WHOLE,) = level_update.encode(VALUES, K, LEVELS, 500)
(PACKED,) = level_update.encode(VALUES, K, LevelFormat(4, False), 500)


def decode(*messages: LevelDelta, levels: LevelFormat = LEVELS) -> Any:
    return level_update.decode(messages, n=N, k=K, levels=levels)


def test_what_is_tested_here_is_valid_and_in_both_codings() -> None:
    assert (WHOLE.coding, PACKED.coding) == (LevelCoding.RANGE, LevelCoding.PACKED)
    assert decode(WHOLE).values.tobytes() == decode(PACKED).values.tobytes()
    assert len(WHOLE.data) < len(PACKED.data)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (dataclasses.replace(WHOLE, rank=1), "expected rank 0"),
        (dataclasses.replace(WHOLE, count=K + 1), "121 entries, expected 1 to 120"),
        (dataclasses.replace(WHOLE, count=K - 1), "not a range code of 119 entries"),
        (dataclasses.replace(WHOLE, coding=9), "coding = 9"),
        (dataclasses.replace(WHOLE, gaps=Coding.RICE_1), "gaps in RICE_1"),
        (dataclasses.replace(WHOLE, scale=0.0), "levels other than 0 with scale 0"),
        (dataclasses.replace(WHOLE, scale=1e38), "is not finite"),
        (dataclasses.replace(WHOLE, data=WHOLE.data[:-1]), "not a range code"),
        (dataclasses.replace(WHOLE, data=WHOLE.data + b"\0"), "not a range code"),
        (dataclasses.replace(WHOLE, data=WHOLE.data[:2]), "before the first index"),
        (dataclasses.replace(WHOLE, data=b"\xff\xff\xff" + WHOLE.data[3:]), "expected less than 300"),
        (dataclasses.replace(PACKED, data=PACKED.data[:-1]), "bits are used|ends? before"),
        (dataclasses.replace(PACKED, data=PACKED.data + b"\0"), "bits are used"),
        (dataclasses.replace(PACKED, data=PACKED.data[:-1] + b"\x88"), "a level of -8"),
        (dataclasses.replace(PACKED, gaps=Coding.RUN), "bits are used"),
    ],
)  # fmt: skip
def test_an_update_that_no_board_sends_is_refused(message: LevelDelta, words: str) -> None:
    with pytest.raises(DeltaError, match=words):
        decode(message)


def test_firmware_that_packs_sends_no_range_code() -> None:
    with pytest.raises(DeltaError, match="which this firmware does not send"):
        decode(WHOLE, levels=LevelFormat(4, False))


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_range_code_is_refused(data: st.DataObject) -> None:
    damaged = bytearray(WHOLE.data)
    for at in data.draw(st.sets(st.integers(3, len(damaged) - 1), min_size=1, max_size=3)):
        damaged[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DeltaError):
        decode(dataclasses.replace(WHOLE, data=bytes(damaged)))


def test_memory_does_not_grow_with_what_a_message_claims() -> None:
    liar = dataclasses.replace(WHOLE, count=0xFFFF, data=bytes(900))
    tracemalloc.start()
    with pytest.raises(DeltaError):
        level_update.decode([liar], n=1 << 20, k=1 << 19, levels=LEVELS)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8_000_000


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_the_scale_of_a_tensor_has_the_least_error(bits: int) -> None:
    levels = LevelFormat(bits, False)
    for weights in (np.random.default_rng(bits).normal(size=2000).astype(np.float32), np.float32([1, -1, 0.5]), VALUES):
        scale, sent = downlink.clipped(weights, levels)
        assert np.abs(sent).max() <= levels.largest

        def error(scale: float, sent: Any, weights: Any = weights) -> float:
            return float(((weights.astype(np.float64) - sent.astype(np.float64) * scale) ** 2).sum())

        assert error(scale, sent) <= error(*quantise(weights, levels.largest))
    gaussian = np.random.default_rng(bits).normal(size=2000).astype(np.float32)
    assert downlink.clipped(gaussian, levels)[0] < 0.95 * quantise(gaussian, levels.largest)[0]


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1e-40], [3e38, -3e38], [1.0]])
def test_any_tensor_has_a_scale(weights: list[float]) -> None:
    values = np.array(weights, dtype=np.float32)
    for bits in (8, 4, 3, 2):
        scale, sent = downlink.clipped(values, LevelFormat(bits, True))
        assert np.isfinite(sent * np.float32(scale)).all() and np.abs(sent).max(initial=0) < 1 << bits - 1
