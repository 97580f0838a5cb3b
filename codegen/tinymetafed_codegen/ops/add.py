"""Add: the sum of the layer before and named earlier layers, for residual connections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .layer import LayerSpec
from .merge import Derivative, Merge, MergeSpec


class AddSpec(MergeSpec):
    """The sum of the layer before this one and the layers named in ``with``."""


@dataclass(frozen=True)
class Add(Merge):
    """y = x + other; dy is the gradient of both."""

    kind: ClassVar[str] = "add"
    spec: ClassVar[type[LayerSpec]] = AddSpec
    header: ClassVar[str] = "add.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (60,)
    in_place: ClassVar[bool] = True

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return f"kernels::Add</*size=*/{math.prod(self.input_shape)}>"

    def derivatives(self) -> tuple[Derivative, Derivative]:
        """Both gradients are dy."""
        return Derivative(), Derivative()
