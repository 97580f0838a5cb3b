"""Weights in messages with levels, as firmware/core/levels/level_load.hpp reads them.

A message has the scale of each tensor whose first weight is in it, and then the levels of its weights: packed, padded with
zeros to whole bytes, or in a range code. Of the two codings, it has the one with more weights, of equal ones that with fewer
bytes, of equals packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.messages.level_format import LevelFormat
from tinymetafed_codegen.optional_messages.level_messages import LevelCoding, LoadLevels

from .downlink import Segment
from .level_update import packed_levels
from .range_code import Encoder, LevelCode

MAX_WEIGHTS = 0xFFFF  # of a message
ANY_TOKEN = 1
_SCALE_BYTES = 4


@dataclass(frozen=True, eq=False)
class LeveledWeights:
    """All global weights: ``levels`` int8[n]; ``firsts`` the index of each tensor's first weight; ``scales`` float32."""

    format: LevelFormat
    levels: npt.NDArray[np.int8]
    firsts: npt.NDArray[np.int64]
    scales: npt.NDArray[np.float32]

    @classmethod
    def of(cls, segments: Sequence[Segment], levels: LevelFormat) -> Self:
        """The weights of ``segments``, one for each tensor."""
        return cls(
            levels,
            np.frombuffer(b"".join(segment.data for segment in segments), dtype=np.int8),
            np.array([segment.offset for segment in segments], dtype=np.int64),
            np.array([segment.scale for segment in segments], dtype="<f4"),
        )

    def messages(self, capacity: int) -> list[LoadLevels]:
        """All messages, of at most ``capacity`` bytes of data each, for any token."""
        made, offset = [], 0
        while offset < self.levels.size:
            message, offset = self.message(ANY_TOKEN, offset, capacity)
            made.append(message)
        return made

    def message(self, token: int, offset: int, capacity: int) -> tuple[LoadLevels, int]:
        """The message that starts at weight ``offset``.

        Args:
            token: Token of the device's cycle.
            offset: Index of its first weight.
            capacity: Most bytes of its data.

        Returns:
            The message, with as many weights as fit, and the index of the weight after them.

        Raises:
            ValueError: Not one weight fits.
        """
        some = self.levels[offset : offset + MAX_WEIGHTS].astype(np.int64)
        ends = offset + np.arange(1, some.size + 1)
        heads = _SCALE_BYTES * (np.searchsorted(self.firsts, ends, side="left") - int(np.searchsorted(self.firsts, offset)))
        sizes = heads + (self.format.bits * np.arange(1, some.size + 1) + 7) // 8
        count = int(np.searchsorted(sizes, capacity, side="right"))
        coding = LevelCoding.PACKED
        if self.format.is_ranged:
            ranged = heads + np.array(_range_code(some, self.format.bits, capacity)[1], dtype=np.int64)
            fitting = int(np.searchsorted(ranged, capacity, side="right"))
            if fitting > count or (fitting == count > 0 and ranged[count - 1] < sizes[count - 1]):
                count, coding = fitting, LevelCoding.RANGE
        if not count:
            raise ValueError(f"{capacity} bytes do not hold weight {offset} with its scale")
        chosen, bits = some[:count], self.format.bits
        data = _range_code(chosen, bits, capacity)[0] if coding == LevelCoding.RANGE else packed_levels(chosen, bits)
        begin = int(np.searchsorted(self.firsts, offset))
        scales = self.scales[begin : begin + int(heads[count - 1]) // _SCALE_BYTES].tobytes()
        return LoadLevels(token, offset, count, coding, scales + data), offset + count


def _range_code(numbers: npt.NDArray[np.int64], bits: int, most: int) -> tuple[bytes, list[int]]:
    """The range code of levels, and the bytes that it takes if it ends after each of them; beyond ``most`` none are counted."""
    coder, code = Encoder(), LevelCode(bits)
    ends = [most + 1] * numbers.size
    for at, number in enumerate(numbers.tolist()):
        code.code(coder, number)
        if coder.size > most:
            break
        ends[at] = coder.size
    return coder.finish(), ends
