"""ReLU as a layer of its own; after dense or conv2d it is fused into their store and disappears."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from .base import Op, Shape


@dataclass(frozen=True)
class Relu(Op):
    """max(0, x), element by element."""

    kind: ClassVar[str] = "relu"
    template: ClassVar[str] = "elementwise.hpp.j2"

    @classmethod
    def build(cls, name: str, input_shape: Shape) -> Self:
        """Any shape."""
        return cls(name, input_shape, input_shape)

    def kernel(self) -> str:
        """The C++ type of its kernels."""
        return f"kernels::Relu</*size=*/{math.prod(self.input_shape)}>"
