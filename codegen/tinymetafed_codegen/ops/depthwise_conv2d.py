"""Depthwise 2-D convolution, kernel [rows, columns, channels, 1]; the layout of Keras at a depth multiplier of 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from .layer import LayerSpec
from .op import Op, OpError, Parameter, Shape, tile
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
        channels = self.input_shape[2]
        return (
            f"kernels::DepthwiseConv2d<{self.rows.cpp_type()}, {self.columns.cpp_type()}, /*channels=*/{channels}, "
            f"/*relu=*/{str(self.relu).lower()}, /*tile=*/{tile(channels)}>"
        )

    def code_bytes(self) -> tuple[int, ...]:
        """A small kernel's code depends on how a row is split into tiles; others have what was measured at most."""
        stride, outputs, inputs = self.columns.stride, self.columns.outputs, self.columns.length
        if self.rows.size * self.columns.size > _MOST_HELD or max(self.rows.stride, stride) > 2:
            return self.flash_bytes
        forward = _computed(outputs, stride) or self.flash_bytes[0]
        # With a stride of 2, every second input uses the same columns of the kernel.
        gradient = _computed(inputs, 1) if stride == 1 else _of_width(inputs if inputs <= 8 else _equal_width(inputs))
        summed = outputs if outputs <= (12 if stride == 1 else 9) else _equal_width(outputs)
        return forward, gradient or self.flash_bytes[1], 1_200 if summed is None else 600 + 75 * summed


_MOST_HELD = 9  # weights of a kernel that stays in registers
_LONGEST = 16  # pixels of a row that is one tile


def _equal_width(length: int) -> int | None:
    """The width of the tiles of a row that is a multiple of it."""
    return next((width for width in (8, 7, 6, 5) if length > width and length % width == 0), None)


def _of_width(width: int | None) -> int | None:
    return None if width is None else 440 + 80 * width


def _computed(length: int, stride: int) -> int | None:
    """Bytes of a pass that computes each of ``length`` pixels of a row; None if its tiles share no code."""
    if length <= 9:
        return _of_width(length)
    equal = _equal_width(length)
    if length <= _LONGEST and (stride == 1 or equal is None):
        return 320 + 40 * length
    return 1_160 if equal is None and stride == 1 else _of_width(equal)
