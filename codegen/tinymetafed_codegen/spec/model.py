"""The ``[model]`` section: layers from input to output, their loss and how they learn."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .loss import LossName
from .section import Section

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*$", max_length=40)]
Extent = Annotated[int, Field(ge=1, le=64)]
# One number for both axes, or [height, width].
Pair = Annotated[
    tuple[Extent, Extent],
    Field(strict=False),
    BeforeValidator(lambda given: (given, given) if isinstance(given, int) else given),
]
Padding = Literal["same", "valid"]
Activation = Literal["relu", "relu6", "leaky_relu", "sigmoid", "tanh", "softmax"]


class _Layer(Section):
    """Any layer; by its ``name``, or else by its op and its place from 1 on (dense3), an add finds it."""

    name: Name | None = None


class _Weighted(_Layer):
    """A layer with weights: global, unless they are ``local`` to a device or ``frozen`` into the firmware."""

    activation: Activation | None = None
    local: bool = False
    frozen: bool = False


class DenseSpec(_Weighted):
    """Fully connected layer; a kernel of [inputs, units] and a bias."""

    op: Literal["dense"]
    units: Annotated[int, Field(ge=1, le=65_536)]


class Conv2dSpec(_Weighted):
    """2-D convolution over [height, width, channels]; a kernel of [rows, columns, channels, filters] and a bias."""

    op: Literal["conv2d"]
    filters: Annotated[int, Field(ge=1, le=4_096)]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = "same"


class DepthwiseConv2dSpec(_Weighted):
    """2-D convolution of every channel by itself; a kernel of [rows, columns, channels, 1] and a bias."""

    op: Literal["depthwise_conv2d"]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = "same"


class SeparableConv2dSpec(_Weighted):
    """A depthwise_conv2d and a conv2d of 1x1 after it, with the activation; each has a bias."""

    op: Literal["separable_conv2d"]
    filters: Annotated[int, Field(ge=1, le=4_096)]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = "same"


class Conv1dSpec(_Weighted):
    """1-D convolution over [length, channels]; a kernel of [size, channels, filters] and a bias."""

    op: Literal["conv1d"]
    filters: Annotated[int, Field(ge=1, le=4_096)]
    kernel: Extent
    stride: Extent = 1
    padding: Padding = "same"


class MaxPoolSpec(_Layer):
    """The largest value of each window over [height, width, channels]; windows touch unless ``stride`` says otherwise."""

    op: Literal["max_pool"]
    size: Pair = (2, 2)
    stride: Pair | None = None
    padding: Padding = "valid"


class AvgPoolSpec(_Layer):
    """The mean of each window over [height, width, channels]; pixels outside the image do not count."""

    op: Literal["avg_pool"]
    size: Pair = (2, 2)
    stride: Pair | None = None
    padding: Padding = "valid"


class GlobalAvgPoolSpec(_Layer):
    """The mean over all pixels, channel by channel."""

    op: Literal["global_avg_pool"]


class FlattenSpec(_Layer):
    """Any tensor seen as one vector."""

    op: Literal["flatten"]


class AddSpec(_Layer):
    """The sum of the layer above this line and of the layer named ``with``."""

    op: Literal["add"]
    with_: Annotated[str, Field(alias="with")]


class ReluSpec(_Layer):
    """max(0, x)."""

    op: Literal["relu"]


class Relu6Spec(_Layer):
    """min(max(0, x), 6)."""

    op: Literal["relu6"]


class LeakyReluSpec(_Layer):
    """x where it is positive, slope x elsewhere."""

    op: Literal["leaky_relu"]
    slope: Annotated[float, Field(ge=1e-6, lt=1)] = 0.2


class SigmoidSpec(_Layer):
    """1 / (1 + e^-x)."""

    op: Literal["sigmoid"]


class TanhSpec(_Layer):
    """Hyperbolic tangent."""

    op: Literal["tanh"]


class SoftmaxSpec(_Layer):
    """e^x over the sum of e^x along the last axis."""

    op: Literal["softmax"]


LayerSpec = Annotated[
    DenseSpec
    | Conv2dSpec
    | DepthwiseConv2dSpec
    | SeparableConv2dSpec
    | Conv1dSpec
    | MaxPoolSpec
    | AvgPoolSpec
    | GlobalAvgPoolSpec
    | FlattenSpec
    | AddSpec
    | ReluSpec
    | Relu6Spec
    | LeakyReluSpec
    | SigmoidSpec
    | TanhSpec
    | SoftmaxSpec,
    Field(discriminator="op"),
]
# What a layer with weights may name as its ``activation``, with the keys' defaults.
ACTIVATIONS: dict[str, type[Any]] = {
    "relu": ReluSpec,
    "relu6": Relu6Spec,
    "leaky_relu": LeakyReluSpec,
    "sigmoid": SigmoidSpec,
    "tanh": TanhSpec,
    "softmax": SoftmaxSpec,
}


class ModelSpec(Section):
    """Layers from input to output, their loss and how they learn.

    ``weights``: an npz file of arrays LAYER.kernel and LAYER.bias, for the frozen layers and for where meta-training starts;
    ``init`` draws what it lacks. At every reconstruction local layers start from ``local_start``: a fixed pattern, fixed random
    numbers or zeros; random numbers ``redrawn`` for every client and round; or as the client's last round left them (``kept``,
    the first time as ``random``).
    ``momentum``, ``weight_decay`` and ``clip_norm`` (the norm of each layer's output gradient) are off at 0: plain SGD.
    """

    input: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(min_length=1, max_length=3, strict=False)]
    layers: Annotated[tuple[LayerSpec, ...], Field(min_length=1, max_length=64, strict=False)]
    loss: LossName
    huber_delta: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    clip_norm: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    weights: str | None = None
    init: Literal["glorot", "he"]
    local_start: Literal["alternating", "random", "zeros", "redrawn", "kept"]
    local_start_scale: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
