"""What pools share: a window over [height, width, channels] that keeps channels apart and has no weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from .base import Op, OpError, Shape, tile
from .layer import LayerSpec
from .window import SINGLE, Axis, Padding, Pair


class PoolSpec(LayerSpec):
    """A window and how it moves: by its own size unless ``stride`` says otherwise."""

    size: Pair = (2, 2)
    stride: Pair | None = None
    padding: Padding = "valid"


@dataclass(frozen=True)
class Pool(Op):
    """One value of each window, channel by channel; pixels outside the image do not count."""

    rows: Axis = SINGLE
    columns: Axis = SINGLE

    masks_input: ClassVar[bool] = True
    cpp: ClassVar[str]  # the C++ template of its kernels

    @classmethod
    def build(cls, spec: PoolSpec, name: str, input_shape: Shape) -> Self:
        """Settles the shapes. Raises OpError."""
        if len(input_shape) != 3:
            raise OpError(f"{cls.kind} expects [height, width, channels], not {list(input_shape)}")
        stride = spec.stride or spec.size
        rows, columns = (Axis.build(*axis, spec.padding) for axis in zip(input_shape, spec.size, stride, strict=False))
        shape = (rows.outputs, columns.outputs, input_shape[2])
        return cls(name, input_shape, shape, rows=rows, columns=columns)

    @property
    def numbers_of_bits(self) -> int:
        """Numbers, 32 bits each, that hold a bit of each pixel of each window."""
        pixels = min(self.rows.size, self.rows.length) * min(self.columns.size, self.columns.length)
        return -(-math.prod(self.output_shape) * pixels // 32)

    def backward_reads(self) -> str:
        """Nothing but bits."""
        return ""

    def kernel(self) -> str:
        """The C++ type of its kernels."""
        channels = self.input_shape[-1]
        axes = f"{self.rows.cpp()}, {self.columns.cpp()}"
        return f"kernels::{self.cpp}<{axes}, /*channels=*/{channels}, /*tile=*/{tile(channels)}>"
