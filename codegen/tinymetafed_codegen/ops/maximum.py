"""Maximum and minimum of the layer before and named earlier layers, value by value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .layer import LayerSpec
from .merge import Derivative, Merge, MergeSpec
from .op import Op


class MaximumSpec(MergeSpec):
    """The largest value of the layer before this one and the layers named in ``with``."""


class MinimumSpec(MergeSpec):
    """The smallest value of the layer before this one and the layers named in ``with``."""


@dataclass(frozen=True)
class Maximum(Merge):
    """The larger value of x and other; of equal values that of x, which then receives the gradient."""

    kind: ClassVar[str] = "maximum"
    spec: ClassVar[type[LayerSpec]] = MaximumSpec
    header: ClassVar[str] = "maximum.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (320,)
    in_place: ClassVar[bool] = True
    cpp_template: ClassVar[str] = "Maximum"

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return f"kernels::{self.cpp_template}</*size=*/{math.prod(self.input_shape)}>"

    def mask_floats(self, masks_input: bool) -> int:
        """Whether each value is that of x."""
        return -(-math.prod(self.input_shape) // 32)

    def derivatives(self) -> tuple[Derivative, Derivative]:
        """dy where the value is that of the input, else 0."""
        shape = self.output_shape
        return Derivative(Chosen("", shape, shape, first=True), "mask"), Derivative(Chosen("", shape, shape), "mask")


@dataclass(frozen=True)
class Minimum(Maximum):
    """The smaller value of x and other; of equal values that of x, which then receives the gradient."""

    kind: ClassVar[str] = "minimum"
    spec: ClassVar[type[LayerSpec]] = MinimumSpec
    cpp_template: ClassVar[str] = "Minimum"


@dataclass(frozen=True)
class Chosen(Op):
    """The gradient of one input of a maximum or minimum: dy where the mask chose that input, else 0."""

    first: bool = False

    kind: ClassVar[str] = "chosen"
    header: ClassVar[str] = "maximum.hpp"
    template: ClassVar[str] = "merge.hpp.j2"
    flash_bytes: ClassVar[tuple[int, ...]] = (260,)
    in_place: ClassVar[bool] = True

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return f"kernels::Chosen</*size=*/{math.prod(self.input_shape)}, /*first=*/{str(self.first).lower()}>"
