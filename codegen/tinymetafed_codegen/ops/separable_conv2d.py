"""Separable 2-D convolution: short for a depthwise one and a 1x1 conv2d that mixes its channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from .base import Op, Shape
from .conv2d import Conv2d, Conv2dSpec
from .depthwise_conv2d import DepthwiseConv2d, DepthwiseConv2dSpec
from .layer import LayerSpec
from .weighted import WeightedSpec
from .window import Padding, Pair


class SeparableConv2dSpec(WeightedSpec):
    """A depthwise_conv2d and a conv2d of 1x1 after it, with the activation; each has a bias."""

    filters: Annotated[int, Field(ge=1, le=4_096)]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = "same"


class SeparableConv2d(Op):
    """Two layers under one name; it is never made itself."""

    kind: ClassVar[str] = "separable_conv2d"
    spec: ClassVar[type[LayerSpec]] = SeparableConv2dSpec

    @classmethod
    def layer(cls, spec: SeparableConv2dSpec, name: str, input_shape: Shape, below: Mapping[str, Shape]) -> list[Op]:
        """The two layers that it stands for; the activation is the second one's."""
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
