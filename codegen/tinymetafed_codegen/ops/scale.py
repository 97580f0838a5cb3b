"""Scaling by a constant: the last step of an average and the gradient of what is subtracted; it cannot be a layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .op import Op, float_bits


@dataclass(frozen=True)
class Scale(Op):
    """y = factor x."""

    factor: float = 1.0

    kind: ClassVar[str] = "scale"
    header: ClassVar[str] = "scale.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (60, 60)
    in_place: ClassVar[bool] = True

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return f"kernels::Scale</*size=*/{math.prod(self.input_shape)}, /*factor=*/{float_bits(self.factor)}>"

    def backward_reads(self) -> str:
        """Nothing: dx is the scaled dy."""
        return ""
