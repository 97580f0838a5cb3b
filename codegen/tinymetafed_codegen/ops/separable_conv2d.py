"""Separable 2-D convolution: sugar for a depthwise one and a 1x1 conv2d that mixes its channels."""

from __future__ import annotations

from ..spec import Conv2dSpec, DepthwiseConv2dSpec, SeparableConv2dSpec


def split(spec: SeparableConv2dSpec) -> tuple[DepthwiseConv2dSpec, Conv2dSpec]:
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
    return depthwise, pointwise
