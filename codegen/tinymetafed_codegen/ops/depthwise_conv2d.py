"""Depthwise 2-D convolution, kernel [rows, columns, channels, 1]; the layout of Keras at a depth multiplier of 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from . import row_tiles
from .layer import LayerSpec
from .op import Op, OpError, Parameter, Shape
from .row_tiles import RowTiles
from .weighted import WeightedSpec
from .window import SINGLE, Axis, ImagePadding, Pair, margins_of_axes


class DepthwiseConv2dSpec(WeightedSpec):
    """2-D convolution of each channel by itself, with a kernel [rows, columns, channels, 1] and a bias."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: ImagePadding = "same"


@dataclass(frozen=True)
class DepthwiseConv2d(Op):
    """Depthwise 2-D convolution; the output has as many channels as the input."""

    rows: Axis = SINGLE
    columns: Axis = SINGLE

    kind: ClassVar[str] = "depthwise_conv2d"
    spec: ClassVar[type[LayerSpec]] = DepthwiseConv2dSpec
    header: ClassVar[str] = "depthwise_conv2d.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (2_000, 1_900, 1_700)
    template: ClassVar[str] = "weighted.hpp.j2"
    can_fuse_relu: ClassVar[bool] = True
    can_mask_input: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: DepthwiseConv2dSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of shape [height, width, channels]. Raises OpError for any other shape."""
        if len(input_shape) != 3:
            raise OpError(f"{spec.op} expects [height, width, channels], not {list(input_shape)}")
        axes = zip(input_shape, spec.kernel, spec.stride, margins_of_axes(spec.padding), strict=False)
        rows, columns = (Axis.build(*axis) for axis in axes)
        pixels, channels = spec.kernel[0] * spec.kernel[1], input_shape[2]
        parameters = (
            Parameter("kernel", (*spec.kernel, channels, 1), fan_in=pixels, fan_out=pixels),
            Parameter("bias", (channels,), fan_in=pixels, fan_out=pixels),
        )
        shape = (rows.outputs, columns.outputs, channels)
        relu = spec.activation == "relu"
        return cls(name, input_shape, shape, parameters, spec.local, spec.frozen, relu, rows, columns)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return (
            f"kernels::DepthwiseConv2d<{self.rows.cpp_type()}, {self.columns.cpp_type()}, /*channels=*/{self.input_shape[2]}, "
            f"/*relu=*/{str(self.relu).lower()}, {'kernels::NoTiles' if self._tiles is None else self._tiles.cpp_type()}>"
        )

    def banded_cpp_type(self) -> str:
        """The C++ type of the kernels that compute a few rows at a time."""
        return self.cpp_type()

    def code_bytes(self) -> tuple[int, ...]:
        """A small kernel's code depends on how a row is split into tiles; others have what was measured at most."""
        return self.flash_bytes if self._tiles is None else self._tiles.code_bytes

    @property
    def _tiles(self) -> RowTiles | None:
        return row_tiles.chosen(self.rows, self.columns, self.input_shape[2])
