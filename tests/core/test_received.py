"""Received weights: those written and those stored equal the numbers sent, bit for bit; invalid Loads are refused."""

from __future__ import annotations

import numpy as np
import pytest
from core_harness import TENSORS, Core
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.learn.codecs import downlink
from tinymetafed_codegen.protocol import Dtype, Status

N = sum(TENSORS)
DTYPES = (Dtype.F32, Dtype.F16, Dtype.I8)


@pytest.mark.parametrize("dtype", DTYPES)
@given(weights=st.lists(st.floats(-60000, 60000, width=32), min_size=N, max_size=N), chunk=st.integers(1, N), data=st.data())
def test_received_weights_are_stored_bit_for_bit(
    core: Core, dtype: Dtype, weights: list[float], chunk: int, data: st.DataObject
) -> None:
    segments = downlink.encode(np.array(weights, np.float32), dtype, TENSORS)
    loads = [
        (segment.offset + at // dtype.width, segment.scale, segment.data[at : at + chunk * dtype.width])
        for segment in segments
        for at in range(0, len(segment.data), chunk * dtype.width)
    ]
    again = data.draw(st.integers(0, len(loads)))
    statuses, written, kept = core.received(dtype, loads[:again] + loads)  # a round after an interrupted one
    assert set(statuses) == {Status.OK}
    expected = downlink.decode(segments, N)
    np.testing.assert_array_equal(written.view(np.uint32), expected.view(np.uint32))
    np.testing.assert_array_equal(kept.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(
    ("dtype", "loads", "status"),
    [
        (Dtype.F32, [(3, 0.0, np.array([1, np.nan], "<f4").tobytes())], Status.NOT_FINITE),
        (Dtype.F32, [(39, 0.0, np.array([-np.inf], "<f4").tobytes())], Status.NOT_FINITE),
        (Dtype.F16, [(0, 0.0, b"\0\x3c\0\x7c")], Status.NOT_FINITE),
        (Dtype.F16, [(0, 0.0, b"\1\xfe")], Status.NOT_FINITE),
        (Dtype.I8, [(0, 3e38, b"\1\2")], Status.NOT_FINITE),
        (Dtype.I8, [(0, 0.5, bytes(8))], Status.BAD_LENGTH),
        (Dtype.I8, [(7, 0.5, bytes(2))], Status.BAD_LENGTH),
        (Dtype.I8, [(6, 0.0, bytes(2))], Status.BAD_LENGTH),
        (Dtype.I8, [(0, 0.5, b"\1"), (1, 0.25, b"\1")], Status.BAD_VALUE),
        (Dtype.I8, [(0, 0.5, b"\1"), (1, -0.5, b"\1")], Status.BAD_VALUE),
        (Dtype.I8, [(0, 0.0, b"\1"), (1, -0.0, b"\1")], Status.BAD_VALUE),
        (Dtype.I8, [(8, 0.5, b"\1"), (9, 0.25, b"\1")], Status.BAD_VALUE),
    ],
    ids=str,
)
def test_a_refused_load_changes_nothing(
    core: Core, dtype: Dtype, loads: list[tuple[int, float, bytes]], status: Status
) -> None:
    before = core.received(dtype, loads[:-1])
    after = core.received(dtype, loads)
    assert after[0] == [Status.OK] * (len(loads) - 1) + [status]
    for earlier, later in zip(before[1:], after[1:], strict=True):
        np.testing.assert_array_equal(earlier, later)


def test_a_tensor_that_is_loaded_again_brings_its_own_scale(core: Core) -> None:
    statuses, written, kept = core.received(
        Dtype.I8, [(0, 0.5, b"\2\2"), (7, 4.0, b"\3"), (0, 0.25, b"\4"), (1, 0.25, b"\xff")]
    )
    assert statuses == [Status.OK] * 4
    assert kept[[0, 1, 7]].tolist() == written[[0, 1, 7]].tolist() == [1.0, -0.25, 12.0]
