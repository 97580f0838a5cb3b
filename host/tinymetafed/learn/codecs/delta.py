"""The delta that a device sends: selection of its entries and the chunk codec; same bits as firmware/core/delta_codec.hpp.

The indices of a chunk are a bit string, LSB first, padded with zeros to a byte; the values follow. A gap is an index minus
the lowest possible one: the previous index + 1, or ``Delta.base`` for the chunk's first entry. The codings of a gap:

- Rice with parameter r: ``gap >> r`` ones, a zero, then the r low bits. If ``gap >> r`` is RICE_ESCAPE or more: RICE_ESCAPE
  ones, then the gap in RICE_RAW_BITS bits.
- Bitmap: one bit per index, from base to the chunk's last entry.
- Run: no bits, all gaps are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import (
    MAX_PARAMETERS,
    RICE_CODINGS,
    RICE_ESCAPE,
    RICE_RAW_BITS,
    WEIGHT_DTYPES,
    Coding,
    Delta,
    Dtype,
    Stream,
    WireError,
)

from .. import prng
from . import rice

Indices = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]
Bits = npt.NDArray[np.uint8]

MAX_ENTRIES = 0xFFFF  # per chunk
WIRE_TYPES: dict[Dtype, np.dtype[Any]] = {dtype: np.dtype(dtype.layout) for dtype in WEIGHT_DTYPES}
SMALLEST_NORMAL = np.float32(2.0**-126)


class DeltaError(Error):
    """A delta that cannot be encoded, or chunks that are no valid delta."""


@dataclass(frozen=True, slots=True)
class Sparse:
    """Entries of a vector: ``indices`` int64 of shape (k,), strictly increasing; ``values`` float32 of shape (k,)."""

    indices: Indices
    values: Values

    def dense(self, n: int) -> Values:
        """The whole vector, float32 of shape (n,), whose other entries are zero."""
        vector = np.zeros(n, dtype=np.float32)
        vector[self.indices] = self.values
        return vector


def select_top(delta: Values, k: int) -> Indices:
    """Top-P selection: the k entries of ``delta`` that are largest in magnitude; ties go to the lower index.

    Args:
        delta: float32[n].
        k: Number of entries.

    Returns:
        Their indices, int64[k], increasing.
    """
    return _highest(np.ascontiguousarray(delta, np.float32).view(np.uint32) & np.uint32(0x7FFFFFFF), k)


def _highest(priorities: prng.Words, k: int) -> Indices:
    if k == 0:
        return np.empty(0, dtype=np.int64)
    threshold = np.partition(priorities, priorities.size - k)[priorities.size - k]
    chosen = priorities > threshold
    chosen[np.flatnonzero(priorities == threshold)[: k - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)


def select_by_layer(delta: Values, k: int, layer_ends: Sequence[int]) -> Indices:
    """Top-P selection layer by layer: each layer sends its largest entries.

    Every layer gets one entry; the other entries are distributed in proportion to the layers' sizes.

    Args:
        delta: float32[n].
        k: Number of entries, at least one per layer.
        layer_ends: For each layer the index after its last weight.

    Returns:
        Indices of the entries, int64[k], increasing.
    """
    shares = layer_shares(k, layer_ends)
    starts = [0, *layer_ends[:-1]]
    return np.concatenate(
        [start + select_top(delta[start:end], share) for start, end, share in zip(starts, layer_ends, shares, strict=True)]
    )


def layer_shares(k: int, layer_ends: Sequence[int]) -> Indices:
    """How many of k entries ``select_by_layer`` takes from each layer, int64[layers]."""
    ends = np.array(layer_ends, dtype=np.int64)
    layers = np.arange(1, ends.size + 1)
    further = ends - layers  # weights of all layers up to each one, less the one entry that each layer gets anyway
    dealt = layers + (k - ends.size) * further // max(1, further[-1])
    shares: Indices = np.diff(dealt, prepend=0)
    return shares


def select_random(delta: Values, k: int, seed: int, client: int, round: int) -> Indices:
    """Random selection of k entries of ``delta`` (n,), which depends on seed, client and round only; int64[k], increasing."""
    words, _ = prng.draw(seed, client, round, Stream.SELECTION, np.arange(delta.size))
    return _highest(words >> np.uint32(1), k)


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


def encode(
    delta: Values,
    k: int,
    dtype: Dtype,
    capacity: int,
    *,
    token: int,
    select: Callable[[Values, int], Indices] = select_top,
) -> list[Delta]:
    """Encodes a delta into chunks, as a device does.

    Args:
        delta: float32[n].
        k: Number of entries to send.
        dtype: Dtype of the values: F32, F16 or I8.
        capacity: Most data bytes of one chunk.
        token: Token of the device's cycle.
        select: Chooses the indices of k entries of the delta.

    Returns:
        The chunks, in order of rank.

    Raises:
        DeltaError: k > n, n > MAX_PARAMETERS, another dtype, a selected value that is not finite or beyond float16, or a
            capacity that does not hold one entry.
    """
    indices = selected(delta, k, dtype, select)
    if k == 0:
        return []
    scale, wire = to_wire(delta, indices, dtype)
    gaps = gaps_of(indices)
    coding = best_coding(gaps)

    ends = np.cumsum(index_bits(coding, gaps))
    first_bits = int(index_bits(coding, np.zeros(1, dtype=np.int64))[0])
    messages = []
    rank = 0
    while rank < k:
        bits = ends[rank : rank + MAX_ENTRIES] - ends[rank] + first_bits
        sizes = (bits + 7) // 8 + wire.itemsize * np.arange(1, bits.size + 1)
        count = int(np.searchsorted(sizes, capacity, side="right"))
        if count == 0:
            raise DeltaError(f"capacity {capacity}: one entry takes {int(sizes[0])} bytes")
        chunk = gaps[rank : rank + count].copy()
        chunk[0] = 0
        data = packed(gap_bits(coding, chunk)) + wire[rank : rank + count].tobytes()
        messages.append(Delta(token, rank, count, int(indices[rank]), coding, dtype, scale, data))
        rank += count
    return messages


def selected(delta: Values, k: int, dtype: Dtype, select: Callable[[Values, int], Indices]) -> Indices:
    """The indices of the k entries of a delta that are sent, int64[k].

    Raises:
        DeltaError: k > n, n > MAX_PARAMETERS, a dtype that no delta has, or a selected value that is not finite.
    """
    if not 0 <= k <= delta.size <= MAX_PARAMETERS:
        raise DeltaError(f"k = {k} of n = {delta.size}: expected k <= n <= {MAX_PARAMETERS}")
    if dtype not in WIRE_TYPES:
        raise DeltaError(f"dtype {dtype!r}: a delta travels as F32, F16 or I8")
    indices = select(delta, k) if k else np.empty(0, dtype=np.int64)
    values = delta[indices]
    if not np.isfinite(values).all():
        raise DeltaError(f"delta: entry {int(indices[~np.isfinite(values)][0])} is not finite")
    return indices


def gaps_of(indices: Indices) -> Indices:
    """The gap before each index of an update; that of the first one is 0."""
    return np.diff(indices, prepend=indices[0] - 1) - 1


def to_wire(delta: Values, indices: Indices, dtype: Dtype) -> tuple[float, npt.NDArray[Any]]:
    """The scale and the numbers that are sent for some entries, all finite. Raises DeltaError for one beyond the dtype."""
    values = delta[indices]
    if dtype == Dtype.I8:
        return quantise(values)
    with np.errstate(over="ignore"):
        wire = values.astype(WIRE_TYPES[dtype])
    if not np.isfinite(wire).all():
        raise DeltaError(f"delta: {float(np.abs(values).max())!r} does not fit float16, which ends at 65504")
    return 0.0, wire


def quantise(values: Values, largest: int = 127) -> tuple[float, npt.NDArray[np.int8]]:
    """Quantises to whole numbers up to ``largest`` with one scale.

    Returns:
        The scale, max|v| / largest, and v / scale rounded half to even. If the scale would be subnormal: scale 0 and zeros.
    """
    scale = np.abs(values).max(initial=np.float32(0)) / np.float32(largest)
    if scale < SMALLEST_NORMAL:
        return 0.0, np.zeros(values.shape, dtype=np.int8)
    return float(scale), np.rint(values / scale).astype(np.int8)


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


def decode(chunks: Sequence[Delta], *, n: int, k: int, token: int, dtype: Dtype | None = None) -> Sparse:
    """Decodes chunks into a sparse delta.

    Args:
        chunks: In order of rank.
        n: Number of global weights.
        k: Number of entries expected.
        token: Token expected.
        dtype: Dtype that was asked for; None for any.

    Returns:
        The k entries.

    Raises:
        DeltaError: A chunk has another token, dtype or format, ranks are not consecutive up to k, indices do not increase
            strictly or reach n, a value is not finite, or bytes are left over.
    """
    indices, values = [], []
    rank, lowest = 0, 0
    for chunk in chunks:
        where = f"delta chunk at rank {chunk.rank}"
        try:
            chunk.check_fields()
        except WireError as error:
            raise DeltaError(f"{where}: {error.inside('Delta')}") from None
        if chunk.token != token:
            raise DeltaError(f"{where}: token {chunk.token}, expected {token}")
        if chunk.rank != rank:
            raise DeltaError(f"{where}: expected rank {rank}")
        if chunk.count > k - rank:
            raise DeltaError(f"{where}: {chunk.count} entries, expected 1 to {k - rank}")
        if dtype is not None and chunk.dtype != dtype:
            raise DeltaError(f"{where}: values in {chunk.dtype.name}, expected {dtype.name}")
        if (chunk.coding, chunk.dtype, chunk.scale) != (chunks[0].coding, chunks[0].dtype, chunks[0].scale):
            raise DeltaError(f"{where}: coding, dtype or scale differs from the first chunk's")
        found, numbers = _decode_chunk(chunk, where)
        if found[0] < lowest or found[-1] >= n:
            raise DeltaError(f"{where}: indices {found[0]} to {found[-1]}, expected {lowest} to {n - 1}")
        indices.append(found)
        values.append(numbers)
        rank += chunk.count
        lowest = int(found[-1]) + 1
    if rank != k:
        raise DeltaError(f"delta: {rank} entries, expected {k}")
    if k == 0:
        return Sparse(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    return Sparse(np.concatenate(indices), np.concatenate(values))


def _decode_chunk(chunk: Delta, where: str) -> tuple[Indices, Values]:
    wire_type = WIRE_TYPES[chunk.dtype]
    index_bytes = len(chunk.data) - chunk.count * wire_type.itemsize
    if index_bytes < 0:
        raise DeltaError(f"{where}: {len(chunk.data)} bytes are too few for {chunk.count} entries")
    with np.errstate(invalid="ignore"):  # a signalling NaN is refused below
        values = np.frombuffer(chunk.data, dtype=wire_type, offset=index_bytes).astype(np.float32)
    if chunk.dtype == Dtype.I8:
        if (values < -127).any():
            raise DeltaError(f"{where}: a value of -128, expected -127 to 127 in I8")
        with np.errstate(over="ignore"):  # refused below
            values *= np.float32(chunk.scale)
    if not np.isfinite(values).all():
        raise DeltaError(f"{where}: value {int(np.flatnonzero(~np.isfinite(values))[0])} is not finite")

    bits = np.unpackbits(np.frombuffer(chunk.data, dtype=np.uint8, count=index_bytes), bitorder="little")
    if chunk.coding == Coding.RUN:
        offsets, end = np.arange(chunk.count), 0
    elif chunk.coding == Coding.BITMAP:
        offsets = np.flatnonzero(bits)
        if offsets.size != chunk.count:
            raise DeltaError(f"{where}: {offsets.size} bits set for {chunk.count} entries")
        end = int(offsets[-1]) + 1
    else:
        gaps, end = rice_gaps(bits, chunk.coding, chunk.count, where)
        offsets = np.cumsum(gaps + 1) - 1
    if (end + 7) // 8 != index_bytes or bits[end:].any():
        raise DeltaError(f"{where}: {index_bytes} bytes of indices, of which {end} bits are used")
    return chunk.base + offsets, values


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
