"""Deltas with coded values: the core's bytes against the host's, for any numbers, capacity and order of PullCoded."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from core_harness import NEXT, Core
from hypothesis import given, settings
from hypothesis import strategies as st
from test_delta_codec import DTYPES, deltas

from tinymetafed.learn.codecs import coded_delta, delta
from tinymetafed_codegen.optional_messages.coded_messages import CodedDelta, ValueCoding
from tinymetafed_codegen.protocol import Coding, Dtype, Selection, Status

Floats = npt.NDArray[np.float32]
SMALLEST = 11  # bytes: an index in 3, a gap of 21 bits; a least magnitude in 7 bits and a value of 32


@settings(max_examples=30)
@given(case=deltas(), dtype=st.sampled_from(DTYPES), capacity=st.integers(SMALLEST, 60) | st.integers(61, 3000))
def test_host_and_device_give_the_same_bytes(core: Core, case: tuple[Floats, int], dtype: Dtype, capacity: int) -> None:
    values, k = case
    messages = core.whole_coded(values, k, dtype, capacity)
    assert messages == coded_delta.encode(values, k, dtype, capacity)
    assert all(len(message.data) <= capacity for message in messages)
    found = coded_delta.decode(messages, n=values.size, k=k, dtype=dtype)
    plain = delta.decode(delta.encode(values, k, dtype, 50_000, token=0), n=values.size, k=k, token=0)
    assert found.indices.tobytes() == plain.indices.tobytes()
    assert found.values.tobytes() == plain.values.tobytes()


@settings(max_examples=30)
@given(case=deltas(), dtype=st.sampled_from(DTYPES), data=st.data())
def test_messages_pulled_in_any_order_are_the_same(
    core: Core, case: tuple[Floats, int], dtype: Dtype, data: st.DataObject
) -> None:
    values, k = case
    capacities = data.draw(st.lists(st.integers(SMALLEST, 400), min_size=1, max_size=8))
    _, outcomes = core.coded(values, k, dtype, [(NEXT, capacity) for capacity in capacities] + [(NEXT, 50_000)])
    chain = [outcome for outcome in outcomes if isinstance(outcome, CodedDelta)]
    whole = coded_delta.decode(chain, n=values.size, k=k, dtype=dtype)
    assert np.array_equal(whole.indices, delta.select_top(values, k))
    pulls = [(message.rank, capacity) for message, capacity in zip(chain, [*capacities, 50_000], strict=False)]
    order = data.draw(st.lists(st.integers(0, len(chain) - 1), max_size=8))
    assert core.coded(values, k, dtype, [pulls[i] for i in order]) == (Status.OK, [chain[i] for i in order])


@settings(max_examples=30)
@given(case=deltas(), capacity=st.integers(SMALLEST, 400), key=st.tuples(*[st.integers(0, 2**32 - 1)] * 3))
def test_other_selections_are_coded_alike(
    core: Core, case: tuple[Floats, int], capacity: int, key: tuple[int, int, int]
) -> None:
    values, k = case
    seed, client, round = key
    messages = core.whole_coded(values, k, Dtype.I8, capacity, selection=Selection.RANDOM, key=key)
    draw = partial(delta.select_random, seed=seed, client=client, round=round)
    assert messages == coded_delta.encode(values, k, Dtype.I8, capacity, select=draw)
    values, k = np.resize(values, max(3, values.size)), max(3, k)
    ends = (1, 2, values.size)
    messages = core.whole_coded(values, k, Dtype.I8, capacity, selection=Selection.LAYER, layer_ends=ends)
    by_layer = partial(delta.select_by_layer, layer_ends=ends)
    assert messages == coded_delta.encode(values, k, Dtype.I8, capacity, select=by_layer)


@pytest.mark.parametrize(
    ("values", "coding", "data"),
    [
        # index 0 in 3 bytes, gaps 0 (a run); least magnitude 127 in 7 bits, then a sign each
        ([1.0, -1.0, 1.0], ValueCoding.SIGNS, "0" * 24 + "1111111" "010" "000000"),
        ([0.0, 0.0], ValueCoding.SIGNS, "0" * 24 + "0000000" "0"),
        # levels 127 and -126: least 126, then 1 above it in unary with a sign, and 0 above it with a sign
        ([127.0, -126.0], ValueCoding.RICE_0, "0" * 24 + "0111111" "100" "01" "0000"),
        # levels 127, 0 and 1: least 0, 24 ones, 127 in 7 bits and a sign; a bit for each zero, which has no sign; ones
        ([127.0] + [0.0] * 20 + [1.0] * 22, ValueCoding.RICE_0, "0" * 31 + "1" * 31 + "0" * 21 + "100" * 22 + "000"),
        # levels 127 and 0: least 0; 126 >> 6 and one more one, the low bits of 126 and a sign; then a bit for each zero
        ([127.0] + [0.0] * 42, ValueCoding.APART_6, "0" * 31 + "110" "011111" "0" + "0" * 47),
        ([127.0, -1.0], ValueCoding.PACKED, "0" * 24 + "11111110" "11111111"),
    ],
)  # fmt: skip
def test_the_wire_form_is_what_the_header_says(core: Core, values: list[float], coding: ValueCoding, data: str) -> None:
    (message,) = core.whole_coded(np.array(values, np.float32), len(values), Dtype.I8, 100)
    assert (message.rank, message.count, message.indices, message.values) == (0, len(values), Coding.RUN, coding)
    assert "".join(f"{byte:08b}"[::-1] for byte in message.data) == data


@pytest.mark.parametrize("n", [16, 120, 3000])
def test_coded_values_never_take_more_bits_than_packed_ones(core: Core, n: int) -> None:
    rng = np.random.default_rng(n)
    for values in (rng.standard_normal(n), rng.uniform(-1, 1, n), rng.integers(-1, 2, n), rng.standard_normal(n) ** 9):
        (coded,) = core.whole_coded(values.astype(np.float32), n, Dtype.I8, 50_000)
        assert len(coded.data) <= 3 + n  # the first index in 3 bytes


def test_pulls_that_cannot_be_answered_are_refused(core: Core) -> None:
    values = np.arange(1, 101, dtype=np.float32)
    _, outcomes = core.coded(values, 10, Dtype.F32, [(0, 6), (NEXT, 7), (9, 2), (9, 7)])
    assert outcomes[0] == outcomes[2] == Status.TOO_LARGE
    assert isinstance(outcomes[1], CodedDelta) and outcomes[1].count == 1
    assert isinstance(outcomes[3], CodedDelta) and outcomes[3].rank == 9
