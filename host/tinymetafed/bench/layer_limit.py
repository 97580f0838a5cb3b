"""The fewest instructions of a layer's pass for one multiplication, as its shape allows: what a Cortex-M4F cannot do without.

A product takes a multiplication and an addition: a fused one rounds once, and so has other bits. Beside these count:

- **Loads.** At most 16 sums fit into the 32 registers, beside their factors. A number is loaded once for all sums of a tile
  that use it, neighbouring windows included; the best tile that the shape allows counts. A load takes one number, but four
  weights of a dense layer: each is used once, and they lie side by side.
- **Outputs.** With a ReLU, an output is moved to an integer register, compared, replaced under a condition (two instructions)
  and stored. A gradient below is masked: the activation is loaded and compared, the gradient replaced (two) and stored. A
  weight is loaded, its gradient multiplied by the rate and subtracted, and it is stored.

Addresses, loops, calls and the sums of a bias are left out, so that a limit is approached; loads and stores of several numbers
may go a little below it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tinymetafed_codegen.ops import Op
from tinymetafed_codegen.ops.conv2d import Conv2d
from tinymetafed_codegen.ops.dense import Dense
from tinymetafed_codegen.ops.depthwise_conv2d import DepthwiseConv2d
from tinymetafed_codegen.ops.window import Axis

SUMS = 16
PRODUCT = 2.0  # a multiplication and an addition
OUTPUT = MASKED = 5.0  # see above
MOVED = 4.0
RUN = 4  # weights of a dense layer in one load or store


def taps(axis: Axis) -> int:
    """Pairs of an output and an element of its window that lies on an input."""
    places = (out * axis.stride - axis.pad + element for out in range(axis.outputs) for element in range(axis.size))
    return sum(0 <= place < axis.length for place in places)


def products(op: Op) -> int:
    """Multiplications of one pass; of an op without weights the number of its inputs."""
    if isinstance(op, Conv2d):
        return taps(op.rows) * taps(op.columns) * op.input_shape[-1] * op.output_shape[-1]
    if isinstance(op, DepthwiseConv2d):
        return taps(op.rows) * taps(op.columns) * op.input_shape[-1]
    if isinstance(op, Dense):
        return op.parameters[0].size
    return math.prod(op.input_shape)


def padded_products(op: Op) -> int:
    """The same if each weight counts for each output, those that lie beside the image too, as TinyEngine counts."""
    if isinstance(op, Conv2d | DepthwiseConv2d):
        channels = op.input_shape[-1] if isinstance(op, Conv2d) else 1
        return math.prod(op.output_shape) * op.rows.size * op.columns.size * channels
    return products(op)


def limits(op: Op) -> dict[str, float]:
    """The limit of each pass, in instructions per multiplication; empty for a layer without weights."""
    if isinstance(op, Dense):
        inputs, units = op.parameters[0].shape
        return _dense(inputs, units)
    if not isinstance(op, Conv2d | DepthwiseConv2d):
        return {}
    channels, filters = (op.input_shape[-1], op.output_shape[-1]) if isinstance(op, Conv2d) else (1, 1)
    elements, stride = op.columns.size, op.columns.stride
    # The pixels of a tile lie in a row; where windows share no values, anywhere.
    outputs, inputs = op.columns.outputs, op.columns.length
    if elements == 1:
        outputs, inputs = outputs * op.rows.outputs, inputs * op.rows.length
    forward = min(_shared(tile, filters_, elements, stride) for tile, filters_ in _tiles(outputs, filters))
    gradient = min(_shared_back(tile, channels_, elements, stride) for tile, channels_ in _tiles(inputs, channels))
    rows = range(1, op.rows.size + 1)
    update = min(
        _shared_sums(row, elements, channels_, filters_, stride)
        for row in rows
        for channels_ in range(1, channels + 1)
        for filters_ in range(1, filters + 1)
        if row * elements * channels_ * filters_ <= SUMS or (row, channels_, filters_) == (1, 1, 1)
    )
    count = products(op)
    return {
        "forward": PRODUCT + forward + OUTPUT * math.prod(op.output_shape) / count,
        "gradient": PRODUCT + gradient + MASKED * math.prod(op.input_shape) / count,
        "update": PRODUCT + update + MOVED * op.parameters[0].size / count,
    }


def _dense(inputs: int, units: int) -> dict[str, float]:
    """Weights are loaded once each; updated ones are stored, and their steps are the products of the rate and the gradients."""
    return {
        "forward": PRODUCT + 1 / RUN + 1 / min(units, SUMS) + OUTPUT / inputs,
        "gradient": PRODUCT + 1 / RUN + 1 / min(inputs, SUMS) + MASKED / units,
        "update": PRODUCT + 2 / RUN + 1 / min(units, SUMS) + 1 / inputs,
    }


def _tiles(pixels: int, depth: int) -> Iterable[tuple[int, int]]:
    return ((a, b) for a in range(1, min(pixels, SUMS) + 1) for b in range(1, min(depth, SUMS // a) + 1))


def _shared(pixels: int, filters: int, elements: int, stride: int) -> float:
    """Loads per product of a tile of neighbouring outputs, for one kernel row of one channel: values and weights."""
    values = (pixels - 1) * min(stride, elements) + elements
    return (values + elements * filters) / (pixels * filters * elements)


def _shared_back(pixels: int, channels: int, elements: int, stride: int) -> float:
    """The same for neighbouring inputs, beginning where they share most: gradients of outputs, and weights."""
    found = []
    for first in range(stride):
        inputs = range(first, first + pixels)
        pairs = [(place, element) for place in inputs for element in range(elements) if (place - element) % stride == 0]
        if pairs:
            outputs, used = ({(place - element) // stride for place, element in pairs}, {element for _, element in pairs})
            found.append((len(outputs) + len(used) * channels) / (len(pairs) * channels))
    return min(found)


def _shared_sums(rows: int, elements: int, channels: int, filters: int, stride: int) -> float:
    """Loads per product of the sums of some kernel rows, for one output pixel after the other: new values and gradients."""
    values = rows * min(stride, elements) * channels
    return (values + filters) / (rows * elements * channels * filters)
