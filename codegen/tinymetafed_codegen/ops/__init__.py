"""One file per op: its keys in an experiment, its shape rule, its parameters and the C++ kernels that it calls.

A user's op is built from Elementwise, LayerSpec, Op, OpError, Parameter, Shape, WeightedSpec, float_bits and tile. These names
follow semantic versioning, like those of the package tinymetafed.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..own_class import is_reference
from . import own_op
from .add import Add
from .affine import Affine, AffineSpec
from .clip_norm import ClipNorm
from .elementwise import Elementwise
from .half import HalfOp, PackHalf, RoundToHalf, UnpackHalf
from .int8 import Int8Op
from .layer import INPUT, LayerSpec
from .losses import LOSSES, Loss
from .merge import Merge, MergeSpec
from .op import Op, OpError, Parameter, Shape, float_bits, shape_of, tile
from .op_registry import ACTIVATIONS, LAYERS
from .quantize_of_bytes import QuantizeOfBytes
from .relu import Relu
from .running_statistics import RunningStatistics
from .sgd import Sgd
from .weighted import WeightedSpec
from .windows_of_bytes import WindowsOfBytes

__all__ = [
    "ACTIVATIONS",
    "INPUT",
    "LAYERS",
    "LOSSES",
    "Add",
    "Affine",
    "AffineSpec",
    "ClipNorm",
    "Elementwise",
    "HalfOp",
    "Int8Op",
    "LayerSpec",
    "Loss",
    "Merge",
    "MergeSpec",
    "Op",
    "OpError",
    "PackHalf",
    "Parameter",
    "QuantizeOfBytes",
    "Relu",
    "RoundToHalf",
    "RunningStatistics",
    "Sgd",
    "Shape",
    "UnpackHalf",
    "WeightedSpec",
    "WindowsOfBytes",
    "build",
    "find",
    "float_bits",
    "own_op",
    "shape_of",
    "tile",
]


def find(name: str) -> type[Op]:
    """Looks up the op that a layer names.

    Args:
        name: The kind of a built-in op, or FILE.py:CLASS of a user's.

    Raises:
        OwnClassError: The user's class cannot be used.
    """
    return own_op.load(name) if is_reference(name) else LAYERS[name]


def build(layer: LayerSpec, name: str, input_shape: Shape, below: Mapping[str, Shape]) -> list[Op]:
    """Makes the ops of one layer. An activation that cannot be fused becomes an op of its own.

    Args:
        layer: The layer's keys.
        name: The layer's name.
        input_shape: The shape of its input.
        below: The output shapes of the layers before it, by name.

    Returns:
        The ops, in the order in which they run.

    Raises:
        OpError: The layer does not fit its input.
        OwnClassError: The user's op cannot be used.
    """
    op = find(layer.op)
    made = own_op.layer(op, layer, name, input_shape, below) if own_op.is_own(op) else op.layer(layer, name, input_shape, below)
    last = made[-1]
    activation = layer.activation if isinstance(layer, WeightedSpec) else None
    if activation is None or (activation == "relu" and last.can_fuse_relu):
        return made
    chosen = ACTIVATIONS[activation]
    return [*made, chosen.build(chosen.spec(op=activation), f"{last.name}_{activation}", last.output_shape)]
