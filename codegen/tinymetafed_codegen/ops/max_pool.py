"""Max pooling over [height, width, channels]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .layer import LayerSpec
from .pool import Pool, PoolSpec


class MaxPoolSpec(PoolSpec):
    """The largest value of each window over [height, width, channels]."""


@dataclass(frozen=True)
class MaxPool(Pool):
    """The largest value of each window."""

    kind: ClassVar[str] = "max_pool"
    spec: ClassVar[type[LayerSpec]] = MaxPoolSpec
    header: ClassVar[str] = "max_pool.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (700, 660)
    further_bytes: ClassVar[tuple[int, ...]] = (1_320, 1_000)
    template: ClassVar[str] = "max_pool.hpp.j2"
    cpp_template: ClassVar[str] = "MaxPool"

    @property
    def tiles_channels(self) -> bool:
        """Whether channels are computed a tile at a time: not in larger windows, whose code is long."""
        return self.rows.size * self.columns.size <= 4

    def mask_floats(self, masks_input: bool) -> int:
        """The number of the largest pixel of each window, counted from 1, or 0 for none, in bits that divide a float's 32."""
        pixels = self.rows.size * self.columns.size
        bits = next(bits for bits in (1, 2, 4, 8, 32) if pixels < 1 << bits)
        return -(-math.prod(self.output_shape) * bits // 32)
