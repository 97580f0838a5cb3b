"""Average pooling over [height, width, channels]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .pool import Pool


@dataclass(frozen=True)
class AvgPool(Pool):
    """The mean of each window's pixels."""

    kind: ClassVar[str] = "avg_pool"
    template: ClassVar[str] = "avg_pool.hpp.j2"
    cpp: ClassVar[str] = "AvgPool"

    @property
    def writes_dx_over_x(self) -> bool:
        """A pixel is read just before its gradient is written, where each lies under one window."""
        return self.rows.is_tiled and self.columns.is_tiled

    def backward_reads(self, mask: bool) -> str:
        """Nothing, but for the sign of x where a ReLU is folded into it."""
        return "x" if mask else ""
