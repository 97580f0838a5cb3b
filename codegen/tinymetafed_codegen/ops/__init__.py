"""One file per op: its keys in an experiment, its shape rule, its parameters, and which C++ kernels it calls.

A user's own op is made of Elementwise, LayerSpec, Op, OpError, Parameter, Shape, WeightedSpec, float_bits and tile. These names
follow semantic versioning as those of the package tinymetafed do.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..own_class import is_reference
from . import own
from .activations import ACTIVATIONS
from .add import Add, AddSpec
from .base import Op, OpError, Parameter, Shape, float_bits, tile
from .clip_norm import ClipNorm
from .elementwise import Elementwise
from .layer import LayerSpec
from .losses import LOSSES, Loss
from .registry import LAYERS
from .relu import Relu
from .sgd import Sgd
from .weighted import WeightedSpec

__all__ = [
    "ACTIVATIONS",
    "LAYERS",
    "LOSSES",
    "Add",
    "AddSpec",
    "ClipNorm",
    "Elementwise",
    "LayerSpec",
    "Loss",
    "Op",
    "OpError",
    "Parameter",
    "Relu",
    "Sgd",
    "Shape",
    "WeightedSpec",
    "build",
    "find",
    "float_bits",
    "own",
    "tile",
]


def find(name: str) -> type[Op]:
    """The op that a layer's ``op`` names: one of ours, or FILE.py:CLASS. Raises OwnClassError for a user's that is none."""
    return own.load(name) if is_reference(name) else LAYERS[name]


def build(layer: LayerSpec, name: str, input_shape: Shape, below: Mapping[str, Shape]) -> list[Op]:
    """The ops of one layer, an activation that cannot be fused being one of its own.

    Args:
        layer: The layer's keys.
        name: What the layer is called.
        input_shape: The shape of its input.
        below: Output shapes of the layers before it, by name.

    Raises OpError when they do not fit, OwnClassError for a user's op that cannot be used.
    """
    op = find(layer.op)
    made = own.layer(op, layer, name, input_shape, below) if own.is_own(op) else op.layer(layer, name, input_shape, below)
    last = made[-1]
    activation = layer.activation if isinstance(layer, WeightedSpec) else None
    if activation is None or (activation == "relu" and last.can_fuse_relu):
        return made
    chosen = ACTIVATIONS[activation]
    return [*made, chosen.build(chosen.spec(op=activation), f"{last.name}_{activation}", last.output_shape)]
