"""Sliding windows of convolutions and pools: the number of outputs and the padding along one axis, as in Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field

from .op import OpError

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
    """One axis: a window of ``size`` moves by ``stride`` over ``length`` inputs and begins ``pad`` before the first one."""

    length: int
    outputs: int
    size: int
    stride: int
    pad: int

    @classmethod
    def build(cls, length: int, size: int, stride: int, padding: str) -> Self:
        """The axis for a padding of 'same' or 'valid'; 'same' pads as Keras does, more at the end than at the start.

        Raises:
            OpError: The window is larger than the input and there is no padding.
        """
        if padding == "same":
            outputs = -(-length // stride)
            return cls(length, outputs, size, stride, max((outputs - 1) * stride + size - length, 0) // 2)
        if size > length:
            raise OpError(f"a window of {size} does not fit into {length} without padding; use padding = 'same'")
        return cls(length, (length - size) // stride + 1, size, stride, 0)

    def cpp_type(self) -> str:
        """The C++ type."""
        return (
            f"kernels::Axis</*in=*/{self.length}, /*out=*/{self.outputs}, /*kernel=*/{self.size}, "
            f"/*stride=*/{self.stride}, /*pad=*/{self.pad}>"
        )


# The row axis of a sequence: an image of one row.
SINGLE = Axis(1, 1, 1, 1, 0)
