"""ELU and SELU as layers or activations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import Field

from .elementwise import Elementwise
from .layer import LayerSpec
from .op import Shape, float_bits


class EluSpec(LayerSpec):
    """x where x > 0, alpha (e^x - 1) elsewhere."""

    alpha: Annotated[float, Field(ge=1e-6, le=1e3)] = 1.0


class SeluSpec(LayerSpec):
    """ELU with the scale and the alpha that keep mean 0 and variance 1 (Klambauer et al. 2017)."""


@dataclass(frozen=True)
class Elu(Elementwise):
    """scale x where x > 0, scale alpha (e^x - 1) elsewhere."""

    alpha: float = 0.0
    scale: float = 1.0

    kind: ClassVar[str] = "elu"
    spec: ClassVar[type[LayerSpec]] = EluSpec
    header: ClassVar[str] = "elu.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (380, 120)

    @classmethod
    def build(cls, spec: EluSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of any shape."""
        return cls(name, input_shape, input_shape, alpha=spec.alpha)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        size, lowest = math.prod(self.input_shape), float_bits(self.scale * self.alpha)
        return f"kernels::Elu</*size=*/{size}, /*scale=*/{float_bits(self.scale)}, /*scale * alpha=*/{lowest}>"


@dataclass(frozen=True)
class Selu(Elu):
    """ELU with fixed numbers. Source: Klambauer et al. 2017, section "Constructing Self-Normalizing Neural Networks"."""

    alpha: float = 1.6732632423543772
    scale: float = 1.0507009873554805

    kind: ClassVar[str] = "selu"
    spec: ClassVar[type[LayerSpec]] = SeluSpec

    @classmethod
    def build(cls, spec: SeluSpec, name: str, input_shape: Shape) -> Self:  # type: ignore[override]
        """Makes the op for an input of any shape."""
        return cls(name, input_shape, input_shape)
