"""All built-in ops that a layer can name."""

from __future__ import annotations

from .activations import ACTIVATIONS
from .add import Add
from .affine import Affine
from .average import Average
from .avg_pool import AvgPool
from .concatenate import Concatenate
from .conv1d import Conv1d
from .conv2d import Conv2d
from .dense import Dense
from .depthwise_conv2d import DepthwiseConv2d
from .flatten import Flatten
from .global_avg_pool import GlobalAvgPool
from .max_pool import MaxPool
from .maximum import Maximum, Minimum
from .multiply import Multiply
from .op import Op
from .prelu import PRelu
from .reshape import Reshape
from .separable_conv2d import SeparableConv2d
from .subtract import Subtract

# activations.py lists the ops that can also be the ``activation`` of another layer.
_OPS: tuple[type[Op], ...] = (
    Dense, Conv2d, DepthwiseConv2d, SeparableConv2d, Conv1d, Affine, PRelu, MaxPool, AvgPool, GlobalAvgPool, Flatten, Reshape,
    Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate,
    *ACTIVATIONS.values(),
)  # fmt: skip
LAYERS = {op.kind: op for op in _OPS}
