"""The delta in messages whose values are coded; same bytes as firmware/core/coded/coded_update.hpp.

The data of a message are the index of its first entry in FIRST_INDEX_BYTES bytes, and two strings of bits, each padded with
zeros to whole bytes. The first has the gaps, as in delta.py; that of the first entry is 0. The second has the values, as in
value_code.py; values in F32 or F16 are packed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinymetafed_codegen.optional_messages.coded_messages import FIRST_INDEX_BYTES, CodedDelta, ValueCoding
from tinymetafed_codegen.protocol import Coding, Dtype, WireError

from .delta import (
    MAX_ENTRIES,
    WIRE_TYPES,
    DeltaError,
    Indices,
    Sparse,
    Values,
    best_coding,
    gap_bits,
    gaps_of,
    index_bits,
    packed,
    read_gaps,
    select_top,
    selected,
    to_wire,
)
from .value_code import ValueCode, ValueCodeError


def encode(
    delta: Values,
    k: int,
    dtype: Dtype,
    capacity: int,
    *,
    select: Callable[[Values, int], Indices] = select_top,
    scale: float | None = None,
) -> list[CodedDelta]:
    """Encodes a delta into messages, as a device does.

    Args:
        delta: float32[n].
        k: Number of entries to send.
        dtype: Dtype of the values: F32, F16 or I8.
        capacity: Most data bytes of one message.
        select: Chooses the indices of k entries of the delta.
        scale: That of int8 values which are multiples of it, as those of private updates; None for the finest.

    Returns:
        The messages, in order of rank.

    Raises:
        DeltaError: k > n, n > MAX_PARAMETERS, another dtype, a selected value that is not finite or beyond float16, or a
            capacity that does not hold one entry.
    """
    indices = selected(delta, k, dtype, select)
    if k == 0:
        return []
    finest, wire = to_wire(delta, indices, dtype)
    if scale is not None and dtype == Dtype.I8:
        finest, wire = scale, np.rint(delta[indices] / np.float32(scale)).astype(np.int8)
    numbers = wire.view(f"i{wire.itemsize}").astype(np.int64)
    code = _code(numbers, dtype)
    gaps = gaps_of(indices)
    coding = best_coding(gaps)

    gap_ends, value_ends = np.cumsum(index_bits(coding, gaps)), np.cumsum(code.lengths(numbers))
    first_bits = int(index_bits(coding, np.zeros(1, dtype=np.int64))[0])
    messages = []
    rank = 0
    while rank < k:
        some = slice(rank, rank + MAX_ENTRIES)
        of_gaps = gap_ends[some] - gap_ends[rank] + first_bits
        of_values = code.head_bits + value_ends[some] - (value_ends[rank - 1] if rank else 0)
        sizes = FIRST_INDEX_BYTES + (of_gaps + 7) // 8 + (of_values + 7) // 8
        count = int(np.searchsorted(sizes, capacity, side="right"))
        if count == 0:
            raise DeltaError(f"capacity {capacity}: one entry takes {int(sizes[0])} bytes")
        chunk = gaps[rank : rank + count].copy()
        chunk[0] = 0
        data = int(indices[rank]).to_bytes(FIRST_INDEX_BYTES, "little")
        data += packed(gap_bits(coding, chunk)) + packed(code.write(numbers[rank : rank + count]))
        messages.append(CodedDelta(rank, count, coding, code.coding, dtype, finest, data))
        rank += count
    return messages


def _code(numbers: Indices, dtype: Dtype) -> ValueCode:
    """The code of the numbers that are sent for values in ``dtype``."""
    if dtype == Dtype.I8:
        return ValueCode.best(numbers, 8)
    return ValueCode(ValueCoding.PACKED, 0, 8 * dtype.width)


def decode(messages: Sequence[CodedDelta], *, n: int, k: int, dtype: Dtype) -> Sparse:
    """Decodes messages into a sparse delta. There is one form of each delta, up to where a message ends and the next begins.

    Args:
        messages: In order of rank.
        n: Number of global weights.
        k: Number of entries expected.
        dtype: Dtype that was asked for.

    Returns:
        The k entries.

    Raises:
        DeltaError: A message has another dtype or format, ranks are not consecutive up to k, indices do not increase
            strictly or reach n, a value is not finite, the coding of indices or values is not that of the fewest bits, or bits
            are left over.
    """
    indices, numbers = [], []
    codes = set[ValueCode]()
    rank, lowest = 0, 0
    for message in messages:
        where = f"delta at rank {message.rank}"
        try:
            message.check_fields()
        except WireError as error:
            raise DeltaError(f"{where}: {error.inside('CodedDelta')}") from None
        if message.rank != rank:
            raise DeltaError(f"{where}: expected rank {rank}")
        if message.count > k - rank:
            raise DeltaError(f"{where}: {message.count} entries, expected 1 to {k - rank}")
        if message.dtype != dtype:
            raise DeltaError(f"{where}: values in {message.dtype.name}, expected {dtype.name}")
        if _format(message) != _format(messages[0]):
            raise DeltaError(f"{where}: codings, dtype or scale differ from the first message's")
        found, code, values = _read(message, where)
        if found[0] < lowest or found[-1] >= n:
            raise DeltaError(f"{where}: indices {found[0]} to {found[-1]}, expected {lowest} to {n - 1}")
        indices.append(found)
        numbers.append(values)
        codes.add(code)
        rank += message.count
        lowest = int(found[-1]) + 1
    if rank != k:
        raise DeltaError(f"delta: {rank} entries, expected {k}")
    if k == 0:
        return Sparse(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    chosen, sent, first = np.concatenate(indices), np.concatenate(numbers), messages[0]
    floats = _floats(sent, first)
    best = best_coding(gaps_of(chosen))
    if first.indices != best:
        raise DeltaError(f"delta: indices in {first.indices.name}, expected {best.name}, which takes fewer bits")
    if codes != {wanted := _code(sent, dtype)}:
        raise DeltaError(f"delta: values in {first.values.name}, expected {wanted.coding.name} from {wanted.least}")
    return Sparse(chosen, floats)


def _format(message: CodedDelta) -> tuple[Coding, ValueCoding, Dtype, float]:
    return message.indices, message.values, message.dtype, message.scale


def _read(message: CodedDelta, where: str) -> tuple[Indices, ValueCode, Indices]:
    """The indices of a message, and the code and numbers of its values."""
    if len(message.data) < FIRST_INDEX_BYTES:
        raise DeltaError(f"{where}: its index bits end before {message.count} entries")
    first, rest = message.data[:FIRST_INDEX_BYTES], message.data[FIRST_INDEX_BYTES:]
    bits = np.unpackbits(np.frombuffer(rest, dtype=np.uint8), bitorder="little")
    count = message.count
    offsets, end = read_gaps(bits, message.indices, count, where)
    values_at = end + 7 & ~7
    try:
        code, values, used = ValueCode.read(bits[values_at:], count, message.values, 8 * message.dtype.width)
    except ValueCodeError as error:
        raise DeltaError(f"{where}: {error}") from None
    behind = values_at + used
    if bits[end:values_at].any() or bits[behind:].any() or bits.size != (behind + 7 & ~7):
        raise DeltaError(f"{where}: {len(message.data)} bytes, of which {end} and {used} bits are used")
    return int.from_bytes(first, "little") + offsets, code, values


def _floats(numbers: Indices, message: CodedDelta) -> Values:
    """The values of all numbers. Raises DeltaError for one that is not finite or that no device sends."""
    if message.dtype == Dtype.I8:
        if (numbers < -127).any():
            raise DeltaError("delta: a value of -128, expected -127 to 127 in I8")
        if message.scale == 0 and numbers.any():
            raise DeltaError("delta: values other than 0 with scale 0")
        with np.errstate(over="ignore"):  # refused below
            values = numbers.astype(np.float32) * np.float32(message.scale)
    else:
        wire = WIRE_TYPES[message.dtype]
        with np.errstate(invalid="ignore"):  # a signalling NaN is refused below
            values = numbers.astype(f"i{wire.itemsize}").view(wire).astype(np.float32)
    if not np.isfinite(values).all():
        raise DeltaError(f"delta: value {int(np.flatnonzero(~np.isfinite(values))[0])} is not finite")
    return values
