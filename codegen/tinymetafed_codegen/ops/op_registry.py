"""All built-in ops that a layer can name, each with its module and class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..class_table import ClassTable

if TYPE_CHECKING:
    from .op import Op


# A layer with weights may name one of these as its ``activation``; each can be a layer too.
_ACTIVATIONS = {
    "relu": "relu.Relu",
    "relu6": "relu6.Relu6",
    "leaky_relu": "leaky_relu.LeakyRelu",
    "sigmoid": "sigmoid.Sigmoid",
    "tanh": "tanh.Tanh",
    "softmax": "softmax.Softmax",
    "silu": "silu.Silu",
    "hard_swish": "hard_swish.HardSwish",
    "hard_sigmoid": "hard_sigmoid.HardSigmoid",
    "elu": "elu.Elu",
    "selu": "elu.Selu",
    "gelu": "gelu.Gelu",
    "softplus": "softplus.Softplus",
}
_LAYERS = {
    "dense": "dense.Dense",
    "conv2d": "conv2d.Conv2d",
    "depthwise_conv2d": "depthwise_conv2d.DepthwiseConv2d",
    "separable_conv2d": "separable_conv2d.SeparableConv2d",
    "conv1d": "conv1d.Conv1d",
    "affine": "affine.Affine",
    "prelu": "prelu.PRelu",
    "max_pool": "max_pool.MaxPool",
    "avg_pool": "avg_pool.AvgPool",
    "global_avg_pool": "global_avg_pool.GlobalAvgPool",
    "flatten": "flatten.Flatten",
    "reshape": "reshape.Reshape",
    "add": "add.Add",
    "subtract": "subtract.Subtract",
    "multiply": "multiply.Multiply",
    "average": "average.Average",
    "maximum": "maximum.Maximum",
    "minimum": "maximum.Minimum",
    "concatenate": "concatenate.Concatenate",
    **_ACTIVATIONS,
    "quantize": "quantize.Quantize",
    "conv2d_int8": "conv2d_int8.Conv2dInt8",
    "depthwise_conv2d_int8": "depthwise_conv2d_int8.DepthwiseConv2dInt8",
    "dense_int8": "dense_int8.DenseInt8",
    "add_int8": "add_int8.AddInt8",
    "max_pool_int8": "pool_int8.MaxPoolInt8",
    "avg_pool_int8": "pool_int8.AvgPoolInt8",
    "mean_int8": "mean_int8.MeanInt8",
    "pad_int8": "pad_int8.PadInt8",
    "requantize": "requantize.Requantize",
    "dequantize": "quantize.Dequantize",
}
ACTIVATIONS: ClassTable[str, type[Op]] = ClassTable(__package__, _ACTIVATIONS)
LAYERS: ClassTable[str, type[Op]] = ClassTable(__package__, _LAYERS)

if TYPE_CHECKING:
    Activation = str  # type checkers cannot evaluate the tuple
else:
    Activation = Literal[tuple(ACTIVATIONS)]
