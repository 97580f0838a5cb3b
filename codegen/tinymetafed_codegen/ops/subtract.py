"""Subtract: the layer before minus a named earlier layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from .layer import LayerSpec
from .merge import Derivative, Merge, MergeSpec
from .op import OpError, Shape
from .scale import Scale


class SubtractSpec(MergeSpec):
    """The layer before this one minus the layer named in ``with``."""


@dataclass(frozen=True)
class Subtract(Merge):
    """y = x - other."""

    kind: ClassVar[str] = "subtract"
    spec: ClassVar[type[LayerSpec]] = SubtractSpec
    header: ClassVar[str] = "subtract.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (60,)
    in_place: ClassVar[bool] = True

    @classmethod
    def of(cls, spec: SubtractSpec, name: str, input_shape: Shape, other: str, other_shape: Shape) -> Self:
        """Makes the op. Raises OpError where the shapes differ or more than one layer is named."""
        if len(spec.with_) > 1:
            raise OpError(f"with = {list(spec.with_)}: subtract takes one layer; use a subtract for each")
        return super().of(spec, name, input_shape, other, other_shape)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return f"kernels::Subtract</*size=*/{math.prod(self.input_shape)}>"

    def derivatives(self) -> tuple[Derivative, Derivative]:
        """dy and -dy."""
        return Derivative(), Derivative(Scale("", self.output_shape, self.output_shape, factor=-1.0))
