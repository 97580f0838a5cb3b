"""Flatten: the same memory with another shape; no code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from .layer import LayerSpec
from .op import Op, Shape


class FlattenSpec(LayerSpec):
    """Any tensor as one vector."""


@dataclass(frozen=True)
class Flatten(Op):
    """Any tensor as one vector; the channel index varies fastest."""

    kind: ClassVar[str] = "flatten"
    spec: ClassVar[type[LayerSpec]] = FlattenSpec
    is_view: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: FlattenSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of any shape."""
        return cls(name, input_shape, (math.prod(input_shape),))
