"""Average pooling over [height, width, channels]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .layer import LayerSpec
from .pool import Pool, PoolSpec


class AvgPoolSpec(PoolSpec):
    """The mean of each window over [height, width, channels]; pixels outside the image do not count."""


@dataclass(frozen=True)
class AvgPool(Pool):
    """The mean of each window's pixels."""

    kind: ClassVar[str] = "avg_pool"
    spec: ClassVar[type[LayerSpec]] = AvgPoolSpec
    header: ClassVar[str] = "avg_pool.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (640, 500)
    tiled: ClassVar[bool] = True
    template: ClassVar[str] = "avg_pool.hpp.j2"
    cpp: ClassVar[str] = "AvgPool"

    def kept_numbers(self, mask: bool) -> int:
        """Those of the signs of x where a ReLU is folded into it."""
        return self.numbers_of_bits if mask else 0
