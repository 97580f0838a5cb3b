"""Add: the sum of the layer before and a named earlier layer, for residual connections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from .layer import LayerSpec
from .op import Op, OpError, Shape, shape_of


class AddSpec(LayerSpec):
    """The sum of the layer before this one and the layer named in ``with``."""

    with_: Annotated[str, Field(alias="with")]


@dataclass(frozen=True)
class Add(Op):
    """y = x + the output of layer ``other``; dy is the gradient of both."""

    other: str = ""

    kind: ClassVar[str] = "add"
    spec: ClassVar[type[LayerSpec]] = AddSpec
    header: ClassVar[str] = "add.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (60,)
    template: ClassVar[str] = "add.hpp.j2"
    in_place: ClassVar[bool] = True

    @classmethod
    def layer(cls, spec: AddSpec, name: str, input_shape: Shape, below: Mapping[str, Shape]) -> list[Op]:
        """Makes the op. Raises OpError where no layer has that name or the shapes differ."""
        other = shape_of(spec.with_, "with", below)
        if other != input_shape:
            raise OpError(f"add expects two equal shapes, not {list(input_shape)} and {list(other)} of '{spec.with_}'")
        return [cls(name, input_shape, input_shape, other=spec.with_)]

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return f"kernels::Add</*size=*/{math.prod(self.input_shape)}>"
