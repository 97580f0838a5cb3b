"""Radix selection against a stable sort."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from core_harness import Core
from hypothesis import example, given
from hypothesis import strategies as st

Floats = npt.NDArray[np.float32]

any_finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
few_values = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-38, 2.0, 3e38])


def check(core: Core, delta: Floats, k: int) -> None:
    magnitude = np.abs(delta)
    order = np.argsort(-magnitude, kind="stable")[:k]  # ties keep their order: lower index first
    threshold, ties, indices = core.select(delta, k)
    assert indices == sorted(order.tolist())
    kth = magnitude[order[-1]]
    assert threshold == kth.view(np.uint32)
    assert ties == k - np.count_nonzero(magnitude > kth)


@given(values=st.lists(st.one_of(any_finite, few_values), min_size=1, max_size=80), data=st.data())
@example(values=[0.0] * 9, data=None)
@example(values=[-2.5] * 9, data=None)
def test_selection_of_any_numbers_with_ties(core: Core, values: list[float], data: st.DataObject | None) -> None:
    delta = np.array(values, dtype=np.float32)
    for k in range(1, len(values) + 1) if data is None else [data.draw(st.integers(1, len(values)))]:
        check(core, delta, k)


@pytest.mark.parametrize("n", [1, 2, 255, 257, 1120, 5888, 65536])
def test_selection_of_one_all_and_many(core: Core, n: int) -> None:
    rng = np.random.default_rng(n)
    delta = (rng.standard_normal(n) * 0.01).astype(np.float32)
    coarse = np.round(delta, 2)
    for k in {1, n // 100, n // 4, n // 2, n - 1, n} - {0}:
        check(core, delta, k)
        check(core, coarse, k)
