"""2-D convolution over [height, width, channels], kernel [k, k, channels, filters], as Keras lays them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from ..spec import Conv2dSpec
from .base import Op, OpError, Parameter, Shape, tile


@dataclass(frozen=True)
class Conv2d(Op):
    """A square convolution; ``pad_top`` and ``pad_left`` are the zeros that 'same' puts before the first row and column."""

    size: int = 1
    stride: int = 1
    pad_top: int = 0
    pad_left: int = 0

    kind: ClassVar[str] = "conv2d"
    template: ClassVar[str] = "weighted.hpp.j2"
    can_fuse_relu: ClassVar[bool] = True
    masks_input: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: Conv2dSpec, name: str, input_shape: Shape) -> Self:
        """Settles the shapes; 'same' pads as Keras does (more after than before). Raises OpError."""
        if len(input_shape) != 3:
            raise OpError(f"conv2d expects [height, width, channels], not {list(input_shape)}")
        height, width, channels = input_shape
        k, stride = spec.kernel, spec.stride
        if spec.padding == "valid" and (k > height or k > width):
            raise OpError(f"a kernel of {k}x{k} does not fit into {height}x{width} without padding; use padding = 'same'")
        spans, pads = [], []
        for extent in (height, width):
            if spec.padding == "same":
                out = -(-extent // stride)
                pads.append(max((out - 1) * stride + k - extent, 0) // 2)
            else:
                out = (extent - k) // stride + 1
                pads.append(0)
            spans.append(out)
        fan_in, fan_out = k * k * channels, k * k * spec.filters
        parameters = (
            Parameter("kernel", (k, k, channels, spec.filters), fan_in, fan_out),
            Parameter("bias", (spec.filters,), fan_in, fan_out),
        )
        return cls(
            name,
            input_shape,
            (spans[0], spans[1], spec.filters),
            parameters,
            spec.local,
            spec.activation == "relu",
            size=k,
            stride=stride,
            pad_top=pads[0],
            pad_left=pads[1],
        )

    def kernel(self) -> str:
        """The C++ type of its kernels."""
        height, width, channels = self.input_shape
        out_height, out_width, filters = self.output_shape
        return (
            f"kernels::Conv2d</*height=*/{height}, /*width=*/{width}, /*channels=*/{channels}, "
            f"/*out_height=*/{out_height}, /*out_width=*/{out_width}, /*filters=*/{filters}, /*size=*/{self.size}, "
            f"/*stride=*/{self.stride}, /*pad_top=*/{self.pad_top}, /*pad_left=*/{self.pad_left}, "
            f"/*relu=*/{str(self.relu).lower()}, /*filter_tile=*/{tile(filters)}, /*channel_tile=*/{tile(channels)}>"
        )
