"""Sliding windows: how many outputs a kernel or a pool has along an axis, and the padding before the first, as in Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field

from .base import OpError

Extent = Annotated[int, Field(ge=1, le=64)]
# One number for both axes, or [height, width].
Pair = Annotated[
    tuple[Extent, Extent],
    Field(strict=False),
    BeforeValidator(lambda given: (given, given) if isinstance(given, int) else given),
]
Padding = Literal["same", "valid"]


@dataclass(frozen=True)
class Axis:
    """``length`` inputs seen through a window of ``size`` that moves by ``stride`` and begins ``pad`` before the first."""

    length: int
    outputs: int
    size: int
    stride: int
    pad: int

    @classmethod
    def build(cls, length: int, size: int, stride: int, padding: str) -> Self:
        """'same' pads as Keras does, more after than before. Raises OpError."""
        if padding == "same":
            outputs = -(-length // stride)
            return cls(length, outputs, size, stride, max((outputs - 1) * stride + size - length, 0) // 2)
        if size > length:
            raise OpError(f"a window of {size} does not fit into {length} without padding; use padding = 'same'")
        return cls(length, (length - size) // stride + 1, size, stride, 0)

    def cpp(self) -> str:
        """Its C++ type."""
        return (
            f"kernels::Axis</*in=*/{self.length}, /*out=*/{self.outputs}, /*kernel=*/{self.size}, "
            f"/*stride=*/{self.stride}, /*pad=*/{self.pad}>"
        )


# The one row of a sequence that is seen as an image.
SINGLE = Axis(1, 1, 1, 1, 0)
