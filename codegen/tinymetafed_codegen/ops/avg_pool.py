"""Average pooling over [height, width, channels]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .layer import LayerSpec
from .pool import Pool, PoolSpec


class AvgPoolSpec(PoolSpec):
    """The mean of each window over [height, width, channels]; pixels outside the image are left out."""


@dataclass(frozen=True)
class AvgPool(Pool):
    """The mean of each window."""

    kind: ClassVar[str] = "avg_pool"
    spec: ClassVar[type[LayerSpec]] = AvgPoolSpec
    header: ClassVar[str] = "avg_pool.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (740, 660)
    further_bytes: ClassVar[tuple[int, ...]] = (1_060, 1_100)
    template: ClassVar[str] = "avg_pool.hpp.j2"
    cpp_template: ClassVar[str] = "AvgPool"

    @property
    def goes_further(self) -> bool:
        """Whether windows reach beyond the image, or share pixels."""
        shares = any(axis.stride < axis.size and axis.outputs > 1 for axis in (self.rows, self.columns))
        return shares or super().goes_further

    def mask_floats(self, masks_input: bool) -> int:
        """Which pixels of x are positive, where the backward applies the derivative of a ReLU below; otherwise no mask."""
        return -(-math.prod(self.input_shape) // 32) if masks_input else 0
