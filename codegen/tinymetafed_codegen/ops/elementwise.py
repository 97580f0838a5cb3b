"""The base of elementwise ops: any shape, no parameters, a derivative that follows from the output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from .op import Op, Shape


@dataclass(frozen=True)
class Elementwise(Op):
    """An activation function as a layer; ``function`` names its C++ template, whose argument is the number of elements."""

    function: ClassVar[str]
    in_place: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: Any, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of any shape."""
        return cls(name, input_shape, input_shape)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return f"kernels::{self.function}</*size=*/{math.prod(self.input_shape)}>"

    def backward_reads(self) -> str:
        """The output y: the derivative follows from it, so x may be overwritten."""
        return "y"
