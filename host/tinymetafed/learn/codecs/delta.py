"""The delta that a device sends: selection of its entries and the chunk codec; same bits as firmware/core/delta_codec.hpp.

The indices of a chunk come first, as in index_code.py; the values follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.optional_messages.coded_messages import CodedDelta
from tinymetafed_codegen.optional_messages.level_messages import LevelDelta
from tinymetafed_codegen.protocol import (
    MAX_PARAMETERS,
    WEIGHT_DTYPES,
    Coding,
    Delta,
    Dtype,
    Stream,
    WireError,
)

from .. import prng
from .index_code import DeltaError as DeltaError
from .index_code import Indices, best_coding, gap_bits, gaps_of, index_bits, packed, rice_gaps

Values = npt.NDArray[np.float32]
AnyDelta = TypeVar("AnyDelta", Delta, CodedDelta, LevelDelta)
Found = TypeVar("Found")

MAX_ENTRIES = 0xFFFF  # per chunk
WIRE_TYPES: dict[Dtype, np.dtype[Any]] = {dtype: np.dtype(dtype.layout) for dtype in WEIGHT_DTYPES}
SMALLEST_NORMAL = np.float32(2.0**-126)


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

    def value_bytes(rank: int, most: int) -> Indices:
        return wire.itemsize * np.arange(1, most + 1)

    return [
        Delta(token, rank, count, int(indices[rank]), coding, dtype, scale, bits + wire[rank : rank + count].tobytes())
        for rank, count, bits in in_messages(gaps, coding, capacity, value_bytes)
    ]


def in_messages(
    gaps: Indices, coding: Coding, capacity: int, besides: Callable[[int, int], Indices]
) -> Iterator[tuple[int, int, bytes]]:
    """Splits the entries of an update into messages with as many as each holds.

    Args:
        gaps: The gap before each entry, int64[k].
        coding: Their coding.
        capacity: Most data bytes of one message.
        besides: ``besides(rank, most)`` gives the bytes that the first 1, 2, ... ``most`` entries from a rank on take besides
            their gaps, int64[most].

    Yields:
        For each message the rank of its first entry, their number, and the bytes of their gaps, of which the first is 0.

    Raises:
        DeltaError: The capacity does not hold one entry.
    """
    ends = np.cumsum(index_bits(coding, gaps))
    first_bits = int(index_bits(coding, np.zeros(1, dtype=np.int64))[0])
    rank = 0
    while rank < gaps.size:
        bits = ends[rank : rank + MAX_ENTRIES] - ends[rank] + first_bits
        sizes = (bits + 7) // 8 + besides(rank, bits.size)
        count = int(np.searchsorted(sizes, capacity, side="right"))
        if count == 0:
            raise DeltaError(f"capacity {capacity}: one entry takes {int(sizes[0])} bytes")
        chunk = gaps[rank : rank + count].copy()
        chunk[0] = 0
        yield rank, count, packed(gap_bits(coding, chunk))
        rank += count


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

    def read(chunk: Delta, where: str) -> tuple[Indices, Values]:
        if chunk.token != token:
            raise DeltaError(f"{where}: token {chunk.token}, expected {token}")
        if dtype is not None and chunk.dtype != dtype:
            raise DeltaError(f"{where}: values in {chunk.dtype.name}, expected {dtype.name}")
        if (chunk.coding, chunk.dtype, chunk.scale) != (chunks[0].coding, chunks[0].dtype, chunks[0].scale):
            raise DeltaError(f"{where}: coding, dtype or scale differs from the first chunk's")
        return _decode_chunk(chunk, where)

    indices, values = read_in_order(chunks, n, k, "delta chunk", read)
    if k == 0:
        return Sparse(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    return Sparse(np.concatenate(indices), np.concatenate(values))


def read_in_order(
    messages: Sequence[AnyDelta], n: int, k: int, what: str, read: Callable[[AnyDelta, str], tuple[Indices, Found]]
) -> tuple[list[Indices], list[Found]]:
    """Reads the messages of an update.

    Args:
        messages: In order of rank.
        n: Number of global weights.
        k: Number of entries expected.
        what: What errors call a message.
        read: Reads one, of which it gets what errors call it: its indices, and what it has besides.

    Returns:
        The indices of each message, and what ``read`` has found besides.

    Raises:
        DeltaError: A field has a value that is not permitted, ranks are not consecutive up to k, indices do not increase
            strictly or reach n, or ``read`` has raised it.
    """
    indices, besides = [], []
    rank, lowest = 0, 0
    for message in messages:
        where = f"{what} at rank {message.rank}"
        try:
            message.check_fields()
        except WireError as error:
            raise DeltaError(f"{where}: {error.inside(type(message).__name__)}") from None
        if message.rank != rank:
            raise DeltaError(f"{where}: expected rank {rank}")
        if message.count > k - rank:
            raise DeltaError(f"{where}: {message.count} entries, expected 1 to {k - rank}")
        found, more = read(message, where)
        if found[0] < lowest or found[-1] >= n:
            raise DeltaError(f"{where}: indices {found[0]} to {found[-1]}, expected {lowest} to {n - 1}")
        indices.append(found)
        besides.append(more)
        rank += message.count
        lowest = int(found[-1]) + 1
    if rank != k:
        raise DeltaError(f"delta: {rank} entries, expected {k}")
    return indices, besides


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
