"""The core's delta codec against the host's: the same bytes for any numbers, capacity and order of Pulls."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from core_harness import NEXT, Core
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.learn.codecs import delta as codec
from tinymetafed_codegen.protocol import MAX_PARAMETERS, Coding, Delta, Dtype, Selection, Status

Floats = npt.NDArray[np.float32]
DTYPES = (Dtype.F32, Dtype.F16, Dtype.I8)
SMALLEST = 7  # bytes: a gap of zero in 21 bits, and a float32


@st.composite
def deltas(draw: st.DrawFn) -> tuple[Floats, int]:
    """A delta and k: dense, sparse, clustered, with many ties, or special numbers; all within the range of float16."""
    n = draw(st.integers(1, 3000))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    match draw(st.sampled_from(["normal", "sparse", "clustered", "ties", "odd"])):
        case "normal":
            delta = rng.standard_normal(n) * 0.01
        case "sparse":
            delta = rng.standard_normal(n) * (rng.random(n) < 0.01)
        case "clustered":
            delta = rng.standard_normal(n) * np.repeat(rng.random(n // 50 + 1) < 0.1, 50)[:n]
        case "ties":
            delta = rng.integers(-3, 4, n) / 8
        case _:
            delta = np.array(draw(st.lists(st.floats(-65504, 65504, width=32), min_size=1, max_size=40)))
    k = draw(st.one_of(st.integers(1, delta.size), st.integers(1, max(1, delta.size // 50))))
    return delta.astype(np.float32), k


@settings(max_examples=60)
@given(case=deltas(), dtype=st.sampled_from(DTYPES), capacity=st.one_of(st.integers(SMALLEST, 60), st.integers(61, 3000)))
def test_host_and_device_give_the_same_bytes(core: Core, case: tuple[Floats, int], dtype: Dtype, capacity: int) -> None:
    delta, k = case
    messages = core.whole_delta(delta, k, dtype, capacity)
    assert messages == codec.encode(delta, k, dtype, capacity, token=0)
    assert all(len(message.data) <= capacity for message in messages)
    sparse = codec.decode(messages, n=delta.size, k=k, token=0)
    assert np.array_equal(sparse.indices, codec.select_top(delta, k))
    sent = delta[sparse.indices]
    if dtype == Dtype.F32:
        assert np.array_equal(sparse.values, sent)
    elif dtype == Dtype.F16:
        assert np.array_equal(sparse.values, sent.astype(np.float16).astype(np.float32))
    else:
        assert np.abs(sparse.values.astype(np.float64) - sent).max() <= max(messages[0].scale * 0.5001, 2.0**-119)


@settings(max_examples=60)
@given(case=deltas(), dtype=st.sampled_from(DTYPES), data=st.data())
def test_chunks_pulled_in_any_order_are_the_same(
    core: Core, case: tuple[Floats, int], dtype: Dtype, data: st.DataObject
) -> None:
    delta, k = case
    capacities = data.draw(st.lists(st.integers(SMALLEST, 400), min_size=1, max_size=8))
    _, outcomes = core.delta(delta, k, dtype, [(NEXT, capacity) for capacity in capacities] + [(NEXT, 50_000)])
    chain = [outcome for outcome in outcomes if isinstance(outcome, Delta)]
    whole = codec.decode(chain, n=delta.size, k=k, token=0)
    assert np.array_equal(whole.indices, codec.select_top(delta, k))

    pulls = [(message.rank, capacity) for message, capacity in zip(chain, [*capacities, 50_000], strict=False)]
    order = data.draw(st.lists(st.integers(0, len(chain) - 1), max_size=8))
    status, again = core.delta(delta, k, dtype, [pulls[i] for i in order])
    assert status == Status.OK
    assert again == [chain[i] for i in order]


@settings(max_examples=60)
@given(case=deltas(), dtype=st.sampled_from(DTYPES), capacity=st.integers(SMALLEST, 400), data=st.data())
def test_host_and_device_divide_k_among_layers_alike(
    core: Core, case: tuple[Floats, int], dtype: Dtype, capacity: int, data: st.DataObject
) -> None:
    delta, k = case
    delta = np.resize(delta, max(3, delta.size))
    first = data.draw(st.integers(1, delta.size - 2))
    ends = (first, data.draw(st.integers(first + 1, delta.size - 1)), delta.size)
    k = max(3, k)
    messages = core.whole_delta(delta, k, dtype, capacity, selection=Selection.LAYER, layer_ends=ends)
    select = partial(codec.select_by_layer, layer_ends=ends)
    assert messages == codec.encode(delta, k, dtype, capacity, token=0, select=select)
    indices = codec.decode(messages, n=delta.size, k=k, token=0).indices
    for start, end in pairwise((0, *ends)):
        share = np.count_nonzero((indices >= start) & (indices < end))
        even = (k - 3) * (end - start - 1) / max(1, delta.size - 3)  # beside the one entry that each layer has
        assert share >= 1 and abs(share - 1 - even) < 1
        of_layer = indices[(indices >= start) & (indices < end)]
        assert np.array_equal(of_layer, start + codec.select_top(delta[start:end], share))


@settings(max_examples=60)
@given(
    case=deltas(),
    dtype=st.sampled_from(DTYPES),
    capacity=st.integers(SMALLEST, 400),
    key=st.tuples(*[st.integers(0, 2**32 - 1)] * 3),
)
def test_host_and_device_draw_the_same_entries(
    core: Core, case: tuple[Floats, int], dtype: Dtype, capacity: int, key: tuple[int, int, int]
) -> None:
    delta, k = case
    seed, client, round = key
    messages = core.whole_delta(delta, k, dtype, capacity, selection=Selection.RANDOM, key=key)
    select = partial(codec.select_random, seed=seed, client=client, round=round)
    assert messages == codec.encode(delta, k, dtype, capacity, token=0, select=select)
    assert np.array_equal(codec.decode(messages, n=delta.size, k=k, token=0).indices, select(np.zeros_like(delta), k))


def test_every_layer_has_an_entry_to_send(core: Core) -> None:
    delta = np.arange(1, 10, dtype=np.float32)
    for k, status in ((2, Status.BAD_VALUE), (3, Status.OK)):
        assert core.delta(delta, k, Dtype.F32, [], Selection.LAYER, layer_ends=(1, 8, 9))[0] == status


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_delta_takes_several_chunks(core: Core, dtype: Dtype) -> None:
    delta = np.random.default_rng(2).standard_normal(1 << 17).astype(np.float32)
    k = 90_000  # more entries than the count of one chunk can hold
    messages = core.whole_delta(delta, k, dtype, 1 << 20)
    assert [message.count for message in messages] == [65_535, k - 65_535]
    assert messages == codec.encode(delta, k, dtype, 1 << 20, token=0)


@pytest.mark.parametrize("far", [1, 24, 10_000, MAX_PARAMETERS - 1025])
def test_gaps_up_to_the_largest_are_escaped(core: Core, far: int) -> None:
    delta = np.zeros(far + 1025, dtype=np.float32)
    delta[:1000] = delta[far + 1000 :] = 1.0
    messages = core.whole_delta(delta, 1025, Dtype.I8, 4096)
    assert messages == codec.encode(delta, 1025, Dtype.I8, 4096, token=0)
    assert np.array_equal(codec.decode(messages, n=delta.size, k=1025, token=0).dense(delta.size) != 0, delta != 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "k"), [(5000, 5000), (5000, 1), (1, 1)])
def test_a_run_takes_no_index_bits(core: Core, n: int, k: int, dtype: Dtype) -> None:
    delta = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    messages = core.whole_delta(delta, k, dtype, 999)
    assert messages == codec.encode(delta, k, dtype, 999, token=0)
    assert {message.coding for message in messages} == {int(Coding.RUN)}
    assert sum(len(message.data) for message in messages) == k * dtype.width


@pytest.mark.parametrize(("gap", "coding"), [(23, 0), (24, Coding.BITMAP), (42, Coding.BITMAP), (43, 0)])
def test_bitmap_wins_only_where_escapes_cost_more(core: Core, gap: int, coding: int) -> None:
    # Rice 0 writes gap + 1 bits too, but for an escape 44.
    delta = np.tile(np.repeat(np.array([1, 0], dtype=np.float32), [200, gap]), 5)
    messages = core.whole_delta(delta, 1000, Dtype.I8, 4096)
    assert messages[0].coding == coding
    assert messages == codec.encode(delta, 1000, Dtype.I8, 4096, token=0)


@pytest.mark.parametrize(
    ("delta", "k", "dtype", "status"),
    [
        ([1.0, np.nan], 1, Dtype.F32, Status.NOT_FINITE),
        ([np.nan, 1.0], 1, Dtype.I8, Status.NOT_FINITE),
        ([1.0, 2.0], 0, Dtype.I8, Status.BAD_VALUE),
        ([1.0, -np.inf], 1, Dtype.F16, Status.NOT_FINITE),
        ([0.0, -65520.0], 1, Dtype.F16, Status.OVERFLOW),
        ([0.0, 65519.0], 1, Dtype.F16, Status.OK),
        ([0.0, 3e38], 1, Dtype.I8, Status.OK),
        ([1.0, 2.0], 3, Dtype.F32, Status.BAD_VALUE),
        ([1.0, 2.0], 1, Dtype.U8, Status.BAD_VALUE),
        ([1.0, 2.0], 1, 200, Status.BAD_VALUE),
        ([0.0] * (MAX_PARAMETERS + 1), 1, Dtype.F32, Status.TOO_LARGE),
    ],
)
def test_freeze_refuses_and_then_has_nothing_to_pull(
    core: Core, delta: list[float], k: int, dtype: int, status: Status
) -> None:
    got, outcomes = core.delta(np.array(delta, dtype=np.float32), k, dtype, [(0, 100)])
    assert got == status
    assert (outcomes == [Status.BAD_OFFSET]) == (status != Status.OK)


def test_invalid_pulls_are_refused(core: Core) -> None:
    delta = np.arange(1, 101, dtype=np.float32)
    _, outcomes = core.delta(delta, 10, Dtype.F32, [(10, 100), (NEXT, 3), (11, 100), (9, 100), (0, 0), (9, 4)])
    assert outcomes[:3] == [Status.BAD_OFFSET, Status.TOO_LARGE, Status.BAD_OFFSET]
    assert isinstance(outcomes[3], Delta) and outcomes[3].base == 99
    assert outcomes[4] == Status.TOO_LARGE
    assert outcomes[5] == outcomes[3]


@pytest.mark.parametrize("largest", [0.0, 1e-45, 2.0**-126, 126 * 2.0**-126, 127 * 2.0**-126, 1e-36, 3.4e38])
def test_int8_at_the_ends_of_float32(core: Core, largest: float) -> None:
    delta = (np.linspace(-1, 1, 255) * largest).astype(np.float32)
    messages = core.whole_delta(delta, 255, Dtype.I8, 1000)
    assert messages == codec.encode(delta, 255, Dtype.I8, 1000, token=0)
    assert (messages[0].scale > 0) == (largest >= 127 * 2.0**-126)
    levels = np.frombuffer(messages[0].data[-255:], dtype=np.int8)
    assert levels.min() == -levels.max() == (-127 if messages[0].scale > 0 else 0)


def test_int8_rounds_halves_to_even(core: Core) -> None:
    delta = np.array([127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5], dtype=np.float32)
    message = core.whole_delta(delta, 8, Dtype.I8, 100)[0]
    assert message.scale == 1.0
    assert np.frombuffer(message.data[-8:], dtype=np.int8).tolist() == [127, 0, 2, 2, 0, -2, -2, 126]


def test_the_wire_form_is_what_the_header_says(core: Core) -> None:
    delta = np.zeros(40, dtype=np.float32)
    delta[[3, 4, 8]] = [1.0, -2.0, 0.5]
    message = core.whole_delta(delta, 3, Dtype.F32, 100)[0]
    # base 3, gaps 0 0 3; Rice 0 and Rice 1 both take 6 bits: parameter 0, written "0", "0", "1110", LSB first.
    assert (message.rank, message.count, message.base, message.coding, message.scale) == (0, 3, 3, 0, 0.0)
    assert message.data == bytes([0b011100]) + np.array([1.0, -2.0, 0.5], dtype="<f4").tobytes()
