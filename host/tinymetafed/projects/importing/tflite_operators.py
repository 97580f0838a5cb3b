"""Reads the operators of float TensorFlow Lite files: each as layers of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ...runs.tensorflow import ModelFileError
from .kernels_with_zeros import spread, spread_channels, spread_groups
from .network import AFFINE, PAD, VIEWS, Array, Keys, Part, PRelu, Shape, extents, finite, gelu, leaky_relu, margins_of, reshape
from .tflite_format import PADDINGS, Reader, shortest

_MERGES = {"ADD": "add", "ADD_N": "add", "SUB": "subtract", "MUL": "multiply", "MAXIMUM": "maximum", "MINIMUM": "minimum"}
_ELEMENTWISE = {
    "RELU": "relu",
    "RELU6": "relu6",
    "LOGISTIC": "sigmoid",
    "TANH": "tanh",
    "HARD_SWISH": "hard_swish",
    "ELU": "elu",
}


def _weights(reader: Reader, tensor: int, where: str) -> Array:
    """A tensor's constant weights. Raises ModelFileError if it is computed."""
    value = reader.constant(tensor)
    if value is None:
        raise ModelFileError(f"{where}: its weights are computed, expected constants; convert a trained, frozen model")
    return finite(value, where)


def _bias(reader: Reader, operator: Any, outputs: int, where: str) -> Array:
    """An operator's third input, zeros if it has none."""
    given = [int(each) for each in operator.inputs[2:] if each >= 0]
    return _weights(reader, given[0], where) if given else np.zeros(outputs)


def _window(options: Any, kernel: Array, filters: int) -> Keys:
    """The keys of a convolution with a kernel [rows, columns, channels, filters]; a depthwise one has no ``filters``."""
    keys: Keys = {"kernel": extents(kernel.shape[:2]), "padding": PADDINGS[options.padding]}
    if filters:
        keys = {"filters": filters, **keys}
    stride = extents((options.strideH, options.strideW))
    return keys if stride == 1 else keys | {"stride": stride}


def _dilation(options: Any) -> tuple[tuple[int, int], str]:
    dilation = (options.dilationHFactor, options.dilationWFactor)
    return dilation, "" if dilation == (1, 1) else f"dilation = {list(dilation)}"


def _in_rows(reader: Reader, operator: Any, kernel: Array) -> Shape | None:
    """The shape of a dilated sequence as an image whose columns are the phases of the dilation; None where it cannot be one.

    There the dilated kernel becomes one of some rows, which has no zeros and may train.
    """
    options, source = operator.builtinOptions, int(operator.inputs[0])
    image, below, dilation = reader.shape(source), reader.made[source], options.dilationWFactor
    is_sequence = image[0] == kernel.shape[0] == 1 and dilation > 1 and (options.strideH, options.strideW) == (1, 1)
    while below is not None and below.op in VIEWS:
        below = below.inputs[0]
    margins = margins_of(below)[-1] if below is not None and below.op == PAD else ()
    if not is_sequence or PADDINGS[options.padding] != "valid" or any(each % dilation for each in (image[1], *margins)):
        return None
    return image[1] // dilation, dilation, image[2]


def _back(view: Shape, kernel: Array, channels: int) -> Part:
    """The change of shape behind the convolution of an image of ``_in_rows``: to one row again."""
    return Part(reshape((1, (view[0] - kernel.shape[1] + 1) * view[1], channels)))


def _conv(reader: Reader, operator: Any, where: str) -> list[Part]:
    options = operator.builtinOptions
    kernel = _weights(reader, int(operator.inputs[1]), where).transpose(1, 2, 3, 0)
    channels, filters = reader.shape(int(operator.inputs[0]))[-1], kernel.shape[3]
    if channels % kernel.shape[2]:
        raise ModelFileError(f"{where}: a kernel of {kernel.shape[2]} channels on {channels}; convert the model again")
    groups = channels // kernel.shape[2]
    dilation, with_zeros = _dilation(options)
    if groups == 1 and (view := _in_rows(reader, operator, kernel)):
        part = Part({"op": "conv2d", "filters": filters, "kernel": [kernel.shape[1], 1], "padding": "valid"},
                    {".kernel": kernel.transpose(1, 0, 2, 3), ".bias": _bias(reader, operator, filters, where)})  # fmt: skip
        return [Part(reshape(view)), part, _back(view, kernel, filters)]
    wide = spread(spread_groups(kernel, groups), dilation)
    with_zeros = f"groups = {groups}" if groups > 1 else with_zeros
    arrays = {".kernel": wide, ".bias": _bias(reader, operator, filters, where)}
    return [Part({"op": "conv2d", **_window(options, wide, filters)}, arrays, with_zeros)]


def _depthwise(reader: Reader, operator: Any, where: str) -> list[Part]:
    options = operator.builtinOptions
    kernel = _weights(reader, int(operator.inputs[1]), where)
    channels = reader.shape(int(operator.inputs[0]))[-1]
    dilation, with_zeros = _dilation(options)
    kernel = kernel.reshape(*kernel.shape[1:3], channels, -1)
    multiplier = kernel.shape[3]
    if multiplier == 1 and (view := _in_rows(reader, operator, kernel)):
        part = Part({"op": "depthwise_conv2d", "kernel": [kernel.shape[1], 1], "padding": "valid"},
                    {".kernel": kernel.transpose(1, 0, 2, 3), ".bias": _bias(reader, operator, channels, where)})  # fmt: skip
        return [Part(reshape(view)), part, _back(view, kernel, channels)]
    kernel = spread(kernel, dilation)
    arrays = {".kernel": kernel, ".bias": _bias(reader, operator, channels * multiplier, where)}
    if multiplier == 1:
        return [Part({"op": "depthwise_conv2d", **_window(options, kernel, 0)}, arrays, with_zeros)]
    arrays[".kernel"] = spread_channels(kernel)
    keys: Keys = {"op": "conv2d", **_window(options, kernel, channels * multiplier)}
    return [Part(keys, arrays, f"depth multiplier {multiplier}" if channels > 1 else with_zeros)]


def _dense(reader: Reader, operator: Any, where: str) -> list[Part]:
    kernel = _weights(reader, int(operator.inputs[1]), where).T
    shape, (inputs, units) = reader.shape(int(operator.inputs[0])), kernel.shape
    # The converter may write the sum with another layer as a bias that this layer computes.
    added = any(int(each) in reader.made for each in operator.inputs[2:])
    bias = np.zeros(units) if added else _bias(reader, operator, units, where)
    behind = [Part({"op": "add"})] if added else []
    if len(shape) == 1 or int(np.prod(shape)) == inputs:
        first = [] if len(shape) == 1 else [Part({"op": "flatten"})]
        return [*first, Part({"op": "dense", "units": units}, {".kernel": kernel, ".bias": bias}), *behind]
    if shape[-1] != inputs or len(shape) > 3:
        raise ModelFileError(f"{where}: {inputs} inputs on a tensor of {list(shape)}; flatten it first")
    axes = len(shape) - 1  # along the last axis: a convolution with a kernel of one pixel
    keys: Keys = {"op": f"conv{axes}d", "filters": units, "kernel": 1}
    return [Part(keys, {".kernel": kernel.reshape(*(1,) * axes, inputs, units), ".bias": bias}), *behind]


def _pool(op: str) -> Callable[[Reader, Any, str], list[Part]]:
    def read_pool(reader: Reader, operator: Any, where: str) -> list[Part]:
        options = operator.builtinOptions
        size = extents((options.filterHeight, options.filterWidth))
        stride = extents((options.strideH, options.strideW))
        return [Part({"op": op, "size": size, "stride": stride, "padding": PADDINGS[options.padding]})]

    return read_pool


def _over_pixels(reader: Reader, operator: Any, where: str) -> Shape:
    """The shape of the input of an operator over all axes but the channels. Raises ModelFileError for other axes."""
    axes = reader.constant(int(operator.inputs[1]))
    source = int(operator.inputs[0])
    shape = reader.shape(source)
    rank = len(shape) + 1
    if axes is None or sorted(int(axis) % rank for axis in np.ravel(axes)) != list(range(1, rank - 1)):
        raise ModelFileError(f"{where}: over other axes than all but the channels; use a global pool")
    return shape


def _mean(reader: Reader, operator: Any, where: str) -> list[Part]:
    _over_pixels(reader, operator, where)
    return [Part({"op": "global_avg_pool"})]


def _largest(reader: Reader, operator: Any, where: str) -> list[Part]:
    shape = _over_pixels(reader, operator, where)
    image = (1,) * (3 - len(shape)) + shape
    first = [] if image == shape else [Part(reshape(image))]
    return [*first, Part({"op": "max_pool", "size": extents(image[:2])})]


def _pad(reader: Reader, operator: Any, where: str) -> list[Part]:
    margins = reader.constant(int(operator.inputs[1]))
    value = reader.constant(int(operator.inputs[2])) if len(operator.inputs) > 2 else 0
    if margins is None or value is None or np.any(value):
        raise ModelFileError(f"{where}: pads with other values than zeros; pad with zeros, or pad the data instead")
    pairs = [[int(each) for each in pair] for pair in margins]
    if any(pairs[0]) or any(pairs[-1]):
        raise ModelFileError(f"{where}: pads the channels; pad rows and columns only")
    return [Part({"op": PAD, "margins": pairs[1:-1]})]  # type: ignore[dict-item]


def _arithmetic(reader: Reader, operator: Any, where: str, kind: str) -> list[Part]:
    """ADD, SUB or MUL of two tensors, or one of these and DIV with a constant per channel."""
    first, second = (int(each) for each in operator.inputs[:2])
    if first in reader.made and second in reader.made:
        if kind not in _MERGES:
            raise ModelFileError(f"{where}: of two tensors is not supported; the nearest one is MUL")
        return _merge(reader, operator, where, _MERGES[kind])
    constant = _weights(reader, second if first in reader.made else first, where)
    if constant.size not in (1, constant.shape[-1] if constant.ndim else 1):
        raise ModelFileError(f"{where}: a constant of shape {list(constant.shape)}, expected one number or one per channel")
    value = constant.reshape(()) if constant.size == 1 else constant.ravel()
    zero, one = np.zeros(()), np.ones(())
    if second in reader.made and kind == "SUB":
        return [Part({"op": AFFINE}, {"scale": -one, "offset": value})]
    if kind == "DIV":
        if second in reader.made or not value.all():
            raise ModelFileError(f"{where}: divides by what is computed, or by 0; divide by a number, or multiply instead")
        return [Part({"op": AFFINE}, {"scale": one / value, "offset": zero})]
    scale, offset = {"ADD": (one, value), "SUB": (one, -value), "MUL": (value, zero)}[kind]
    return [Part({"op": AFFINE}, {"scale": scale, "offset": offset})]


def _merge(reader: Reader, operator: Any, where: str, op: str) -> list[Part]:
    """An operator of several tensors that the file computes, none of them a constant, all of one number of axes."""
    inputs = [int(each) for each in operator.inputs]
    if not set(inputs) <= set(reader.made):
        raise ModelFileError(f"{where}: of a constant is not supported; use the outputs of two layers")
    if len({len(reader.tensors[each].shape) for each in inputs}) > 1:
        raise ModelFileError(f"{where}: of tensors of different numbers of axes; reshape them to the same number")
    return [Part({"op": op})]


def _concatenation(reader: Reader, operator: Any, where: str) -> list[Part]:
    rank = len(reader.shape(int(operator.inputs[0])))
    axis = int(operator.builtinOptions.axis)
    axis = axis - rank - 1 if axis >= 0 else axis
    if axis == -rank - 1:
        raise ModelFileError(f"{where}: joins samples; join their values along another axis")
    (part,) = _merge(reader, operator, where, "concatenate")
    return [Part(part.keys if axis == -1 else part.keys | {"axis": axis})]


def _elementwise(reader: Reader, operator: Any, where: str, op: str) -> list[Part]:
    return [Part({"op": op})]


def _leaky_relu(reader: Reader, operator: Any, where: str) -> list[Part]:
    return [Part(keys) for keys in leaky_relu(shortest(operator.builtinOptions.alpha))]


def _gelu(reader: Reader, operator: Any, where: str) -> list[Part]:
    return [Part(gelu(bool(operator.builtinOptions.approximate)))]


def _prelu(reader: Reader, operator: Any, where: str) -> list[Part]:
    shape = reader.shape(int(operator.inputs[0]))
    return PRelu.of(_weights(reader, int(operator.inputs[1]), where), shape, where).parts


def _softmax(reader: Reader, operator: Any, where: str) -> list[Part]:
    if operator.builtinOptions.beta != 1:
        raise ModelFileError(f"{where}: beta = {operator.builtinOptions.beta}, expected 1; scale the layer before it")
    return [Part({"op": "softmax"})]


OPERATORS: dict[str, Callable[[Reader, Any, str], list[Part]]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "MAX_POOL_2D": _pool("max_pool"),
    "AVERAGE_POOL_2D": _pool("avg_pool"),
    "MEAN": _mean,
    "REDUCE_MAX": _largest,
    "PAD": _pad,
    "PADV2": _pad,
    "CONCATENATION": _concatenation,
    "LEAKY_RELU": _leaky_relu,
    "GELU": _gelu,
    "PRELU": _prelu,
    "SOFTMAX": _softmax,
    **{kind: partial(_merge, op=op) for kind, op in _MERGES.items()},
    **{kind: partial(_arithmetic, kind=kind) for kind in ("ADD", "SUB", "MUL", "DIV")},
    **{kind: partial(_elementwise, op=op) for kind, op in _ELEMENTWISE.items()},
}
