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
    flash_bytes: ClassVar[tuple[int, ...]] = (640, 500)
    tiled: ClassVar[bool] = True
    template: ClassVar[str] = "avg_pool.hpp.j2"
    cpp_template: ClassVar[str] = "AvgPool"

    def mask_floats(self, masks_input: bool) -> int:
        """Which pixels of x are positive, where the backward applies the derivative of a ReLU below; otherwise no mask."""
        pixels = min(self.rows.size, self.rows.length) * min(self.columns.size, self.columns.length)
        return -(-math.prod(self.output_shape) * pixels // 32) if masks_input else 0
