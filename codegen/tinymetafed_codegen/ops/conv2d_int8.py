"""2-D convolution in integer arithmetic, kernel [filters, rows, columns, channels]; the layout of TensorFlow Lite."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import Field

from .int8 import ConvolutionSpec, WindowInt8, cpp_axes, cpp_limits, image, weights
from .layer import LayerSpec
from .op import Shape


class Conv2dInt8Spec(ConvolutionSpec):
    """2-D convolution over int8 [height, width, channels]."""

    filters: Annotated[int, Field(ge=1, le=4_096)]


@dataclass(frozen=True)
class Conv2dInt8(WindowInt8):
    """2-D convolution; each filter's sum has a factor of its own."""

    kind: ClassVar[str] = "conv2d_int8"
    spec: ClassVar[type[LayerSpec]] = Conv2dInt8Spec
    header: ClassVar[str] = "conv2d_int8.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (2_500,)

    @classmethod
    def build(cls, spec: Conv2dInt8Spec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of shape [height, width, channels]. Raises OpError for any other shape."""
        *_, channels = image(input_shape, cls.kind)
        rows, columns = cls.axes(spec, input_shape)
        kernel = (spec.filters, *spec.kernel, channels)
        return cls(
            name,
            input_shape,
            (rows.outputs, columns.outputs, spec.filters),
            weights(kernel, spec.filters, math.prod(kernel[1:])),
            zero_point=spec.zero_point,
            rows=rows,
            columns=columns,
            limits=spec.range,
        )

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return (
            f"kernels::Conv2dInt8<{cpp_axes(self.rows, self.columns)}, /*channels=*/{self.input_shape[-1]}, "
            f"/*filters=*/{self.output_shape[-1]}, {self.cpp_zero_points()}, {cpp_limits(self.limits)}>"
        )
