"""Updates and their sums as fields of messages: without loss, in the fewest bytes that hold them."""

from __future__ import annotations

import numpy as np

from tinymetafed_codegen.protocol import Dtype

from ..learn.codecs.delta import SMALLEST_NORMAL, WIRE_TYPES, Sparse, Values
from ..learn.codecs.index_code import Indices
from ..learn.fixed_sum import ENTRY_BITS, Integers
from .gateway_fields import FieldReader, FieldWriter, GatewayMessageError

_EVERY, _BITMAP, _LISTED = range(3)  # how the indices of entries stand in a message
_LARGEST = 127


def write_update(writer: FieldWriter, update: Sparse, n: int) -> None:
    """Appends an update of ``n`` weights; what is read back has the same bits.

    Its values are written as they came over the line where that can be seen in them: as bytes times a scale, or as float16.
    """
    indices, values = update.indices, update.values
    _write_indices(writer, indices, n)
    if (found := _scaled(values)) is not None:
        scale, bytes_ = found
        writer.number(Dtype.I8)
        writer.real(float(scale))
        writer.raw(bytes_.tobytes())
        return
    with np.errstate(over="ignore"):
        halves = values.astype("<f2")
    dtype = Dtype.F16 if _same_bits(halves.astype(np.float32), values) else Dtype.F32
    writer.number(dtype)
    writer.raw(values.astype(WIRE_TYPES[dtype]).tobytes())


def read_update(reader: FieldReader, n: int, k: int) -> Sparse:
    """The next update. Raises GatewayMessageError unless it has ``k`` finite entries at increasing indices below ``n``."""
    indices = _read_indices(reader, n, k)
    dtype = reader.number(Dtype.I8)
    scale = reader.real() if dtype == Dtype.I8 else 1.0
    values = reader.array(k, WIRE_TYPES[Dtype(dtype)].str).astype(np.float32)
    if dtype == Dtype.I8:
        with np.errstate(over="ignore"):  # refused below
            values = values * np.float32(scale)
    if not np.isfinite(values).all():
        raise GatewayMessageError("message: an update with an entry that is not finite")
    return Sparse(indices, values)


def write_sum(writer: FieldWriter, sum_: Integers) -> None:
    """Appends a sum of updates: the lowest byte of each number, then the next one of each, up to the last that any needs."""
    folded = ((sum_ << 1) ^ (sum_ >> 63)).astype("<u8")  # 0, -1, 1, -2 … as 0, 1, 2, 3 …
    planes = folded.view(np.uint8).reshape(-1, 8).T
    used = 8
    while used and not planes[used - 1].any():
        used -= 1
    writer.number(used)
    writer.raw(np.ascontiguousarray(planes[:used]).tobytes())


def read_sum(reader: FieldReader, n: int, count: int) -> Integers:
    """The next sum of ``count`` updates of ``n`` weights, int64[n]. Raises GatewayMessageError for one that cannot be."""
    used = reader.number(8)
    planes = np.zeros((8, n), np.uint8)
    planes[:used] = reader.array(used * n, "u1").reshape(used, n)
    folded = np.ascontiguousarray(planes.T).view("<u8").ravel()
    if (folded >> np.uint64(1) > count << ENTRY_BITS).any():
        raise GatewayMessageError(f"message: a sum that {count} updates cannot have")
    return (folded >> np.uint64(1)).astype(np.int64) ^ -(folded & np.uint64(1)).astype(np.int64)


def _write_indices(writer: FieldWriter, indices: Indices, n: int) -> None:
    if indices.size == n:
        writer.number(_EVERY)
        return
    width = 2 if n <= 1 << 16 else 4
    if indices.size * width < -(-n // 8):
        writer.number(_LISTED)
        writer.raw(indices.astype(f"<u{width}").tobytes())
        return
    writer.number(_BITMAP)
    chosen = np.zeros(n, np.uint8)
    chosen[indices] = 1
    writer.raw(np.packbits(chosen, bitorder="little").tobytes())


def _read_indices(reader: FieldReader, n: int, k: int) -> Indices:
    how = reader.number(_LISTED)
    if how == _EVERY:
        indices = np.arange(n)
    elif how == _LISTED:
        indices = reader.array(k, f"<u{2 if n <= 1 << 16 else 4}").astype(np.int64)
        if k and (indices[-1] >= n or (np.diff(indices) <= 0).any()):
            raise GatewayMessageError("message: the indices of an update do not increase, or are too large")
    else:
        bits = np.unpackbits(np.frombuffer(reader.raw(-(-n // 8)), np.uint8), bitorder="little")
        if bits[n:].any():
            raise GatewayMessageError(f"message: an update with an index of {n} or more")
        indices = np.flatnonzero(bits)
    if indices.size != k:
        raise GatewayMessageError(f"message: an update of {indices.size} entries, expected {k}")
    return indices


def _scaled(values: Values) -> tuple[np.float32, np.ndarray[tuple[int, ...], np.dtype[np.int8]]] | None:
    """The scale and the bytes that give just these values; None if there are none."""
    largest = np.abs(values).max(initial=np.float32(0))
    if not np.isfinite(largest) or largest < SMALLEST_NORMAL * _LARGEST:
        return None
    for levels in (_LARGEST, 7, 3, 1):  # the largest level of a delta is one of these
        near = largest / np.float32(levels)
        for scale in (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(0))):
            levels_ = np.rint(values / scale)
            if np.abs(levels_).max() <= _LARGEST and _same_bits(levels_.astype(np.int8).astype(np.float32) * scale, values):
                return scale, levels_.astype(np.int8)
    return None


def _same_bits(one: Values, other: Values) -> bool:
    return bool(np.array_equal(one.view(np.uint32), other.view(np.uint32)))
