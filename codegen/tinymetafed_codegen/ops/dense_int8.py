"""Dense layer in integer arithmetic, kernel [units, inputs]; the layout of TensorFlow Lite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import Field

from .int8 import HIGHEST, LOWEST, Int8Op, Int8OutputSpec, cpp_limits, weights
from .layer import LayerSpec
from .op import OpError, Shape


class DenseInt8Spec(Int8OutputSpec):
    """Fully connected layer over an int8 vector."""

    units: Annotated[int, Field(ge=1, le=65_536)]


@dataclass(frozen=True)
class DenseInt8(Int8Op):
    """Fully connected layer; each unit's scale has 53 bits, as TensorFlow Lite's reference kernel computes in doubles."""

    limits: tuple[int, int] = (LOWEST, HIGHEST)

    kind: ClassVar[str] = "dense_int8"
    spec: ClassVar[type[LayerSpec]] = DenseInt8Spec
    header: ClassVar[str] = "dense_int8.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (560,)

    @classmethod
    def build(cls, spec: DenseInt8Spec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of shape [inputs]. Raises OpError for any other shape."""
        if len(input_shape) != 1:
            raise OpError(f"{cls.kind} expects a vector, not {list(input_shape)}; put {{ op = 'flatten' }} before it")
        constants = weights((spec.units, input_shape[0]), spec.units, input_shape[0], ("scale_high", "scale_low"))
        return cls(name, input_shape, (spec.units,), constants, zero_point=spec.zero_point, limits=spec.range)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return (
            f"kernels::DenseInt8</*inputs=*/{self.input_shape[0]}, /*units=*/{self.output_shape[0]}, "
            f"{self.cpp_zero_points()}, {cpp_limits(self.limits)}>"
        )
