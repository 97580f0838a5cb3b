"""The base of pooling ops: a window over [height, width, channels], each channel by itself, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from .layer import LayerSpec
from .op import Op, OpError, Shape
from .window import SINGLE, Axis, Padding, Pair

TILE = 8  # outputs that are computed side by side: channels of a window, or all channels of neighbouring windows


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
    further_bytes: ClassVar[tuple[int, ...]]  # of code where windows reach beyond the image; otherwise it is `flash_bytes`

    @classmethod
    def build(cls, spec: PoolSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of shape [height, width, channels]. Raises OpError for any other shape."""
        if len(input_shape) != 3:
            raise OpError(f"{cls.kind} expects [height, width, channels], not {list(input_shape)}")
        stride = spec.stride or spec.size
        rows, columns = (Axis.build(*axis, spec.padding) for axis in zip(input_shape, spec.size, stride, strict=False))
        shape = (rows.outputs, columns.outputs, input_shape[2])
        return cls(name, input_shape, shape, rows=rows, columns=columns)

    def code_bytes(self) -> tuple[int, ...]:
        """By what the windows do, with a third more for code of the last channels where they are no whole tile."""
        channels = self.input_shape[-1]
        rest = self.tiles_channels and channels > TILE and channels % TILE != 0
        return tuple(
            each * 4 // 3 if rest else each for each in (self.further_bytes if self.goes_further else self.flash_bytes)
        )

    @property
    def goes_further(self) -> bool:
        """Whether windows reach beyond the image."""
        return any(sum(axis.margins) for axis in (self.rows, self.columns))

    @property
    def tiles_channels(self) -> bool:
        """Whether channels are computed a tile at a time."""
        return True

    def backward_reads(self) -> str:
        """No tensor: the mask saved for backward suffices."""
        return ""

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        rows, columns = self.rows, self.columns
        if columns.length == columns.outputs == columns.size == 1:  # a column of pixels is computed as a row of them
            rows, columns = columns, rows
        return self._kernels(rows, columns)

    def banded_cpp_type(self) -> str:
        """The C++ type of the kernels that compute a few rows at a time."""
        return self._kernels(self.rows, self.columns)

    def _kernels(self, rows: Axis, columns: Axis) -> str:
        """The C++ type of an image with these axes."""
        axes = f"{rows.cpp_type()}, {columns.cpp_type()}"
        return f"kernels::{self.cpp_template}<{axes}, /*channels=*/{self.input_shape[-1]}, /*tile=*/{TILE}>"
