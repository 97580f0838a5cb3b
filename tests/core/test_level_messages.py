"""Levels on the wire: the core's bytes against the host's, for any numbers and sizes; damaged weights change nothing."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from core_harness import NEXT, TENSORS, Core
from hypothesis import given, settings
from hypothesis import strategies as st
from test_delta_codec import deltas

from tinymetafed.learn.codecs import delta, downlink, level_update
from tinymetafed.learn.codecs.level_load import LeveledWeights
from tinymetafed_codegen.messages.level_format import LevelFormat
from tinymetafed_codegen.optional_messages.level_messages import LevelCoding, LevelDelta, LoadLevels
from tinymetafed_codegen.protocol import Coding, Dtype, Selection, Status

Floats = npt.NDArray[np.float32]
FORMATS = [*(LevelFormat(bits, True) for bits in (8, 4, 3, 2)), LevelFormat(4, False)]
RANGED = LevelFormat(4, True)
SMALLEST = 3 + 3 + 1  # bytes: an index, a packed gap of 21 bits, a level
N = sum(TENSORS)
WEIGHTS = st.lists(
    st.sampled_from((0.0, 1e-3, -1e-3, 1.0, -1.0, 3e38, 1e-45)) | st.floats(-10, 10, width=32), min_size=N, max_size=N
)


@settings(max_examples=40)
@given(case=deltas(), levels=st.sampled_from(FORMATS), capacity=st.integers(SMALLEST, 60) | st.integers(61, 3000))
def test_host_and_device_send_the_same_bytes(core: Core, case: tuple[Floats, int], levels: LevelFormat, capacity: int) -> None:
    values, k = case
    messages = core.whole_leveled(values, k, levels, capacity)
    assert messages == level_update.encode(values, k, levels, capacity)
    assert all(len(message.data) <= capacity for message in messages)
    found = level_update.decode(messages, n=values.size, k=k, levels=levels)
    indices = delta.select_top(values, k)
    scale, sent = delta.quantise(values[indices], levels.largest)
    assert np.array_equal(found.indices, indices)
    assert found.values.tobytes() == (sent.astype(np.float32) * np.float32(scale)).tobytes()


@settings(max_examples=20)
@given(case=deltas(), data=st.data())
def test_messages_pulled_in_any_order_are_the_same(core: Core, case: tuple[Floats, int], data: st.DataObject) -> None:
    values, k = case
    capacities = data.draw(st.lists(st.integers(SMALLEST, 400), min_size=1, max_size=8))
    _, outcomes = core.leveled(values, k, RANGED, [(NEXT, capacity) for capacity in capacities] + [(NEXT, 50_000)])
    chain = [outcome for outcome in outcomes if isinstance(outcome, LevelDelta)]
    assert np.array_equal(level_update.decode(chain, n=values.size, k=k, levels=RANGED).indices, delta.select_top(values, k))
    pulls = [(message.rank, capacity) for message, capacity in zip(chain, [*capacities, 50_000], strict=False)]
    order = data.draw(st.lists(st.integers(0, len(chain) - 1), max_size=8))
    assert core.leveled(values, k, RANGED, [pulls[i] for i in order]) == (Status.OK, [chain[i] for i in order])


@settings(max_examples=10)
@given(case=deltas(), capacity=st.integers(SMALLEST, 400), key=st.tuples(*[st.integers(0, 2**32 - 1)] * 3))
def test_other_selections_are_sent_alike(
    core: Core, case: tuple[Floats, int], capacity: int, key: tuple[int, int, int]
) -> None:
    values, k = case
    messages = core.whole_leveled(values, k, RANGED, capacity, selection=Selection.RANDOM, key=key)
    draw = partial(delta.select_random, seed=key[0], client=key[1], round=key[2])
    assert messages == level_update.encode(values, k, RANGED, capacity, select=draw)
    values, k = np.resize(values, max(3, values.size)), max(3, k)
    ends = (1, 2, values.size)
    messages = core.whole_leveled(values, k, RANGED, capacity, selection=Selection.LAYER, layer_ends=ends)
    by_layer = partial(delta.select_by_layer, layer_ends=ends)
    assert messages == level_update.encode(values, k, RANGED, capacity, select=by_layer)


def test_a_message_has_the_coding_with_fewer_bytes(core: Core) -> None:
    rng = np.random.default_rng(5)
    (shorter,) = core.whole_leveled(rng.normal(size=5000).astype(np.float32), 5000, RANGED, 50_000)
    assert shorter.coding == LevelCoding.RANGE and len(shorter.data) < 3 + 0.9 * 2500
    (packed,) = core.whole_leveled(rng.integers(-7, 8, 40).astype(np.float32), 40, RANGED, 50_000)
    assert (packed.coding, packed.gaps, len(packed.data)) == (LevelCoding.PACKED, Coding.RUN, 3 + 20)


def test_pulls_that_cannot_be_answered_are_refused(core: Core) -> None:
    values = np.arange(1, 101, dtype=np.float32)
    _, outcomes = core.leveled(values, 10, RANGED, [(0, 3), (0, 2), (NEXT, 4), (9, 4)])
    assert outcomes[:2] == [Status.TOO_LARGE] * 2
    assert [message.rank for message in outcomes[2:] if isinstance(message, LevelDelta)] == [0, 9]


def leveled(weights: Floats, levels: LevelFormat) -> LeveledWeights:
    return LeveledWeights.of(downlink.encode(weights, Dtype.I8, TENSORS, levels), levels)


@settings(max_examples=60)
@given(values=WEIGHTS, levels=st.sampled_from(FORMATS), capacity=st.integers(9, 80))
def test_the_device_has_the_weights_that_the_host_sends(
    core: Core, values: list[float], levels: LevelFormat, capacity: int
) -> None:
    weights = np.array(values, dtype=np.float32)
    segments = downlink.encode(weights, Dtype.I8, TENSORS, levels)
    messages = leveled(weights, levels).messages(capacity)
    assert all(len(message.data) <= capacity for message in messages) and sum(each.count for each in messages) == N
    statuses, written, kept = core.load_levels(levels, messages)
    assert set(statuses) == {Status.OK}
    assert written.tobytes() == kept.tobytes() == downlink.decode(segments, N).tobytes()


@settings(max_examples=150)
@given(data=st.data(), levels=st.sampled_from(FORMATS))
def test_damaged_weights_are_refused_or_whole(core: Core, data: st.DataObject, levels: LevelFormat) -> None:
    weights = (np.random.default_rng(data.draw(st.integers(0, 9))).normal(size=N) ** 3).astype(np.float32)
    (message,) = leveled(weights, levels).messages(500)
    payload = bytearray(message.pack())
    cut = data.draw(st.integers(0, len(payload)))
    if data.draw(st.booleans()):
        payload = payload[:cut] + data.draw(st.binary(max_size=3)) * (cut == len(payload))
    for at in data.draw(st.lists(st.integers(0, max(0, len(payload) - 1)), max_size=3)):
        if payload:
            payload[at] ^= data.draw(st.integers(1, 255))
    (status,), written, kept = core.load_levels(levels, [bytes(payload)])
    assert written.tobytes() == kept.tobytes()
    if status != Status.OK:
        assert not written.any()
        return
    read = LoadLevels.unpack(bytes(payload))
    assert read.offset == 0 and not written[read.count :].any()
    if read.coding == LevelCoding.RANGE == message.coding and read.count == N:
        # A range code ends in one way only: other bytes are other scales.
        assert bytes(payload)[len(payload) - len(message.data) + 12 :] == message.data[12:]


@pytest.mark.parametrize(
    ("scale", "count", "coding", "data", "status"),
    [
        (1.0, 2, LevelCoding.PACKED, b"\x87", Status.BAD_VALUE),  # -8
        (1.0, 2, LevelCoding.PACKED, b"\x11\x00", Status.BAD_VALUE),  # a byte left over
        (1.0, 3, LevelCoding.PACKED, b"\x11", Status.BAD_VALUE),
        (1.0, 1, LevelCoding.PACKED, b"\x11", Status.BAD_VALUE),  # a bit of the padding is set
        (float("inf"), 2, LevelCoding.PACKED, b"\x11", Status.NOT_FINITE),
        (float("nan"), 2, LevelCoding.PACKED, b"\x11", Status.NOT_FINITE),
        (1e38, 2, LevelCoding.PACKED, b"\x11", Status.NOT_FINITE),  # 7 times the scale is infinite
        (1.0, 2, LevelCoding.RANGE, bytes(4), Status.BAD_VALUE),
        (1.0, 2, LevelCoding.RANGE, b"", Status.BAD_VALUE),
        (1.0, 41, LevelCoding.PACKED, bytes(21), Status.BAD_OFFSET),
    ],
)  # fmt: skip
def test_what_no_host_sends_is_refused(
    core: Core, scale: float, count: int, coding: LevelCoding, data: bytes, status: Status
) -> None:
    payload = LoadLevels(1, 0, count, coding, np.float32(scale).tobytes() + data)
    if coding == LevelCoding.RANGE and data == bytes(4):
        # Zeros are the lower end of the whole range: two levels of the largest class.
        assert core.load_levels(RANGED, [packed_head(payload)])[0] == [Status.OK]
        payload = LoadLevels(1, 0, count, coding, payload.data[:4] + b"\x00\x00\x00\x01")
    found, written, _ = core.load_levels(RANGED, [packed_head(payload)])
    assert found == [status] and not written.any()


def packed_head(message: LoadLevels) -> bytes:
    """The payload of a message whose fields are not checked."""
    head = LoadLevels(message.token, message.offset, message.count, message.coding, b"").pack()
    return head + message.data


def test_firmware_without_a_range_coder_refuses_a_range_code(core: Core) -> None:
    (message,) = leveled(np.zeros(N, np.float32), RANGED).messages(500)
    assert message.coding == LevelCoding.RANGE
    assert core.load_levels(LevelFormat(4, False), [message])[0] == [Status.BAD_VALUE]
