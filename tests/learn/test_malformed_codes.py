"""Coded updates that are damaged, invented or not in their one form: each is refused, and nothing grows with what it claims."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinymetafed.bench.uplink_cost import adaptive_bits
from tinymetafed.learn.codecs import coded_delta
from tinymetafed.learn.codecs.index_code import DeltaError, index_bits, packed
from tinymetafed.learn.codecs.value_code import ValueCode, ValueCodeError
from tinymetafed_codegen.optional_messages.coded_messages import CodedDelta, ValueCoding
from tinymetafed_codegen.protocol import Coding, Dtype

N, K = 300, 40
VALUES = np.random.default_rng(3).normal(size=N).astype(np.float32)
VALUES[:5] = 0  # so that the first index is not 0
(WHOLE,) = coded_delta.encode(VALUES, K, Dtype.I8, 500)
PARTS = coded_delta.encode(VALUES, K, Dtype.I8, 30)


def decode(messages: list[CodedDelta], dtype: Dtype = Dtype.I8) -> Any:
    return coded_delta.decode(messages, n=N, k=K, dtype=dtype)


def changed(**fields: Any) -> list[CodedDelta]:
    return [dataclasses.replace(WHOLE, **fields)]


def rewritten(gaps: str = "", values: str = "") -> list[CodedDelta]:
    """The message with other strings of bits, given from the first bit on; "" keeps one."""
    bits = "".join(f"{byte:08b}"[::-1] for byte in WHOLE.data)
    parts = gaps or bits[:VALUES_AT], values or bits[VALUES_AT:]
    text = "".join(part + "0" * (-len(part) % 8) for part in parts)
    return changed(data=packed(np.array([int(bit) for bit in text], np.uint8)))


def values_at() -> int:
    """The bit at which the values of WHOLE begin."""
    indices = decode([WHOLE]).indices
    gaps = np.diff(indices, prepend=indices[0] - 1) - 1
    return 24 + int(index_bits(WHOLE.indices, gaps).sum()) + 7 & ~7


VALUES_AT = values_at()
OF_VALUES = np.unpackbits(np.frombuffer(WHOLE.data, np.uint8), bitorder="little")[VALUES_AT:]


@pytest.mark.filterwarnings("error")
def test_a_scale_that_makes_values_infinite_is_refused() -> None:
    with pytest.raises(DeltaError, match="is not finite"):
        decode(changed(scale=3e38))


def test_what_is_tested_here_is_valid_and_in_rice_codes() -> None:
    assert decode([WHOLE]).indices.size == K and len(PARTS) > 2
    assert decode(PARTS).values.tobytes() == decode([WHOLE]).values.tobytes()
    assert WHOLE.indices < Coding.RUN and WHOLE.values < ValueCoding.SIGNS
    assert rewritten() == [WHOLE]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (changed(rank=1), "expected rank 0"),
        (changed(count=K + 1), "41 entries, expected 1 to 40"),
        (changed(count=K - 1), "bits are used|39 entries|in more bits"),
        (changed(count=0), "count = 0"),
        (changed(indices=77), "indices = 77"),
        (changed(values=77), "values = 77"),
        (changed(dtype=Dtype.F16), "values in F16, expected I8"),
        (changed(scale=float("nan")), "scale = nan"),
        (changed(scale=-1.0), "scale = -1"),
        (changed(scale=0.0), "other than 0 with scale 0"),
        (changed(data=b""), "end before"),
        (changed(data=WHOLE.data[:-1]), "end before|bits are used"),
        (changed(data=WHOLE.data + b"\0"), "bits are used"),
        (changed(data=b"\xff" * len(WHOLE.data)), "end before|indices"),
        (PARTS[1:], "expected rank 0"),
        (PARTS[:-1], "entries, expected 40"),
        ([*PARTS, PARTS[-1]], "expected"),
        ([PARTS[0], dataclasses.replace(PARTS[1], data=PARTS[0].data, count=PARTS[0].count)], "indices|entries"),
        ([PARTS[0], dataclasses.replace(PARTS[1], scale=2.0), *PARTS[2:]], "differ from the first"),
        ([], "0 entries, expected 40"),
    ],
)
def test_a_message_that_is_not_the_asked_one_is_refused(messages: list[CodedDelta], words: str) -> None:
    with pytest.raises(DeltaError, match=words):
        decode(messages)


def test_no_other_form_of_the_same_delta_is_taken() -> None:
    found = decode([WHOLE])
    gaps = np.diff(found.indices, prepend=found.indices[0] - 1) - 1
    first = f"{found.indices[0]:024b}"[::-1]
    as_bitmap = first + "".join("0" * gap + "1" for gap in gaps.tolist())
    with pytest.raises(DeltaError, match=f"indices in BITMAP, expected {WHOLE.indices.name}"):
        decode([dataclasses.replace(rewritten(gaps=as_bitmap)[0], indices=Coding.BITMAP)])
    with pytest.raises(DeltaError, match="a gap in more bits than it needs"):
        escaped = "1" * 24 + "0" * 20
        decode(rewritten(gaps=first + escaped + "".join(_rice(int(gap), int(WHOLE.indices)) for gap in gaps[1:])))
    with pytest.raises(DeltaError, match="its first gap is 1, expected 0"):
        before = f"{found.indices[0] - 1:024b}"[::-1]
        decode(rewritten(gaps=before + "".join(_rice(gap, int(WHOLE.indices)) for gap in [1, *gaps[1:].tolist()])))
    code, numbers, _ = ValueCode.read(OF_VALUES, K, WHOLE.values, 8)
    for other in (
        ValueCode(ValueCoding.PACKED, 0, 8),
        dataclasses.replace(code, least=code.least - 1),
        dataclasses.replace(code, coding=ValueCoding(WHOLE.values + 1)),
    ):
        bits = "".join(map(str, other.write(numbers).tolist()))
        with pytest.raises(DeltaError, match=f"values in {other.coding.name}, expected {WHOLE.values.name}"):
            decode([dataclasses.replace(rewritten(values=bits)[0], values=other.coding)])


def test_a_value_that_no_device_sends_is_refused() -> None:
    (message,) = coded_delta.encode(np.array([127.0, -1.0], np.float32), 2, Dtype.I8, 100)
    assert message.values == ValueCoding.PACKED
    lowest = dataclasses.replace(message, data=message.data[:3] + b"\x80\x00")
    with pytest.raises(DeltaError, match="-128"):
        coded_delta.decode([lowest], n=2, k=2, dtype=Dtype.I8)
    (message,) = coded_delta.encode(np.array([1.0, -1.0], np.float32), 2, Dtype.F16, 100)
    infinite = dataclasses.replace(message, data=message.data[:3] + np.array([1.0, np.inf], "<f2").tobytes())
    with pytest.raises(DeltaError, match="value 1 is not finite"):
        coded_delta.decode([infinite], n=2, k=2, dtype=Dtype.F16)


def _rice(number: int, parameter: int) -> str:
    low = "".join(str(number >> bit & 1) for bit in range(parameter))
    return "1" * (number >> parameter) + "0" + low


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.integers(2, 8),
    count=st.integers(1, 200),
    spread=st.sampled_from([0.0, 0.3, 1.0, 4.0, 40.0]),
    zeros=st.sampled_from([0.0, 0.6]),
)
def test_values_of_any_width_come_back(seed: int, width: int, count: int, spread: float, zeros: float) -> None:
    draws = np.random.default_rng(seed)
    most = (1 << width - 1) - 1
    numbers = np.clip(np.rint(draws.normal(size=count) * spread + draws.integers(-3, 4)), -most, most).astype(np.int64)
    numbers[draws.random(count) < zeros] = 0
    code = ValueCode.best(numbers, width)
    bits = code.write(numbers)
    assert bits.size == code.head_bits + code.lengths(numbers).sum() <= count * width
    read, found, used = ValueCode.read(np.append(bits, draws.integers(0, 2, 9).astype(np.uint8)), count, code.coding, width)
    assert (read, used) == (code, bits.size) and np.array_equal(found, numbers)


@settings(max_examples=200)
@given(
    raw=st.binary(max_size=60),
    count=st.integers(1, 60),
    coding=st.sampled_from(ValueCoding),
    width=st.integers(2, 8),
)
@example(raw=b"", count=1, coding=ValueCoding.SIGNS, width=8)
@example(raw=b"\0", count=60, coding=ValueCoding.SIGNS, width=8)
@example(raw=b"\xff" * 60, count=9, coding=ValueCoding.RICE_0, width=8)
@example(raw=b"\xff" * 60, count=9, coding=ValueCoding.APART_6, width=7)
@example(raw=b"\0" * 9, count=60, coding=ValueCoding.APART_3, width=8)
def test_any_bits_are_refused_or_the_one_form_of_their_values(raw: bytes, count: int, coding: ValueCoding, width: int) -> None:
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
    try:
        code, numbers, used = ValueCode.read(bits, count, coding, width)
    except ValueCodeError:
        return
    assert numbers.size == count and used <= bits.size
    assert np.array_equal(code.write(numbers), bits[:used])


@settings(max_examples=150)
@given(data=st.data(), dtype=st.sampled_from([Dtype.I8, Dtype.F16, Dtype.F32]))
def test_a_damaged_message_is_refused_or_another_update_in_its_one_form(data: st.DataObject, dtype: Dtype) -> None:
    (message,) = coded_delta.encode(VALUES, K, dtype, 500)
    damaged = bytearray(message.data)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    claimed = dataclasses.replace(message, data=bytes(damaged))
    try:
        found = decode([claimed], dtype)
    except DeltaError:
        return
    assert found.indices.size == found.values.size == K and np.isfinite(found.values).all()
    assert (np.diff(found.indices, prepend=-1) > 0).all() and found.indices[-1] < N
    again = coded_delta.encode(
        found.dense(N), K, dtype, 500, select=lambda *_: found.indices, scale=message.scale if dtype == Dtype.I8 else None
    )
    assert again == [claimed]


def test_memory_does_not_grow_with_what_a_message_claims() -> None:
    liar = dataclasses.replace(WHOLE, count=0xFFFF, data=b"\xff" * 900)
    tracemalloc.start()
    for claim in ({}, {"indices": Coding.RUN}, {"indices": Coding.BITMAP}, {"values": ValueCoding.SIGNS}):
        with pytest.raises(DeltaError):
            coded_delta.decode([dataclasses.replace(liar, **claim)], n=1 << 20, k=1 << 19, dtype=Dtype.I8)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4_000_000


def test_an_update_of_all_weights_has_its_zeros_apart() -> None:
    """Of most nets many weights do not change at all; with one Rice parameter for all, zeros would take as many low bits."""
    draws = np.random.default_rng(8)
    for share in (0.3, 0.6):
        numbers = np.rint(draws.laplace(size=3000) * 12).clip(-127, 127).astype(np.int64)
        numbers[draws.random(3000) < share] = 0
        code = ValueCode.best(numbers, 8)
        assert code.coding > ValueCoding.RICE_6 and code.coding < ValueCoding.SIGNS
        assert code.write(numbers).size < 1.06 * adaptive_bits(numbers)
        above = np.abs(numbers)
        plain = min(int(np.where(above >> r < 24, (above >> r) + 1 + r, 31).sum()) for r in range(7))
        assert code.write(numbers).size < 0.95 * (plain + np.count_nonzero(numbers))
