"""Reshape: the same memory with another shape; no code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import Field

from .layer import LayerSpec
from .op import Op, OpError, Shape


class ReshapeSpec(LayerSpec):
    """The numbers of the layer before, in the same order, as a tensor of another ``shape``."""

    shape: Annotated[tuple[Annotated[int, Field(ge=1, le=1_048_576)], ...], Field(min_length=1, max_length=3, strict=False)]


@dataclass(frozen=True)
class Reshape(Op):
    """The same numbers with another shape; the last index varies fastest."""

    kind: ClassVar[str] = "reshape"
    spec: ClassVar[type[LayerSpec]] = ReshapeSpec
    is_view: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: ReshapeSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op. Raises OpError where the new shape has another number of values."""
        if math.prod(spec.shape) != math.prod(input_shape):
            raise OpError(
                f"shape = {list(spec.shape)} has {math.prod(spec.shape)} values, the layer before gives {list(input_shape)}: "
                f"{math.prod(input_shape)}"
            )
        return cls(name, input_shape, spec.shape)
