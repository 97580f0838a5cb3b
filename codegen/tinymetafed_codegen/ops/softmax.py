"""Softmax as a layer: over the last axis, as in Keras."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .elementwise import Elementwise
from .layer import LayerSpec


class SoftmaxSpec(LayerSpec):
    """e^x over the sum of e^x along the last axis."""


@dataclass(frozen=True)
class Softmax(Elementwise):
    """e^x over the sum of e^x along the last axis; no element by itself, but as little is kept and asked as for those."""

    kind: ClassVar[str] = "softmax"
    spec: ClassVar[type[LayerSpec]] = SoftmaxSpec
    header: ClassVar[str] = "softmax.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (170, 100)
    function: ClassVar[str] = "Softmax"

    def kernel(self) -> str:
        """The C++ type of its kernels."""
        *pixels, channels = self.input_shape
        return f"kernels::Softmax</*pixels=*/{math.prod(pixels)}, /*channels=*/{channels}>"
