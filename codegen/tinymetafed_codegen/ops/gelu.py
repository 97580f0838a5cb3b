"""GELU as a layer or an activation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from .elementwise import Elementwise
from .layer import LayerSpec
from .op import Shape


class GeluSpec(LayerSpec):
    """x times the probability that a normal random number is below x; ``approximate``: the formula with tanh."""

    approximate: bool = False


@dataclass(frozen=True)
class Gelu(Elementwise):
    """x times the normal distribution's cumulative function. Source: Hendrycks and Gimpel 2016, section 2."""

    approximate: bool = False

    kind: ClassVar[str] = "gelu"
    spec: ClassVar[type[LayerSpec]] = GeluSpec
    header: ClassVar[str] = "gelu.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (360, 420)

    @classmethod
    def build(cls, spec: GeluSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of any shape."""
        return cls(name, input_shape, input_shape, approximate=spec.approximate)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return f"kernels::Gelu{'Tanh' if self.approximate else ''}</*size=*/{math.prod(self.input_shape)}>"

    def backward_reads(self) -> str:
        """The input x: the derivative does not follow from the output."""
        return "x"
