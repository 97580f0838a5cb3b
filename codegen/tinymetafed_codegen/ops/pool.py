"""The base of pooling ops: a window over [height, width, channels], each channel by itself, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from .layer import LayerSpec
from .op import Op, OpError, Shape, tile
from .window import SINGLE, Axis, Padding, Pair


class PoolSpec(LayerSpec):
    """The keys of a pool; ``stride`` is ``size`` by default, so that windows do not overlap."""

    size: Pair = (2, 2)
    stride: Pair | None = None
    padding: Padding = "valid"


@dataclass(frozen=True)
class Pool(Op):
    """One value per window and channel; pixels outside the image are left out."""

    rows: Axis = SINGLE
    columns: Axis = SINGLE

    can_mask_input: ClassVar[bool] = True
    cpp_template: ClassVar[str]  # name of the C++ template of the kernels

    @classmethod
    def build(cls, spec: PoolSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of shape [height, width, channels]. Raises OpError for any other shape."""
        if len(input_shape) != 3:
            raise OpError(f"{cls.kind} expects [height, width, channels], not {list(input_shape)}")
        stride = spec.stride or spec.size
        rows, columns = (Axis.build(*axis, spec.padding) for axis in zip(input_shape, spec.size, stride, strict=False))
        shape = (rows.outputs, columns.outputs, input_shape[2])
        return cls(name, input_shape, shape, rows=rows, columns=columns)

    def backward_reads(self) -> str:
        """No tensor: the mask saved for backward suffices."""
        return ""

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        channels = self.input_shape[-1]
        axes = f"{self.rows.cpp_type()}, {self.columns.cpp_type()}"
        return f"kernels::{self.cpp_template}<{axes}, /*channels=*/{channels}, /*tile=*/{tile(channels)}>"
