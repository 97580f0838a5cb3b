"""The delta in messages with levels; same bytes as firmware/core/levels/level_update.hpp.

The data of a message are the index of its first entry in FIRST_INDEX_BYTES bytes, and then its entries. Range code: for each
entry its gap (the first entry has none), and its level. Packed: a string of bits, padded with zeros to whole bytes, with the
gaps as in index_code.py (the first gap is 0), then a second string with the levels. A message uses the coding that holds more
entries; if both hold as many, the one with fewer bytes; if these are equal too, packed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinymetafed_codegen.messages.level_format import LevelFormat
from tinymetafed_codegen.optional_messages.coded_messages import FIRST_INDEX_BYTES
from tinymetafed_codegen.optional_messages.level_messages import LevelCoding, LevelDelta
from tinymetafed_codegen.protocol import Coding, Dtype

from . import rice
from .delta import MAX_ENTRIES, Sparse, Values, quantise, read_in_order, select_top, selected
from .index_code import DeltaError, Indices, best_coding, gap_bits, gaps_of, index_bits, packed, read_gaps
from .range_code import Decoder, Encoder, LevelCode, gap_code


def encode(
    delta: Values,
    k: int,
    levels: LevelFormat,
    capacity: int,
    *,
    select: Callable[[Values, int], Indices] = select_top,
    scale: float | None = None,
) -> list[LevelDelta]:
    """Encodes a delta into messages, as a device does.

    Args:
        delta: float32[n].
        k: Number of entries to send.
        levels: The format of the levels.
        capacity: Most data bytes of one message.
        select: Chooses the indices of k entries of the delta.
        scale: That of values which are multiples of it, as those of private updates; None for the finest.

    Returns:
        The messages, in order of rank.

    Raises:
        DeltaError: k > n, n > MAX_PARAMETERS, a selected value that is not finite, or a capacity that does not hold one entry.
    """
    indices = selected(delta, k, Dtype.I8, select)
    if k == 0:
        return []
    finest, wire = quantise(delta[indices], levels.largest)
    if scale is not None:
        finest, wire = scale, np.rint(delta[indices] / np.float32(scale)).astype(np.int8)
    gaps = gaps_of(indices)
    coding = best_coding(gaps)
    messages = []
    rank = 0
    while rank < k:
        message = _message(rank, indices, gaps, coding, wire.astype(np.int64), finest, levels, capacity)
        messages.append(message)
        rank += message.count
    return messages


def _message(
    rank: int,
    indices: Indices,
    gaps: Indices,
    coding: Coding,
    numbers: Indices,
    scale: float,
    levels: LevelFormat,
    capacity: int,
) -> LevelDelta:
    """The message that begins with entry ``rank``, with as many entries as fit."""
    room = capacity - FIRST_INDEX_BYTES
    some = slice(rank, rank + MAX_ENTRIES)
    chunk, sent = gaps[some].copy(), numbers[some]
    chunk[0] = 0
    sizes = (np.cumsum(index_bits(coding, chunk)) + 7) // 8 + (levels.bits * np.arange(1, chunk.size + 1) + 7) // 8
    count = int(np.searchsorted(sizes, room, side="right"))
    size = int(sizes[count - 1]) if count else 0
    if levels.is_ranged:
        ends = _range_code(chunk, sent, levels)[1]
        fitting = int(np.searchsorted(ends, room, side="right"))
        if fitting > count or (fitting == count > 0 and int(ends[count - 1]) < size):
            data = _range_code(chunk[:fitting], sent[:fitting], levels)[0]
            return LevelDelta(rank, fitting, LevelCoding.RANGE, Coding.RUN, scale, _first(indices[rank]) + data)
    if not count:
        raise DeltaError(f"capacity {capacity}: one entry takes {FIRST_INDEX_BYTES + int(sizes[0])} bytes")
    data = packed(gap_bits(coding, chunk[:count])) + packed_levels(sent[:count], levels.bits)
    return LevelDelta(rank, count, LevelCoding.PACKED, coding, scale, _first(indices[rank]) + data)


def _first(index: int) -> bytes:
    return int(index).to_bytes(FIRST_INDEX_BYTES, "little")


def packed_levels(numbers: Indices, bits: int) -> bytes:
    """Levels in ``bits`` bits each, LSB first, padded with zeros to whole bytes."""
    string = np.zeros(numbers.size * bits, dtype=np.uint8)
    rice.put(string, np.arange(numbers.size, dtype=np.int64) * bits, numbers, bits)
    return packed(string)


def _range_code(gaps: Indices, numbers: Indices, levels: LevelFormat) -> tuple[bytes, list[int]]:
    """The range code of entries, and the bytes that it takes if it ends after each of them."""
    coder, of_gaps, of_levels = Encoder(), gap_code(), LevelCode(levels.bits)
    ends = []
    for rank, (gap, number) in enumerate(zip(gaps.tolist(), numbers.tolist(), strict=True)):
        if rank:
            of_gaps.code(coder, gap)
        of_levels.code(coder, number)
        ends.append(coder.size)
    return coder.finish(), ends


def decode(messages: Sequence[LevelDelta], *, n: int, k: int, levels: LevelFormat) -> Sparse:
    """Decodes messages into a sparse delta. There is one form of each message.

    Args:
        messages: In order of rank.
        n: Number of global weights.
        k: Number of entries expected.
        levels: The format of the levels.

    Returns:
        The k entries.

    Raises:
        DeltaError: Ranks are not consecutive up to k, indices do not increase strictly or reach n, a level is beyond the
            format, the scale changes, packed gaps are not in the coding of the fewest bits, or bytes are left over.
    """

    def read(message: LevelDelta, where: str) -> tuple[Indices, Indices]:
        if message.scale != messages[0].scale:
            raise DeltaError(f"{where}: its scale differs from the first message's")
        return _read(message, levels, n, where)

    indices, numbers = read_in_order(messages, n, k, "delta", read)
    if k == 0:
        return Sparse(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    chosen, sent, scale = np.concatenate(indices), np.concatenate(numbers), messages[0].scale
    best = best_coding(gaps_of(chosen))
    if any(message.coding == LevelCoding.PACKED and message.gaps != best for message in messages):
        raise DeltaError(f"delta: gaps that are not in {best.name}, which takes the fewest bits")
    if (np.abs(sent) > levels.largest).any():
        raise DeltaError(f"delta: a level of {int(sent.min())}, expected -{levels.largest} to {levels.largest}")
    if scale == 0 and sent.any():
        raise DeltaError("delta: levels other than 0 with scale 0")
    with np.errstate(over="ignore"):  # refused below
        floats = sent.astype(np.float32) * np.float32(scale)
    if not np.isfinite(floats).all():
        raise DeltaError(f"delta: a value of {int(np.abs(sent).max())} times {scale!r} is not finite")
    return Sparse(chosen, floats)


def _read(message: LevelDelta, levels: LevelFormat, n: int, where: str) -> tuple[Indices, Indices]:
    """The indices and levels of a message."""
    data, count = message.data[FIRST_INDEX_BYTES:], message.count
    if len(message.data) < FIRST_INDEX_BYTES:
        raise DeltaError(f"{where}: its data end before the first index")
    first = int.from_bytes(message.data[:FIRST_INDEX_BYTES], "little")
    if message.coding == LevelCoding.RANGE:
        if not levels.is_ranged or message.gaps != Coding.RUN:
            raise DeltaError(f"{where}: entries in RANGE and gaps in {message.gaps.name}, which this firmware does not send")
        return _read_range_code(data, count, first, levels, n, where)
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
    offsets, end = read_gaps(bits, message.gaps, count, where)
    at = end + 7 & ~7
    used = at + levels.bits * count
    if bits.size != (used + 7 & ~7) or bits[end:at].any() or bits[used:].any():
        raise DeltaError(f"{where}: {len(data)} bytes of entries, of which {end} and {levels.bits * count} bits are used")
    raw = rice.get(bits, at + np.arange(count, dtype=np.int64) * levels.bits, levels.bits)
    return first + offsets, raw - (raw >> levels.bits - 1 << levels.bits)


def _read_range_code(data: bytes, count: int, first: int, levels: LevelFormat, n: int, where: str) -> tuple[Indices, Indices]:
    coder, of_gaps, of_levels = Decoder(data), gap_code(), LevelCode(levels.bits)
    indices, numbers, index = [], [], first
    for rank in range(count):
        if rank:
            index += of_gaps.code(coder) + 1
        if index >= n:  # no bytes make the host read more entries than there are weights
            raise DeltaError(f"{where}: index {index}, expected less than {n}")
        indices.append(index)
        numbers.append(of_levels.code(coder))
    if not coder.is_used_up:
        raise DeltaError(f"{where}: its {len(data)} bytes of entries are not a range code of {count} entries")
    return np.array(indices, dtype=np.int64), np.array(numbers, dtype=np.int64)
