"""What ops that treat every element by itself have in common: any shape, no parameters, a derivative known from y."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from .base import Op, Shape


@dataclass(frozen=True)
class Elementwise(Op):
    """An activation function as a layer; ``function`` is its C++ template over the number of elements."""

    function: ClassVar[str]
    in_place: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: Any, name: str, input_shape: Shape) -> Self:
        """Any shape."""
        return cls(name, input_shape, input_shape)

    def kernel(self) -> str:
        """The C++ type of its kernels."""
        return f"kernels::{self.function}</*size=*/{math.prod(self.input_shape)}>"

    def backward_reads(self) -> str:
        """The output, from which each of these derivatives follows: x need not be kept."""
        return "y"
