"""Strings of bits with Rice codes: numbers written and read many at once; the pieces of the codes of indices and of values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]  # one bit per element


def put(bits: Bits, starts: Numbers, numbers: Numbers, width: int) -> None:
    """Writes the ``width`` low bits of each number, LSB first, from its start on."""
    for bit in range(width):
        bits[starts + bit] = numbers >> bit & 1


def get(bits: Bits, starts: Numbers, width: int) -> Numbers:
    """The numbers of ``width`` bits, LSB first, that begin at these places; bits behind the end count as 0."""
    padded = np.append(bits, np.zeros(width + 1, dtype=np.uint8)).astype(np.int64)
    numbers = np.zeros(starts.size, dtype=np.int64)
    for bit in range(width):
        numbers += padded[np.minimum(starts + bit, bits.size)] << bit
    return numbers


def put_ones(bits: Bits, starts: Numbers, counts: Numbers) -> None:
    """Writes ``counts`` one bits from each start on."""
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    bits[np.repeat(starts, counts) + within] = 1


def ones_from(bits: Bits, most: int) -> Numbers:
    """For every bit, how many ones follow each other from it on, counted up to ``most``."""
    at = np.arange(bits.size)
    next_zero = np.minimum.accumulate(np.where(bits == 0, at, bits.size)[::-1])[::-1]
    found: Numbers = np.minimum(next_zero - at, most)
    return found


def follow(ends: Numbers, count: int, error: Callable[[], Exception]) -> tuple[Numbers, int]:
    """Follows ``count`` codes from bit 0 on.

    Args:
        ends: For every bit, where a code that begins there would end.
        count: Number of codes.
        error: Makes the exception for bits that end before.

    Returns:
        Where each code begins, int64[count], and where the last one ends.
    """
    size, following = ends.size, ends.tolist()
    starts = []
    end = 0
    for _ in range(count):
        if end >= size:
            break
        starts.append(end)
        end = following[end]
    if len(starts) < count or end > size:
        raise error()
    return np.array(starts, dtype=np.int64), end
