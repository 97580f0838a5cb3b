"""Add in integer arithmetic: the sum of two int8 tensors, each with its own scale and zero point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator

from .int8 import HIGHEST, LOWEST, Factor, Int8Op, Int8OutputSpec, cpp_limits
from .layer import LayerSpec
from .merge import Merge, MergeSpec
from .op import OpError, Shape


class AddInt8Spec(MergeSpec, Int8OutputSpec):
    """The sum of the layer before and the layer named in ``with``.

    ``factors``: that of the first tensor, that of the second, and that of their sum, as TensorFlow Lite chooses them.
    """

    factors: Annotated[tuple[Factor, Factor, Factor], Field(strict=False)]

    @field_validator("with_")
    @classmethod
    def _single(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(names) != 1:
            raise ValueError("expected the name of one layer")
        return names


@dataclass(frozen=True)
class AddInt8(Int8Op, Merge):
    """The sum of x and the output of layer ``other``."""

    factors: tuple[tuple[int, int], ...] = ()
    limits: tuple[int, int] = (LOWEST, HIGHEST)

    kind: ClassVar[str] = "add_int8"
    spec: ClassVar[type[LayerSpec]] = AddInt8Spec
    header: ClassVar[str] = "add_int8.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (200,)
    in_place: ClassVar[bool] = True

    @classmethod
    def of(cls, spec: Any, name: str, input_shape: Shape, other: str, other_shape: Shape) -> Self:
        """Makes the op that reads ``other``. Raises OpError where the two shapes differ."""
        if other_shape != input_shape:
            raise OpError(f"add_int8 expects two equal shapes, not {list(input_shape)} and {list(other_shape)} of '{other}'")
        return cls(
            name,
            input_shape,
            input_shape,
            zero_point=spec.zero_point,
            other=other,
            factors=spec.factors,
            limits=spec.range,
        )

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        factors = ", ".join(f"kernels::Factor<{multiplier}, {shift}>" for multiplier, shift in self.factors)
        return (
            f"kernels::AddInt8</*size=*/{math.prod(self.input_shape)}, {self.cpp_zero_points()}, {factors}, "
            f"{cpp_limits(self.limits)}>"
        )
