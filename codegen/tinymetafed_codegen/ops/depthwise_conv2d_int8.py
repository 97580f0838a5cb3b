"""Depthwise 2-D convolution in integer arithmetic, kernel [rows, columns, outputs]; the layout of TensorFlow Lite."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import Field

from .int8 import ConvolutionSpec, WindowInt8, cpp_axes, cpp_limits, image, weights
from .layer import LayerSpec
from .op import Shape


class DepthwiseConv2dInt8Spec(ConvolutionSpec):
    """2-D convolution of each int8 channel by itself; each channel gives ``depth_multiplier`` outputs."""

    depth_multiplier: Annotated[int, Field(ge=1, le=256)] = 1


@dataclass(frozen=True)
class DepthwiseConv2dInt8(WindowInt8):
    """Depthwise 2-D convolution; each output channel's sum has a factor of its own."""

    kind: ClassVar[str] = "depthwise_conv2d_int8"
    spec: ClassVar[type[LayerSpec]] = DepthwiseConv2dInt8Spec
    header: ClassVar[str] = "depthwise_conv2d_int8.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (1_100,)

    @classmethod
    def build(cls, spec: DepthwiseConv2dInt8Spec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of shape [height, width, channels]. Raises OpError for any other shape."""
        *_, channels = image(input_shape, cls.kind)
        rows, columns = cls.axes(spec, input_shape)
        outputs = channels * spec.depth_multiplier
        return cls(
            name,
            input_shape,
            (rows.outputs, columns.outputs, outputs),
            weights((*spec.kernel, outputs), outputs, math.prod(spec.kernel)),
            zero_point=spec.zero_point,
            rows=rows,
            columns=columns,
            limits=spec.range,
        )

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        channels, outputs = self.input_shape[-1], self.output_shape[-1]
        return (
            f"kernels::DepthwiseConv2dInt8<{cpp_axes(self.rows, self.columns)}, /*channels=*/{channels}, "
            f"/*multiplier=*/{outputs // channels}, {self.cpp_zero_points()}, {cpp_limits(self.limits)}>"
        )
