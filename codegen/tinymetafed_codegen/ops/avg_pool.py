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

    def backward_reads(self, mask: bool) -> str:
        """Nothing, but for the sign of x where a ReLU is folded into it."""
        return "x" if mask else ""
