"""One file per op: its shape rule, its parameters and the names its template needs."""

from __future__ import annotations

from ..spec import Conv2dSpec, DenseSpec, FlattenSpec, LayerSpec, ReluSpec
from .base import Op, OpError, Parameter, Shape
from .conv2d import Conv2d
from .dense import Dense
from .flatten import Flatten
from .losses import LOSSES, Loss
from .relu import Relu

__all__ = ["LOSSES", "Loss", "Op", "OpError", "Parameter", "Shape", "build"]


def build(layer: LayerSpec, name: str, input_shape: Shape) -> Op:
    """The op of one layer on an input of this shape. Raises OpError when they do not fit."""
    if isinstance(layer, DenseSpec):
        return Dense.build(layer, name, input_shape)
    if isinstance(layer, Conv2dSpec):
        return Conv2d.build(layer, name, input_shape)
    if isinstance(layer, ReluSpec):
        return Relu.build(name, input_shape)
    assert isinstance(layer, FlattenSpec)
    return Flatten.build(name, input_shape)
