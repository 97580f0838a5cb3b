"""Add in integer arithmetic: the sum of two int8 tensors, each with its own scale and zero point."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from .int8 import HIGHEST, LOWEST, Factor, Int8Op, Int8OutputSpec, cpp_limits
from .layer import LayerSpec, Name
from .op import Op, OpError, Shape, shape_of


class AddInt8Spec(Int8OutputSpec):
    """The sum of the layer before and the layer named in ``with``.

    ``factors``: that of the first tensor, that of the second, and that of their sum, as TensorFlow Lite chooses them.
    """

    with_: Annotated[Name, Field(alias="with")]
    factors: Annotated[tuple[Factor, Factor, Factor], Field(strict=False)]


@dataclass(frozen=True)
class AddInt8(Int8Op):
    """The sum of x and the output of layer ``other``."""

    other: str = ""
    factors: tuple[tuple[int, int], ...] = ()
    limits: tuple[int, int] = (LOWEST, HIGHEST)

    kind: ClassVar[str] = "add_int8"
    spec: ClassVar[type[LayerSpec]] = AddInt8Spec
    header: ClassVar[str] = "add_int8.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (200,)
    in_place: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: AddInt8Spec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of any shape."""
        return cls(
            name,
            input_shape,
            input_shape,
            zero_point=spec.zero_point,
            other=spec.with_,
            factors=spec.factors,
            limits=spec.range,
        )

    @classmethod
    def layer(cls, spec: Any, name: str, input_shape: Shape, below: Mapping[str, Shape]) -> list[Op]:
        """Makes the op. Raises OpError where no layer has that name or the shapes differ."""
        made = super().layer(spec, name, input_shape, below)
        first, other = made[0].input_shape, shape_of(spec.with_, "with", below)
        if other != first:
            raise OpError(f"add_int8 expects two equal shapes, not {list(first)} and {list(other)} of '{spec.with_}'")
        return made

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        factors = ", ".join(f"kernels::Factor<{multiplier}, {shift}>" for multiplier, shift in self.factors)
        return (
            f"kernels::AddInt8</*size=*/{math.prod(self.input_shape)}, {self.cpp_zero_points()}, {factors}, "
            f"{cpp_limits(self.limits)}>"
        )
