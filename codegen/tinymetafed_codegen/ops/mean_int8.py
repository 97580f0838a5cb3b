"""The mean of each channel over all pixels in integer arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from .int8 import Factor, Int8, Int8Op
from .layer import LayerSpec
from .op import OpError, Shape


class MeanInt8Spec(LayerSpec):
    """The sum of each channel times ``factor``, which includes the division by the number of pixels, plus ``zero_point``."""

    zero_point: Int8
    factor: Factor


@dataclass(frozen=True)
class MeanInt8(Int8Op):
    """One value per channel."""

    factor: tuple[int, int] = (0, 0)

    kind: ClassVar[str] = "mean_int8"
    spec: ClassVar[type[LayerSpec]] = MeanInt8Spec
    header: ClassVar[str] = "mean_int8.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (120,)

    @classmethod
    def build(cls, spec: MeanInt8Spec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an image or a sequence. Raises OpError for a vector."""
        if len(input_shape) < 2:
            raise OpError(f"{cls.kind} expects an image or a sequence, not {list(input_shape)}")
        return cls(name, input_shape, input_shape[-1:], zero_point=spec.zero_point, factor=spec.factor)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        channels, (multiplier, shift) = self.input_shape[-1], self.factor
        return (
            f"kernels::GlobalMeanInt8</*pixels=*/{math.prod(self.input_shape) // channels}, /*channels=*/{channels}, "
            f"{self.cpp_zero_points()}, /*multiplier=*/{multiplier}, /*shift=*/{shift}>"
        )
