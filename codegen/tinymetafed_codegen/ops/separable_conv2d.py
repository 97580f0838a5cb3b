"""Separable 2-D convolution: short for a depthwise_conv2d followed by a 1x1 conv2d."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from .conv2d import Conv2d, Conv2dSpec
from .depthwise_conv2d import DepthwiseConv2d, DepthwiseConv2dSpec
from .layer import LayerSpec
from .op import Op, Shape
from .weighted import WeightedSpec
from .window import ImagePadding, Pair


class SeparableConv2dSpec(WeightedSpec):
    """A depthwise_conv2d followed by a 1x1 conv2d with the activation; each has a kernel and a bias."""

    filters: Annotated[int, Field(ge=1, le=4_096)]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: ImagePadding = "same"


class SeparableConv2d(Op):
    """Stands for two ops; there is never an instance of this class."""

    kind: ClassVar[str] = "separable_conv2d"
    spec: ClassVar[type[LayerSpec]] = SeparableConv2dSpec

    @classmethod
    def layer(cls, spec: SeparableConv2dSpec, name: str, input_shape: Shape, below: Mapping[str, Shape]) -> list[Op]:
        """The two ops; the activation belongs to the second one. Raises OpError."""
        depthwise = DepthwiseConv2dSpec(
            op="depthwise_conv2d",
            kernel=spec.kernel,
            stride=spec.stride,
            padding=spec.padding,
            local=spec.local,
            frozen=spec.frozen,
        )
        pointwise = Conv2dSpec(
            op="conv2d", filters=spec.filters, kernel=(1, 1), activation=spec.activation, local=spec.local, frozen=spec.frozen
        )
        first = DepthwiseConv2d.build(depthwise, f"{name}_depthwise", input_shape)
        return [first, Conv2d.build(pointwise, f"{name}_pointwise", first.output_shape)]
