"""Numbers and names of TensorFlow Lite's file format, and what its operators are read from."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .network import Layer, Shape

# TensorType.
FLOAT32, FLOAT16, INT32, INT64, INT8 = 0, 1, 2, 4, 9
# Padding.
PADDINGS = ("same", "valid")
# ActivationFunctionType, as names of ops; "" for none.
ACTIVATIONS = {0: "", 1: "relu", 3: "relu6", 4: "tanh"}
# Operators that change a shape and nothing else.
VIEW_OPERATORS = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")


class Reader(Protocol):
    """What operators ask of a file.

    ``tensors``: decoded, by number. ``made``: the layer that computes each tensor, by its number; None for the model's input.
    """

    tensors: Any
    made: dict[int, Layer | None]

    def title(self, tensor: int) -> str:
        """The name of a tensor."""

    def shape(self, tensor: int) -> Shape:
        """The shape of a tensor for one sample."""

    def constant(self, tensor: int) -> Any:
        """A tensor's constant value, None if it is computed."""


def shortest(number: float) -> float:
    """The shortest decimal number with the float32 bits of a number."""
    return float(str(np.float32(number)))
