"""Softmax over the last axis as a layer, as in Keras."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .elementwise import Elementwise
from .layer import LayerSpec


class SoftmaxSpec(LayerSpec):
    """e^x divided by the sum of e^x along the last axis."""


@dataclass(frozen=True)
class Softmax(Elementwise):
    """e^x divided by the sum of e^x along the last axis. Not elementwise, but its derivative follows from y as well."""

    kind: ClassVar[str] = "softmax"
    spec: ClassVar[type[LayerSpec]] = SoftmaxSpec
    header: ClassVar[str] = "softmax.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (170, 100)
    function: ClassVar[str] = "Softmax"

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        *pixels, channels = self.input_shape
        return f"kernels::Softmax</*pixels=*/{math.prod(pixels)}, /*channels=*/{channels}>"
