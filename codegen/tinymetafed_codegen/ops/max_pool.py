"""Max pooling over [height, width, channels]."""

from __future__ import annotations

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
    flash_bytes: ClassVar[tuple[int, ...]] = (850, 400)
    tiled: ClassVar[bool] = True
    template: ClassVar[str] = "max_pool.hpp.j2"
    cpp_template: ClassVar[str] = "MaxPool"

    def mask_floats(self, masks_input: bool) -> int:
        """Which pixel of each window is the largest."""
        return self.window_mask_floats
