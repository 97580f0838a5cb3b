"""The code of the indices in an update's messages; same bits as firmware/core/delta_codec.hpp.

Indices are a bit string, LSB first, padded with zeros to a byte. A gap is an index minus the lowest possible one: the previous
index + 1, or that of a message's first entry. The codings of a gap:

- Rice with parameter r: ``gap >> r`` ones, a zero, then the r low bits. If ``gap >> r`` is RICE_ESCAPE or more: RICE_ESCAPE
  ones, then the gap in RICE_RAW_BITS bits.
- Bitmap: one bit per index, from base to the chunk's last entry.
- Run: no bits, all gaps are 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import RICE_CODINGS, RICE_ESCAPE, RICE_RAW_BITS, Coding

from . import rice

Indices = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]


class DeltaError(Error):
    """A delta that cannot be encoded, or chunks that are no valid delta."""


def index_bits(coding: Coding, gaps: Indices) -> Indices:
    """Bits that each gap takes in a coding."""
    if coding == Coding.RUN:
        return np.zeros_like(gaps)
    if coding == Coding.BITMAP:
        return gaps + 1
    quotients = gaps >> coding
    return np.where(quotients < RICE_ESCAPE, quotients + 1 + coding, RICE_ESCAPE + RICE_RAW_BITS)


def best_coding(gaps: Indices) -> Coding:
    """The coding that takes the fewest bits; ties go to the lowest Rice parameter, then to the bitmap."""
    if not gaps.any():
        return Coding.RUN
    # Beyond the bits of the longest gap, each further parameter takes a bit more per gap.
    worthwhile = RICE_CODINGS[: int(gaps.max()).bit_length() + 1]
    return min((*worthwhile, Coding.BITMAP), key=lambda coding: int(index_bits(coding, gaps).sum()))


def gaps_of(indices: Indices) -> Indices:
    """The gap before each index of an update; that of the first one is 0."""
    return np.diff(indices, prepend=indices[0] - 1) - 1


def gap_bits(coding: Coding, gaps: Indices) -> Bits:
    """The bits of gaps in a coding, one per element."""
    lengths = index_bits(coding, gaps)
    starts = np.cumsum(lengths) - lengths
    bits = np.zeros(int(lengths.sum()), dtype=np.uint8)
    if coding == Coding.BITMAP:
        bits[starts + gaps] = 1
    elif coding != Coding.RUN:
        quotients = gaps >> coding
        escaped = quotients >= RICE_ESCAPE
        ones = np.where(escaped, RICE_ESCAPE, quotients)
        rice.put_ones(bits, starts, ones)
        rice.put(bits, (starts + ones + 1)[~escaped], gaps[~escaped], coding)
        rice.put(bits, (starts + ones)[escaped], gaps[escaped], RICE_RAW_BITS)
    return bits


def read_gaps(bits: Bits, coding: Coding, count: int, where: str) -> tuple[Indices, int]:
    """The ``count`` indices of a message whose first gap is 0, relative to the first one, and how many bits they take.

    Raises:
        DeltaError: There are fewer, the first gap is another one, or a gap has more bits than it needs.
    """
    if coding == Coding.RUN:
        return np.arange(count), 0
    if coding == Coding.BITMAP:
        offsets = np.flatnonzero(bits)[:count]
        if offsets.size != count:
            raise DeltaError(f"{where}: its index bits end before {count} entries")
        end = int(offsets[-1]) + 1
    else:
        gaps, end = rice_gaps(bits, coding, count, where)
        offsets = np.cumsum(gaps + 1) - 1
        if int(index_bits(coding, gaps).sum()) != end:
            raise DeltaError(f"{where}: a gap in more bits than it needs")
    if offsets[0] != 0:
        raise DeltaError(f"{where}: its first gap is {offsets[0]}, expected 0")
    return offsets, end


def packed(bits: Bits) -> bytes:
    """Bits as bytes, LSB first, padded with zeros."""
    return np.packbits(bits, bitorder="little").tobytes()


def rice_gaps(bits: Bits, r: int, count: int, where: str) -> tuple[Indices, int]:
    """The gaps at the beginning of some bits and the number of bits they take. Raises DeltaError if there are fewer.

    First computes, for every bit at once, where a code that begins there would end; then follows the codes from the start.
    """
    ones = rice.ones_from(bits, RICE_ESCAPE)
    lengths = np.where(ones == RICE_ESCAPE, RICE_ESCAPE + RICE_RAW_BITS, ones + 1 + r)
    start, end = rice.follow(
        np.arange(bits.size) + lengths, count, lambda: DeltaError(f"{where}: its index bits end before {count} entries")
    )
    ones = ones[start]
    raw = ones == RICE_ESCAPE
    gaps = np.where(raw, 0, ones << r)
    gaps[~raw] += rice.get(bits, (start + ones + 1)[~raw], r)
    gaps[raw] += rice.get(bits, (start + ones)[raw], RICE_RAW_BITS)
    return gaps, end
