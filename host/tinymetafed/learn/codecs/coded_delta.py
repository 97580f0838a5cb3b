"""The delta in messages whose values are coded; same bytes as firmware/core/coded/coded_update.hpp.

The data of a message are the index of its first entry in FIRST_INDEX_BYTES bytes, and two strings of bits, each padded with
zeros to whole bytes. The first has the gaps, as in index_code.py; that of the first entry is 0. The second has the values, as
in value_code.py; values in F32 or F16 are packed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinymetafed_codegen.optional_messages.coded_messages import FIRST_INDEX_BYTES, CodedDelta, ValueCoding
from tinymetafed_codegen.protocol import Coding, Dtype

from .delta import WIRE_TYPES, Sparse, Values, in_messages, read_in_order, select_top, selected, to_wire
from .index_code import DeltaError, Indices, best_coding, gaps_of, packed, read_gaps
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

    ends = np.cumsum(code.lengths(numbers))

    def value_bytes(rank: int, most: int) -> Indices:
        bits = code.head_bits + ends[rank : rank + most] - (ends[rank - 1] if rank else 0)
        return FIRST_INDEX_BYTES + (bits + 7) // 8

    messages = []
    for rank, count, gap_data in in_messages(gaps, coding, capacity, value_bytes):
        first = int(indices[rank]).to_bytes(FIRST_INDEX_BYTES, "little")
        data = first + gap_data + packed(code.write(numbers[rank : rank + count]))
        messages.append(CodedDelta(rank, count, coding, code.coding, dtype, finest, data))
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

    def read(message: CodedDelta, where: str) -> tuple[Indices, tuple[ValueCode, Indices]]:
        if message.dtype != dtype:
            raise DeltaError(f"{where}: values in {message.dtype.name}, expected {dtype.name}")
        if _format(message) != _format(messages[0]):
            raise DeltaError(f"{where}: codings, dtype or scale differ from the first message's")
        return _read(message, where)

    indices, besides = read_in_order(messages, n, k, "delta", read)
    if k == 0:
        return Sparse(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    codes, numbers = {code for code, _ in besides}, [values for _, values in besides]
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


def _read(message: CodedDelta, where: str) -> tuple[Indices, tuple[ValueCode, Indices]]:
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
    return int.from_bytes(first, "little") + offsets, (code, values)


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
