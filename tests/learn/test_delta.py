"""The host's delta codec and downlink codec: round trips, refusals, and the size of index sets."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.learn.codecs import delta as codec
from tinymetafed.learn.codecs import downlink, index_code
from tinymetafed_codegen.protocol import Coding, Delta, Dtype

DTYPES = (Dtype.F32, Dtype.F16, Dtype.I8)
N, K, TOKEN = 1120, 280, 5


def sample(seed: int = 0, n: int = N) -> codec.Values:
    return (np.random.default_rng(seed).standard_normal(n) * 0.01).astype(np.float32)


def chunks(dtype: Dtype = Dtype.F32, capacity: int = 400) -> list[Delta]:
    return codec.encode(sample(), K, dtype, capacity, token=TOKEN)


def decode(messages: list[Delta]) -> codec.Sparse:
    return codec.decode(messages, n=N, k=K, token=TOKEN)


def ideal_bits(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


@pytest.mark.parametrize("n", [1120, 5888, 65536])
def test_index_sets_are_within_5_percent_of_the_information_bound(n: int) -> None:
    # Counted: the code lengths of all gaps, the first index as a gap from 0 (on the wire it is Delta.base instead),
    # before padding to bytes, mean over random sets of k = round(P n / 100) indices; against log2 C(n, k).
    rng = np.random.default_rng(n)
    for percent in range(1, 51):
        k = round(percent * n / 100)
        bits = []
        for _ in range(8 if n < 10_000 else 2):
            gaps = np.diff(np.sort(rng.permutation(n)[:k]), prepend=-1) - 1
            bits.append(int(index_code.index_bits(index_code.best_coding(gaps), gaps).sum()))
        assert np.mean(bits) <= 1.05 * ideal_bits(n, k), f"P = {percent}"


def test_data_bytes_are_the_counted_bits_and_the_values() -> None:
    (message,) = codec.encode(sample(), K, Dtype.I8, 4096, token=0)
    indices = codec.select_top(sample(), K)
    gaps = np.diff(indices, prepend=indices[0] - 1) - 1
    assert len(message.data) == -(-int(index_code.index_bits(index_code.best_coding(gaps), gaps).sum()) // 8) + K


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("capacity", [7, 8, 50, 1000])
def test_decoding_returns_the_encoded_delta(dtype: Dtype, capacity: int) -> None:
    sparse = decode(chunks(dtype, capacity))
    assert sparse.values.dtype == np.float32
    assert np.array_equal(sparse.indices, np.sort(np.argsort(-np.abs(sample()), kind="stable")[:K]))
    tolerance = {Dtype.F32: 0.0, Dtype.F16: 2e-5, Dtype.I8: np.abs(sample()).max() / 253}[dtype]
    assert np.abs(sparse.values - sample()[sparse.indices]).max() <= tolerance
    full = sparse.dense(N)
    assert np.count_nonzero(full) <= K
    assert np.array_equal(full[sparse.indices], sparse.values)


@settings(max_examples=200)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 2000), share=st.floats(0, 1), coding=st.integers(-1, 20))
def test_every_index_set_is_decoded_from_every_coding(seed: int, n: int, share: float, coding: int) -> None:
    rng = np.random.default_rng(seed)
    k = max(1, round(share * n))
    indices = np.sort(rng.permutation(n)[:k])
    gaps = np.diff(indices, prepend=indices[0] - 1) - 1
    code = Coding(coding) if coding >= 0 else Coding.BITMAP if gaps.any() else Coding.RUN
    message = Delta(
        0, 0, k, int(indices[0]), code, Dtype.I8, 1.0, index_code.packed(index_code.gap_bits(code, gaps)) + bytes(k)
    )
    assert np.array_equal(codec.decode([message], n=n, k=k, token=0).indices, indices)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "k"), [(N, N), (N, 1), (1, 1)])
def test_consecutive_indices_take_no_bits(n: int, k: int, dtype: Dtype) -> None:
    messages = codec.encode(sample(n=n), k, dtype, 400, token=TOKEN)
    assert {message.coding for message in messages} == {int(Coding.RUN)}
    assert sum(len(message.data) for message in messages) == k * dtype.width
    sparse = codec.decode(messages, n=n, k=k, token=TOKEN)
    assert np.array_equal(sparse.indices, codec.select_top(sample(n=n), k))
    longer = dataclasses.replace(messages[0], data=b"\0" + messages[0].data)
    with pytest.raises(codec.DeltaError, match="bits are used"):
        codec.decode([longer, *messages[1:]], n=n, k=k, token=TOKEN)


MUTATIONS: list[tuple[str, dict[str, Any]]] = [
    ("token", {"token": TOKEN + 1}),
    ("rank", {"rank": 1}),
    ("count = 0: expected 1 to 65535", {"count": 0}),
    ("entries", {"count": K + 1}),
    ("Delta.coding = 21: expected one of RICE_0,", {"coding": 21}),
    ("Delta.coding = 253: expected one of RICE_0,", {"coding": 253}),
    ("bits are used", {"coding": int(Coding.RUN)}),
    ("bits set", {"coding": int(Coding.BITMAP)}),
    ("Delta.dtype = 3: expected one of F32, F16, I8", {"dtype": Dtype.U8}),
    ("Delta.dtype = 77: expected", {"dtype": 77}),
    ("indices", {"base": N}),
    ("indices", {"base": 2**32 - 1}),
    ("Delta.scale = nan: expected a finite number from 0", {"scale": float("nan")}),
    ("scale", {"scale": float("inf")}),
    ("scale", {"scale": -1.0}),
]


@pytest.mark.parametrize(("fault", "change"), MUTATIONS)
def test_a_changed_field_is_refused(fault: str, change: dict[str, Any]) -> None:
    (message,) = chunks(capacity=4096)
    with pytest.raises(codec.DeltaError, match=fault):
        decode([dataclasses.replace(message, **change)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wrong_number_of_bytes_is_refused(dtype: Dtype) -> None:
    (message,) = chunks(dtype, 4096)
    for data in (
        b"",
        message.data[:K],
        message.data[:-1],
        message.data[:-4],
        message.data + b"\0",
        b"\0" + message.data,
    ):
        with pytest.raises(codec.DeltaError):
            decode([dataclasses.replace(message, data=data)])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.F16])
def test_a_value_that_is_no_number_is_refused(bad: float, dtype: Dtype) -> None:
    (message,) = chunks(dtype, 4096)
    wire = np.array([bad], dtype=codec.WIRE_TYPES[dtype]).tobytes()
    with pytest.raises(codec.DeltaError, match="value 279 is not finite"):
        decode([dataclasses.replace(message, data=message.data[: -len(wire)] + wire)])


def test_a_scale_that_gives_infinite_values_is_refused() -> None:
    (message,) = chunks(Dtype.I8, 4096)
    with np.errstate(over="ignore"), pytest.raises(codec.DeltaError, match="not finite"):
        decode([dataclasses.replace(message, scale=3e38)])


def test_padding_is_zero() -> None:
    message = Delta(0, 0, 1, 3, 0, Dtype.I8, 1.0, b"\x00\x01")
    assert codec.decode([message], n=9, k=1, token=0).indices.tolist() == [3]
    with pytest.raises(codec.DeltaError, match="bits are used"):
        codec.decode([dataclasses.replace(message, data=b"\x80\x01")], n=9, k=1, token=0)


def test_chunks_missing_repeated_swapped_or_mixed_are_refused() -> None:
    good = chunks()
    assert len(good) > 3
    decode(good)
    moved_back = dataclasses.replace(good[1], base=0)
    other = dataclasses.replace(good[1], scale=1.0)
    for bad in (
        good[:-1],
        good[1:],
        good[:1] + good[2:],
        [good[0], *good],
        [good[1], good[0], *good[2:]],
        [],
        [good[0], moved_back, *good[2:]],
        [good[0], other, *good[2:]],
        [*good, dataclasses.replace(good[0], rank=K)],
    ):
        with pytest.raises(codec.DeltaError):
            decode(bad)


@settings(max_examples=300)
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_a_delta_with_flipped_bits_is_refused_or_valid(data: st.DataObject, dtype: Dtype) -> None:
    message = chunks(dtype, 4096)[0]
    content = bytearray(message.data)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        sparse = decode([dataclasses.replace(message, data=bytes(content))])
    except codec.DeltaError:
        return
    assert sparse.indices.size == sparse.values.size == K
    assert (np.diff(sparse.indices) > 0).all() and sparse.indices[0] >= 0 and sparse.indices[-1] < N
    assert np.isfinite(sparse.values).all()


@settings(max_examples=200)
@given(data=st.binary(max_size=60), coding=st.integers(0, 255), dtype=st.integers(0, 4), count=st.integers(0, 70))
def test_random_bytes_are_refused_or_give_a_valid_delta(data: bytes, coding: int, dtype: int, count: int) -> None:
    message = Delta(0, 0, count, 0, coding, dtype, 1.0, data)
    try:
        sparse = codec.decode([message], n=1000, k=count, token=0)
    except codec.DeltaError:
        return
    assert (np.diff(sparse.indices, prepend=-1) > 0).all() and sparse.indices[-1] < 1000
    assert np.isfinite(sparse.values).all()


@pytest.mark.parametrize(
    ("values", "k", "dtype", "capacity", "fault"),
    [
        ([1.0, np.nan], 1, Dtype.F32, 100, "entry 1 is not finite"),
        ([0.0, 0.0, np.inf], 1, Dtype.I8, 100, "entry 2 is not finite"),
        ([0.0, 1e5], 1, Dtype.F16, 100, "float16"),
        ([1.0, 2.0], 3, Dtype.F32, 100, "k = 3"),
        ([1.0, 2.0], 1, Dtype.U8, 100, "dtype"),
        ([1.0, 2.0], 1, Dtype.F32, 3, "one entry takes 4 bytes"),
        ([1.0, 0.0, 2.0], 2, Dtype.F32, 4, "one entry takes 5 bytes"),
    ],
)
def test_what_cannot_be_sent_is_refused(values: list[float], k: int, dtype: Dtype, capacity: int, fault: str) -> None:
    with pytest.raises(codec.DeltaError, match=fault):
        codec.encode(np.array(values, dtype=np.float32), k, dtype, capacity, token=0)


def test_an_empty_selection_sends_no_bytes() -> None:
    assert codec.encode(sample(), 0, Dtype.F32, 100, token=0) == []
    assert codec.decode([], n=N, k=0, token=0).indices.size == 0


TENSORS = (32, 32, 1024, 0, 32)


def test_float_weights_go_down_in_one_segment() -> None:
    weights = sample()
    (exact,) = downlink.encode(weights, Dtype.F32, TENSORS)
    assert exact.data == weights.astype("<f4").tobytes()
    assert np.array_equal(downlink.decode([exact], N), weights)
    halves = downlink.encode(weights, Dtype.F16, TENSORS)
    assert np.array_equal(downlink.decode(halves, N), weights.astype(np.float16).astype(np.float32))


def test_int8_weights_have_one_scale_per_tensor() -> None:
    weights = sample()
    weights[:32] *= 100
    weights[32:64] = 0
    segments = downlink.encode(weights, Dtype.I8, TENSORS)
    assert [(segment.offset, len(segment.data)) for segment in segments] == [
        (0, 32),
        (32, 32),
        (64, 1024),
        (1088, 0),
        (1088, 32),
    ]
    arrived = downlink.decode(segments, N)
    for segment in segments:
        part = slice(segment.offset, segment.offset + len(segment.data))
        assert segment.scale == np.abs(weights[part]).max(initial=0) / np.float32(127)
        assert np.abs(arrived[part] - weights[part]).max(initial=0) <= segment.scale * 0.5001
    assert np.array_equal(downlink.decode(downlink.encode(arrived, Dtype.F32, TENSORS), N), arrived)


@pytest.mark.parametrize(
    ("at", "value", "dtype", "fault"),
    [
        (40, np.nan, Dtype.F32, "tensor 1: its weight 8, nan, is not finite"),
        (1119, -np.inf, Dtype.I8, "tensor 4: its weight 31, -inf, is not finite"),
        (64, 65520.0, Dtype.F16, "tensor 2: its weight 0, 65520.0, does not fit float16"),
    ],
)
def test_bad_weights_are_refused_by_tensor(at: int, value: float, dtype: Dtype, fault: str) -> None:
    weights = sample()
    weights[at] = value
    with pytest.raises(ValueError, match=fault):
        downlink.encode(weights, dtype, TENSORS)


def test_downlink_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="expected 1120"):
        downlink.encode(sample(), Dtype.F32, (32, 32))
    (segment,) = downlink.encode(sample(), Dtype.F32, TENSORS)
    for bad in ([], [segment, segment], [dataclasses.replace(segment, offset=1)]):
        with pytest.raises(ValueError, match="expected"):
            downlink.decode(bad, N)
    with pytest.raises(ValueError, match="F32, F16 or I8"):
        downlink.encode(sample(), Dtype.U8, TENSORS)
