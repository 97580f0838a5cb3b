"""float16 in integer code against NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from core_harness import Core

from tinymetafed_codegen.protocol import Status

EVERY_HALF = np.arange(1 << 16, dtype=np.uint16)


def expected(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """Status and bits by NumPy's conversion; bits are 0 where the status is an error."""
    with np.errstate(over="ignore", invalid="ignore"):
        halves = values.astype(np.float16)
    status = np.where(~np.isfinite(values), Status.NOT_FINITE, np.where(np.isinf(halves), Status.OVERFLOW, Status.OK))
    return status.astype(np.uint8), np.where(status == Status.OK, halves.view(np.uint16), 0).astype(np.uint16)


def test_every_half_is_read_exactly(core: Core) -> None:
    got = core.from_half(EVERY_HALF)
    want = EVERY_HALF.view(np.float16).astype(np.float32)
    numbers = ~np.isnan(want)
    assert np.array_equal(np.isnan(got), ~numbers)
    assert np.array_equal(got[numbers].view(np.uint32), want[numbers].view(np.uint32))


def test_every_half_survives_conversion_both_ways(core: Core) -> None:
    finite = EVERY_HALF[np.isfinite(EVERY_HALF.view(np.float16))]
    status, bits = core.to_half(core.from_half(finite))
    assert not status.any()
    assert np.array_equal(bits, finite)


def test_halfway_points_and_their_neighbours_round_as_in_numpy(core: Core) -> None:
    finite = EVERY_HALF[EVERY_HALF < 0x7C00].view(np.float16).astype(np.float32)
    halfway = np.append((finite[:-1] + finite[1:]) / 2, np.float32(65520))
    below, above = np.nextafter(halfway, np.float32(0)), np.nextafter(halfway, np.float32(np.inf))
    values = np.concatenate([halfway, below, above, -halfway, -below, -above]).astype(np.float32)
    for got, want in zip(core.to_half(values), expected(values), strict=True):
        assert np.array_equal(got, want)


def test_any_float_rounds_as_in_numpy(core: Core) -> None:
    values = np.random.default_rng(1).integers(0, 1 << 32, 1 << 17, dtype=np.uint32).view(np.float32)
    extremes = np.array([0.0, -0.0, 65504, 65519.996, 65520, -65520, np.inf, -np.inf, np.nan, 2**-25, 2**-24, 1e-45, 3e38])
    values = np.concatenate([values, extremes.astype(np.float32)])
    for got, want in zip(core.to_half(values), expected(values), strict=True):
        assert np.array_equal(got, want)


def test_activations_are_rounded_as_weights_on_the_wire_are(core: Core) -> None:
    finite = EVERY_HALF[EVERY_HALF < 0x7C00].view(np.float16).astype(np.float32)
    halfway = (finite[:-1] + finite[1:]) / 2
    near = [np.nextafter(halfway, np.float32(to)) for to in (0, np.inf)]
    random = np.random.default_rng(2).integers(0, 1 << 32, 1 << 17, dtype=np.uint32).view(np.float32)
    values = np.concatenate([finite, halfway, *near, random]).astype(np.float32)
    values = np.concatenate([values, -values])
    status, bits = core.to_half(values)
    fits = status == Status.OK
    want = np.where(np.isfinite(values), np.copysign(np.float32(np.inf), values), values)  # beyond the range: infinite
    want[fits] = core.from_half(bits[fits])
    got = core.rounded_to_half(values)
    numbers = ~np.isnan(values)
    assert np.array_equal(np.isnan(got), ~numbers)
    assert np.array_equal(got[numbers].view(np.uint32), want[numbers].view(np.uint32))


def test_packed_activations_lose_nothing(core: Core) -> None:
    values = EVERY_HALF.view(np.float16).astype(np.float32)
    values = values[: len(values) // 7 * 7]
    got, numbers = core.packed_and_unpacked(values), ~np.isnan(values)
    assert np.array_equal(np.isnan(got), ~numbers)
    assert np.array_equal(got[numbers].view(np.uint32), values[numbers].view(np.uint32))
