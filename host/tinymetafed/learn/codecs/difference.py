"""What differs between two versions of the global weights, as bits that firmware/core/difference/held_version.hpp reads.

The cells of a version are the bits of each weight as it is sent, and with int8 the scale before each tensor. An entry is a cell
with other bits: the gap to it in the coding of a delta's gaps, then

- of a weight, a bit that is 1 for a step down, and the magnitude of the step - 1 in Rice code; the new bits are the old ones
  plus the step, modulo their width. A step is a unit in the last place, so a weight with a higher exponent takes fewer: the
  Rice parameter is that of the difference less the exponent of the old weight;
- of a scale, its 32 new bits.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.optional_messages.difference_messages import (
    FINGERPRINT_FACTOR,
    STEP_ESCAPE,
    Difference,
    MoreDifference,
)
from tinymetafed_codegen.protocol import RICE_ESCAPE, RICE_RAW_BITS, Coding, Dtype

from .downlink import Segment

Cells = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.uint8]
CellBits = npt.NDArray[np.uint32]

KEPT_VERSIONS = 64  # that a host remembers; a client that holds an older one gets all weights
KEPT_BYTES = 1 << 26  # that they may take together
KEPT_CODED = 8  # differences to the newest version
MAX_COUNT = 0xFFFF  # entries of a message
_SCALE_BITS = 32
_MANTISSA_BITS = {16: 10, 32: 23}  # of floats, by their width


@dataclass(frozen=True, eq=False)
class Version:
    """One version of the global weights, as devices hold it.

    ``cells``: the bits of each cell. ``scales``: numbers of the cells that are scales. ``width``: bits of a weight.
    ``fingerprint``: 8 bytes, equal for equal versions.
    """

    segments: Sequence[Segment]
    cells: CellBits
    scales: Cells
    width: int
    fingerprint: bytes

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> Version:
        """The version that ``segments``, which are all weights, bring to a device."""
        parts, scales, at = [], [], 0
        width = 8 * segments[0].dtype.width if segments else 8
        for segment in segments:
            if segment.dtype == Dtype.I8:
                parts.append(np.array([segment.scale], "<f4").view("<u4").astype(np.uint32))
                scales.append(at)
                at += 1
            parts.append(np.frombuffer(segment.data, f"<u{width // 8}").astype(np.uint32))
            at += parts[-1].size
        cells = np.concatenate(parts) if parts else np.zeros(0, np.uint32)
        return cls(segments, cells, np.array(scales, np.int64), width, _fingerprint(cells))

    @property
    def size(self) -> int:
        """Bytes of all weights on the wire, without the fields of messages; of levels packed, which no range code exceeds."""
        return sum(
            len(segment.data) if segment.levels is None else segment.levels.packed_size(len(segment.data))
            for segment in self.segments
        )


def _fingerprint(cells: CellBits) -> bytes:
    """Σ cell_i · factor^(n - i) modulo 2^64, little-endian (Karp and Rabin 1987)."""
    return int((cells.astype(np.uint64) * _powers(cells.size)).sum(dtype=np.uint64)).to_bytes(8, "little")


@lru_cache(maxsize=4)
def _powers(count: int) -> Codes:
    """The powers of the factor from ``count`` down to 1, modulo 2^64."""
    powers: Codes = np.cumprod(np.full(count, FINGERPRINT_FACTOR, np.uint64), dtype=np.uint64)[::-1]
    return powers


@dataclass(frozen=True, eq=False)
class Coded:
    """A version as what differs from another one: ``bits`` of all entries, each 0 or 1, and after how many each entry ends."""

    base: bytes
    result: bytes
    gaps: Coding
    steps: int
    bits: Bits
    ends: Cells

    @property
    def entries(self) -> int:
        """Number of cells that differ."""
        return self.ends.size

    @property
    def size(self) -> int:
        """Bytes of all entries and of the first message's fields."""
        return (self.bits.size + 7) // 8 + Difference.fixed_size()

    def message(self, token: int, rank: int, capacity: int) -> tuple[Difference | MoreDifference, int]:
        """The message that starts with entry ``rank``.

        Args:
            token: Token of the device's cycle.
            rank: Number of the entry; 0 for the message that begins.
            capacity: Most bytes of the message.

        Returns:
            The message, with as many entries as fit, and the number of the entry after them.
        """
        fields = MoreDifference.fixed_size() if rank else Difference.fixed_size()
        start = int(self.ends[rank - 1]) if rank else 0
        after = min(int(np.searchsorted(self.ends, start + 8 * (capacity - fields), side="right")), rank + MAX_COUNT)
        end = int(self.ends[after - 1]) if after else 0
        data = np.packbits(self.bits[start:end], bitorder="little").tobytes()
        if rank:
            return MoreDifference(token, rank, after - rank, data), after
        return Difference(token, self.base, self.result, self.entries, self.gaps, self.steps, after, data), after


def encode(base: Version, version: Version) -> Coded:
    """Encodes ``version`` as what differs from ``base``, of the same model."""
    changed = np.flatnonzero(base.cells != version.cells)
    old, new = base.cells[changed].astype(np.int64), version.cells[changed].astype(np.int64)
    half, modulus = 1 << (version.width - 1), 1 << version.width
    step = (new - old + half) % modulus - half
    is_scale = np.isin(changed, version.scales)
    gap = np.diff(changed, prepend=-1) - 1
    magnitude, exponent = np.abs(step) - 1, _exponents(old, version.width)
    coding = _best(gap, np.zeros_like(gap), RICE_RAW_BITS, RICE_ESCAPE, RICE_RAW_BITS)
    steps = _best(magnitude[~is_scale], exponent[~is_scale], version.width, STEP_ESCAPE, version.width)
    codes, lengths = np.zeros((changed.size, 2), np.uint64), np.zeros((changed.size, 2), np.int64)  # of gaps and of new bits
    is_run = not gap.any()
    if not is_run:
        codes[:, 0], lengths[:, 0] = _rice(gap, np.full_like(gap, coding), RICE_ESCAPE, RICE_RAW_BITS)
    code, length = _rice(magnitude, _parameters(steps, exponent, version.width), STEP_ESCAPE, version.width)
    signed = code << np.uint64(1) | (step < 0).astype(np.uint64)
    codes[:, 1] = np.where(is_scale, new.astype(np.uint64), signed)
    lengths[:, 1] = np.where(is_scale, _SCALE_BITS, length + 1)
    gaps = Coding.RUN if is_run else Coding(coding)
    bits = _bits(codes.ravel(), lengths.ravel())
    return Coded(base.fingerprint, version.fingerprint, gaps, steps, bits, lengths.sum(axis=1).cumsum())


def _exponents(cells: Cells, width: int) -> Cells:
    """The exponent fields of floats of this width; 0 for int8."""
    mantissa = _MANTISSA_BITS.get(width)
    return np.zeros_like(cells) if mantissa is None else cells >> mantissa & (1 << (width - 1 - mantissa)) - 1


def _parameters(highest: int, exponents: Cells, width: int) -> Cells:
    """The Rice parameter of each step: ``highest`` less the exponent, from 0 to the bits that a magnitude can have."""
    return np.clip(highest - exponents, 0, width - 1)


def _rice_bits(numbers: Cells, parameters: Cells, escape: int, raw_bits: int) -> Cells:
    quotients = numbers >> parameters
    return np.where(quotients < escape, quotients + 1 + parameters, escape + raw_bits)


def _best(numbers: Cells, exponents: Cells, width: int, escape: int, raw_bits: int) -> int:
    """The highest Rice parameter that takes the fewest bits, of those near the mean logarithm; the lowest among equals."""
    if not numbers.size:
        return 0
    near = int((np.log2(numbers + 1) + exponents).mean())
    return min(
        range(max(0, near - 2), near + 4),
        key=lambda highest: int(_rice_bits(numbers, _parameters(highest, exponents, width), escape, raw_bits).sum()),
    )


def _rice(numbers: Cells, parameters: Cells, escape: int, raw_bits: int) -> tuple[Codes, Cells]:
    """The Rice codes of numbers, first bit lowest, and how many bits each has."""
    quotients = numbers >> parameters
    is_coded = quotients < escape
    ones = np.minimum(quotients, escape).astype(np.uint64)
    rest = np.where(is_coded, numbers & ((1 << parameters) - 1), numbers).astype(np.uint64)
    shift = ones + is_coded.astype(np.uint64)  # the zero that ends the ones
    one = np.uint64(1)
    return (one << ones) - one | rest << shift, _rice_bits(numbers, parameters, escape, raw_bits)


def _bits(codes: Codes, lengths: Cells) -> Bits:
    """The bits of codes one after the other, the lowest of each first."""
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return (np.repeat(codes, lengths) >> within.astype(np.uint64) & np.uint64(1)).astype(np.uint8)


class Versions:
    """The versions that a host has sent of late, by their fingerprints; may be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[bytes, Version] = {}  # in the order in which they were sent last
        self._newest: Version | None = None
        self._coded: dict[bytes, Coded | None] = {}  # the newest one as a difference to others

    def __contains__(self, fingerprint: bytes) -> bool:
        """Whether the version with this fingerprint is known."""
        return fingerprint in self._kept

    def newest(self, segments: Sequence[Segment]) -> Version:
        """The version that ``segments`` are, which becomes the newest one."""
        with self._lock:
            newest = self._newest
            if newest is None or newest.segments is not segments:
                newest = Version.of(segments)
                if self._newest is None or newest.fingerprint != self._newest.fingerprint:
                    self._coded = {}
                self._newest = newest
                self._kept.pop(newest.fingerprint, None)
                self._kept[newest.fingerprint] = newest
                most = max(2, min(KEPT_VERSIONS, KEPT_BYTES // max(1, newest.size + newest.cells.nbytes)))
                while len(self._kept) > most:
                    del self._kept[next(iter(self._kept))]
            return newest

    def difference(self, held: bytes, version: Version) -> Coded | None:
        """The newest version as a difference to the one with fingerprint ``held``.

        Returns:
            None if that one is not known, or if all weights take fewer bytes.
        """
        with self._lock:
            if version is not self._newest:
                return None
            if held not in self._coded:
                base = self._kept.get(held)
                coded = None if base is None or base.cells.size != version.cells.size else encode(base, version)
                if len(self._coded) == KEPT_CODED:
                    del self._coded[next(iter(self._coded))]
                self._coded[held] = coded if coded is not None and coded.size < version.size else None
            return self._coded[held]
