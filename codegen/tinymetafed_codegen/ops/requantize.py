"""Requantize: int8 numbers with another scale and zero point, clamped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from .int8 import HIGHEST, LOWEST, Factor, Int8Op, Int8OutputSpec, cpp_limits
from .layer import LayerSpec
from .op import Shape


class RequantizeSpec(Int8OutputSpec):
    """(q - zero point of the input) times ``factor``, plus ``zero_point``; with a ``range`` also a ReLU or a ReLU6."""

    factor: Factor


@dataclass(frozen=True)
class Requantize(Int8Op):
    """The same numbers in another scale."""

    factor: tuple[int, int] = (0, 0)
    limits: tuple[int, int] = (LOWEST, HIGHEST)

    kind: ClassVar[str] = "requantize"
    spec: ClassVar[type[LayerSpec]] = RequantizeSpec
    header: ClassVar[str] = "requantize.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (120,)
    in_place: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: RequantizeSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of any shape."""
        return cls(name, input_shape, input_shape, zero_point=spec.zero_point, factor=spec.factor, limits=spec.range)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        multiplier, shift = self.factor
        return (
            f"kernels::Requantize</*size=*/{math.prod(self.input_shape)}, {self.cpp_zero_points()}, "
            f"/*multiplier=*/{multiplier}, /*shift=*/{shift}, {cpp_limits(self.limits)}>"
        )
