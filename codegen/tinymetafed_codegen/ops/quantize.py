"""Quantize and dequantize: from float32 to int8 and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import Field

from .int8 import Int8, Int8Op
from .layer import LayerSpec
from .op import Shape, float_bits

Scale = Annotated[float, Field(ge=1e-30, le=1e30, allow_inf_nan=False)]


class QuantizeSpec(LayerSpec):
    """x / ``scale`` + ``zero_point``, rounded to int8."""

    scale: Scale
    zero_point: Int8


class DequantizeSpec(LayerSpec):
    """``scale`` * (q - zero point), in float32."""

    scale: Scale


@dataclass(frozen=True)
class Quantize(Int8Op):
    """float32 to int8; halves are rounded away from zero."""

    scale: float = 1.0

    kind: ClassVar[str] = "quantize"
    spec: ClassVar[type[LayerSpec]] = QuantizeSpec
    header: ClassVar[str] = "quantize.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (190,)
    reads_int8: ClassVar[bool] = False

    @classmethod
    def build(cls, spec: QuantizeSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of any shape."""
        return cls(name, input_shape, input_shape, zero_point=spec.zero_point, scale=spec.scale)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return (
            f"kernels::Quantize</*size=*/{math.prod(self.input_shape)}, /*scale=*/{float_bits(self.scale)}, "
            f"/*zero=*/{self.zero_point}>"
        )


@dataclass(frozen=True)
class Dequantize(Int8Op):
    """int8 to float32."""

    scale: float = 1.0

    kind: ClassVar[str] = "dequantize"
    spec: ClassVar[type[LayerSpec]] = DequantizeSpec
    header: ClassVar[str] = "quantize.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (80,)
    writes_int8: ClassVar[bool] = False

    @classmethod
    def build(cls, spec: DequantizeSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of any shape."""
        return cls(name, input_shape, input_shape, scale=spec.scale)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return (
            f"kernels::Dequantize</*size=*/{math.prod(self.input_shape)}, /*scale=*/{float_bits(self.scale)}, "
            f"/*input_zero=*/{self.input_zero_points[0]}>"
        )
