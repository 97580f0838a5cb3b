"""Leaky ReLU as a layer or an activation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import Field

from .elementwise import Elementwise
from .layer import LayerSpec
from .op import Shape, float_bits


class LeakyReluSpec(LayerSpec):
    """x where x > 0, slope x elsewhere."""

    slope: Annotated[float, Field(ge=0, le=1)] = 0.2


@dataclass(frozen=True)
class LeakyRelu(Elementwise):
    """x where x > 0, slope x elsewhere."""

    slope: float = 1.0

    kind: ClassVar[str] = "leaky_relu"
    spec: ClassVar[type[LayerSpec]] = LeakyReluSpec
    header: ClassVar[str] = "leaky_relu.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (60, 60)
    function: ClassVar[str] = "LeakyRelu"

    @classmethod
    def build(cls, spec: LeakyReluSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of any shape."""
        return cls(name, input_shape, input_shape, slope=spec.slope)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return f"kernels::LeakyRelu</*size=*/{math.prod(self.input_shape)}, /*slope=*/{float_bits(self.slope)}>"
