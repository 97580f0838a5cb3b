"""All built-in ops that a layer can name."""

from __future__ import annotations

from .activations import ACTIVATIONS
from .add import Add
from .add_int8 import AddInt8
from .affine import Affine
from .average import Average
from .avg_pool import AvgPool
from .concatenate import Concatenate
from .conv1d import Conv1d
from .conv2d import Conv2d
from .conv2d_int8 import Conv2dInt8
from .dense import Dense
from .dense_int8 import DenseInt8
from .depthwise_conv2d import DepthwiseConv2d
from .depthwise_conv2d_int8 import DepthwiseConv2dInt8
from .flatten import Flatten
from .global_avg_pool import GlobalAvgPool
from .max_pool import MaxPool
from .maximum import Maximum, Minimum
from .mean_int8 import MeanInt8
from .multiply import Multiply
from .op import Op
from .pad_int8 import PadInt8
from .pool_int8 import AvgPoolInt8, MaxPoolInt8
from .prelu import PRelu
from .quantize import Dequantize, Quantize
from .requantize import Requantize
from .reshape import Reshape
from .separable_conv2d import SeparableConv2d
from .subtract import Subtract

# activations.py lists the ops that can also be the ``activation`` of another layer.
_OPS: tuple[type[Op], ...] = (
    Dense, Conv2d, DepthwiseConv2d, SeparableConv2d, Conv1d, Affine, PRelu, MaxPool, AvgPool, GlobalAvgPool, Flatten, Reshape,
    Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate,
    *ACTIVATIONS.values(),
    Quantize, Conv2dInt8, DepthwiseConv2dInt8, DenseInt8, AddInt8, MaxPoolInt8, AvgPoolInt8, MeanInt8, PadInt8, Requantize,
    Dequantize,
)  # fmt: skip
LAYERS = {op.kind: op for op in _OPS}
