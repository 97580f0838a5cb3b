"""One file per op: its shape rule, its parameters and the names its template needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from ..spec import ACTIVATIONS, AddSpec, LayerSpec, SeparableConv2dSpec
from .add import Add
from .avg_pool import AvgPool
from .base import Op, OpError, Parameter, Shape
from .clip_norm import ClipNorm
from .conv1d import Conv1d
from .conv2d import Conv2d
from .dense import Dense
from .depthwise_conv2d import DepthwiseConv2d
from .flatten import Flatten
from .global_avg_pool import GlobalAvgPool
from .leaky_relu import LeakyRelu
from .losses import LOSSES, Loss
from .max_pool import MaxPool
from .relu import Relu
from .relu6 import Relu6
from .separable_conv2d import split
from .sgd import Sgd
from .sigmoid import Sigmoid
from .softmax import Softmax
from .tanh import Tanh

__all__ = ["LOSSES", "Add", "ClipNorm", "Loss", "Op", "OpError", "Parameter", "Relu", "Sgd", "Shape", "build"]


class _OneInput(Protocol):
    """An op that a layer of its own spec class and the shape of one input settle."""

    kind: ClassVar[str]

    @classmethod
    def build(cls, spec: Any, name: str, input_shape: Shape) -> Op: ...  # the class says it


_ALL: tuple[type[_OneInput], ...] = (
    AvgPool, Conv1d, Conv2d, Dense, DepthwiseConv2d, Flatten, GlobalAvgPool, LeakyRelu, MaxPool, Relu, Relu6, Sigmoid,
    Softmax, Tanh,
)  # fmt: skip
_OPS = {op.kind: op for op in _ALL}


def build(layer: LayerSpec, name: str, input_shape: Shape, below: Mapping[str, Shape]) -> list[Op]:
    """The ops of one layer on an input of this shape, an activation that cannot be fused being one of its own.

    ``below`` are the output shapes of the layers before it, by name. Raises OpError when they do not fit.
    """
    if isinstance(layer, SeparableConv2dSpec):
        depthwise, pointwise = split(layer)
        first = build(depthwise, f"{name}_depthwise", input_shape, below)
        return [*first, *build(pointwise, f"{name}_pointwise", first[-1].output_shape, below)]
    if isinstance(layer, AddSpec):
        return [Add.build(layer, name, input_shape, below)]
    op = _OPS[layer.op].build(layer, name, input_shape)
    activation = getattr(layer, "activation", None)
    if activation is None or (activation == "relu" and op.can_fuse_relu):
        return [op]
    spec = ACTIVATIONS[activation](op=activation)
    return [op, _OPS[activation].build(spec, f"{name}_{activation}", op.output_shape)]
