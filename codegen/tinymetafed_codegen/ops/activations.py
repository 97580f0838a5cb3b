"""The ops that a layer with weights may name as its ``activation``; each can be a layer too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .leaky_relu import LeakyRelu
from .op import Op
from .relu import Relu
from .relu6 import Relu6
from .sigmoid import Sigmoid
from .softmax import Softmax
from .tanh import Tanh

ACTIVATIONS: dict[str, type[Op]] = {op.kind: op for op in (Relu, Relu6, LeakyRelu, Sigmoid, Tanh, Softmax)}

if TYPE_CHECKING:
    Activation = str  # type checkers cannot evaluate the tuple
else:
    Activation = Literal[tuple(ACTIVATIONS)]
