"""2-D convolution over [height, width, channels], kernel [rows, columns, channels, filters]; layouts as in Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import Field

from .layer import LayerSpec
from .op import Op, OpError, Parameter, Shape, tile
from .weighted import WeightedSpec
from .window import SINGLE, Axis, ImagePadding, Pair, flattened, margins_of_axes


class Conv2dSpec(WeightedSpec):
    """2-D convolution over [height, width, channels], with a kernel [rows, columns, channels, filters] and a bias."""

    filters: Annotated[int, Field(ge=1, le=4_096)]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: ImagePadding = "same"


@dataclass(frozen=True)
class Conv2d(Op):
    """2-D convolution."""

    rows: Axis = SINGLE
    columns: Axis = SINGLE

    kind: ClassVar[str] = "conv2d"
    spec: ClassVar[type[LayerSpec]] = Conv2dSpec
    header: ClassVar[str] = "conv2d.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (2_300, 2_200, 1_100)
    tiled: ClassVar[bool] = True
    template: ClassVar[str] = "weighted.hpp.j2"
    can_fuse_relu: ClassVar[bool] = True
    can_mask_input: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: Conv2dSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of shape [height, width, channels]. Raises OpError for any other shape."""
        if len(input_shape) != 3:
            raise OpError(f"conv2d expects [height, width, channels], not {list(input_shape)}")
        axes = zip(input_shape, spec.kernel, spec.stride, margins_of_axes(spec.padding), strict=False)
        rows, columns = (Axis.build(*axis) for axis in axes)
        pixels, channels = spec.kernel[0] * spec.kernel[1], input_shape[2]
        fan_in, fan_out = pixels * channels, pixels * spec.filters
        parameters = (
            Parameter("kernel", (*spec.kernel, channels, spec.filters), fan_in, fan_out),
            Parameter("bias", (spec.filters,), fan_in, fan_out),
        )
        return cls(
            name,
            input_shape,
            (rows.outputs, columns.outputs, spec.filters),
            parameters,
            spec.local,
            spec.frozen,
            spec.activation == "relu",
            rows,
            columns,
        )

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return self._kernels("Conv2d", *flattened(self.rows, self.columns))

    def banded_cpp_type(self) -> str:
        """The C++ type of the kernels that compute a few rows at a time."""
        return self._kernels("GeneralConv2d", self.rows, self.columns)

    def _kernels(self, name: str, rows: Axis, columns: Axis) -> str:
        """The C++ type ``name`` of an image with these axes."""
        channels, filters = self.input_shape[-1], self.output_shape[-1]
        return (
            f"kernels::{name}<{rows.cpp_type()}, {columns.cpp_type()}, "
            f"/*channels=*/{channels}, /*filters=*/{filters}, "
            f"/*relu=*/{str(self.relu).lower()}, /*filter_tile=*/{tile(filters)}, /*channel_tile=*/{tile(channels)}>"
        )
