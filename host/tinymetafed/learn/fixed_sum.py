"""Sums of updates in whole numbers, which come to the same in any order: what gateways may add up before the server does."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.errors import Error

from .codecs.delta import Sparse
from .weights import Floats

Integers = npt.NDArray[np.int64]

STEP_BITS = 16  # the largest weight is about 2^16 steps, so that rounding is far below what int8 values lose
LEAST_WEIGHT = np.float32(2.0**-6)  # a smaller largest weight makes the step no finer
ENTRY_BITS = 46  # an entry of one update has fewer bits than this
MAX_UPDATES = 1 << 16  # so that no sum leaves the range of int64


class TooLarge(Error):
    """An update with a change that the whole numbers of a round cannot hold."""


def exponent(weights: Floats) -> int:
    """The step of a round: a whole number of 1 stands for a change of 2^exponent.

    Args:
        weights: float32[n_global], finite, before the round.

    Returns:
        STEP_BITS below the exponent of the largest weight.
    """
    _, bits = np.frexp(max(LEAST_WEIGHT, np.abs(weights).max(initial=np.float32(0))))
    return int(bits) - STEP_BITS


def integers(update: Sparse, n: int, exponent: int) -> Integers:
    """Rounds an update to whole numbers of steps, ties to even; entries that it lacks are 0.

    Args:
        update: The update of one client, finite.
        n: Number of global weights.
        exponent: Of the round's step.

    Returns:
        int64[n].

    Raises:
        TooLarge: A change of 2^ENTRY_BITS steps or more.
    """
    steps = np.ldexp(update.values.astype(np.float64), -exponent)  # exact: only the exponent changes
    if (np.abs(steps) >= 2.0**ENTRY_BITS).any():
        largest, most = float(np.abs(update.values).max()), 2.0 ** (ENTRY_BITS + exponent)
        raise TooLarge(f"an update changes a weight by {largest:.3g}, and sums of a round hold less than {most:.3g}")
    whole = np.zeros(n, np.int64)
    whole[update.indices] = np.rint(steps).astype(np.int64)
    return whole


def total(updates: Iterable[Sparse], n: int, exponent: int) -> Integers:
    """The sum of updates as whole numbers of steps, int64[n]. Raises TooLarge."""
    sum_ = np.zeros(n, np.int64)
    for update in updates:
        sum_ += integers(update, n, exponent)
    return sum_


def mean(sum_: Integers, exponent: int, count: int) -> Sparse:
    """The mean of the updates in a sum, in float32, with an entry for every weight.

    Args:
        sum_: int64[n], the sum of 1 to MAX_UPDATES updates.
        exponent: Of the round's step.
        count: Number of updates.

    Returns:
        The mean. The conversion to float32 rounds once, the division once; the step is a power of two.
    """
    scaled = sum_.astype(np.float32) * np.float32(2.0**exponent)
    return Sparse(np.arange(sum_.size), scaled / np.float32(count))
