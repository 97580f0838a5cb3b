"""The ops that a layer with weights may name as its ``activation``; each can be a layer too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .elu import Elu, Selu
from .gelu import Gelu
from .hard_sigmoid import HardSigmoid
from .hard_swish import HardSwish
from .leaky_relu import LeakyRelu
from .op import Op
from .relu import Relu
from .relu6 import Relu6
from .sigmoid import Sigmoid
from .silu import Silu
from .softmax import Softmax
from .softplus import Softplus
from .tanh import Tanh

_OPS: tuple[type[Op], ...] = (
    Relu, Relu6, LeakyRelu, Sigmoid, Tanh, Softmax, Silu, HardSwish, HardSigmoid, Elu, Selu, Gelu, Softplus,
)  # fmt: skip
ACTIVATIONS: dict[str, type[Op]] = {op.kind: op for op in _OPS}

if TYPE_CHECKING:
    Activation = str  # type checkers cannot evaluate the tuple
else:
    Activation = Literal[tuple(ACTIVATIONS)]
