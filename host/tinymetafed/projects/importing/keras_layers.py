"""Each kind of Keras layer as layers of an experiment; settings that the kernels do not support are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymetafed_codegen import ops
from tinymetafed_codegen.section import TomlValue

from ...runs.tensorflow import ModelFileError
from .kernels_with_zeros import spread, spread_channels, spread_groups
from .network import AFFINE, PAD, Arrays, Keys, Part, PRelu, Shape, elu, extents, finite, gelu, leaky_relu, reshape, unsupported

# The names of activations in an experiment, by those in Keras, and Keras' names by their classes in keras.ops.
_ACTIVATIONS = {"hard_silu" if name == "hard_swish" else name: name for name in ops.ACTIVATIONS}
_OF_OPERATIONS = {name.title().replace("_", ""): name for name in _ACTIVATIONS}
# Activations that are not supported, with the one that does nearly the same.
_NEAREST_ACTIVATION = {
    "activation 'celu'": "the nearest one is 'elu'",
    "activation 'mish'": "the nearest one is 'silu'",
    "activation 'exponential'": "the nearest one is 'softplus'",
    "activation 'log_sigmoid'": "the nearest one is 'sigmoid'",
    "activation 'softsign'": "the nearest one is 'tanh'",
    "activation 'hard_tanh'": "the nearest one is 'tanh'",
    "activation 'tanh_shrink'": "the nearest one is 'tanh'",
    "activation 'log_softmax'": "the nearest one is 'softmax'",
    "activation 'sparsemax'": "the nearest one is 'softmax'",
}
_NEAREST = {
    "Conv2DTranspose": "the nearest one is Conv2D behind a Reshape",
    "Conv1DTranspose": "the nearest one is Conv1D behind a Reshape",
    "Conv3D": "the nearest one is Conv2D, with the third axis among the channels",
    "UpSampling2D": "leave it out, and let the layers before it keep the size",
    "UpSampling1D": "leave it out, and let the layers before it keep the size",
    "Cropping2D": "crop the data instead, or use padding='valid'",
    "Cropping1D": "crop the data instead, or use padding='valid'",
    "Lambda": "use a layer of keras.layers in its place",
    "RandomCrop": "crop the data instead",
    "CenterCrop": "crop the data instead",
    "Resizing": "resize the data instead, and begin the model with an input of that size",
    "Solarization": "change the data instead",
    "AutoContrast": "change the data instead",
    "Equalization": "change the data instead",
    "LayerNormalization": "the nearest one is BatchNormalization behind a layer with weights",
    "GroupNormalization": "the nearest one is BatchNormalization behind a layer with weights",
    "UnitNormalization": "the nearest one is BatchNormalization behind a layer with weights",
    "Dot": "the nearest one is Multiply",
    "LSTM": "the nearest one is Conv1D over the window, then GlobalAveragePooling1D",
    "GRU": "the nearest one is Conv1D over the window, then GlobalAveragePooling1D",
    "SimpleRNN": "the nearest one is Conv1D over the window, then GlobalAveragePooling1D",
    "Bidirectional": "the nearest one is Conv1D over the window, then GlobalAveragePooling1D",
    "MultiHeadAttention": "the nearest one is Conv1D over the window",
    "TimeDistributed": "the nearest one is the same layer without it: Dense and Conv1D work along the last axis",
    "Embedding": "give the model numbers instead of words",
    "Permute": "reorder the axes of the data instead",
    "Masking": "leave it out, and give the model windows without padding",
    "RepeatVector": "leave it out, and let the layers behind it read the vector itself",
}

# From a Keras layer, the shape of its input, and file and layer for errors, to layers of an experiment.
Read = Callable[[Any, Shape, str], list[Part]]


def _only(layer: Any, where: str, remedy: str, **expected: Any) -> None:
    """Refuses settings other than the expected ones."""
    for key, value in expected.items():
        given = getattr(layer, key, value)
        if given != value and not (isinstance(given, tuple) and set(given) == {value}):
            raise ModelFileError(f"{where}: {key} = {given}, expected {value}; {remedy}")


def _array(variable: Any, default: Any = None) -> Any:
    """A layer's weights as a NumPy array; the default if it has none."""
    return default if variable is None else variable.numpy() if hasattr(variable, "numpy") else np.asarray(variable)


def _padding(layer: Any, where: str) -> TomlValue:
    if layer.padding == "causal":
        reach = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
        return [reach, 0]
    if layer.padding not in ("same", "valid"):
        raise ModelFileError(f"{where}: padding = '{layer.padding}'; build it with 'same' or 'valid'")
    return str(layer.padding)


def _window(layer: Any, where: str, kernel: Any, axes: int) -> Keys:
    """The keys of a convolution whose kernel begins with ``axes`` axes of a window."""
    keys: Keys = {"kernel": extents(kernel.shape[:axes]), "padding": _padding(layer, where)}
    stride = extents(_on_axes(layer.strides, axes, rows=None))  # equal strides, as TensorFlow's depthwise kernels need them
    return keys if stride == 1 else keys | {"stride": stride}


def _on_axes(given: Any, axes: int, rows: int | None = 1) -> tuple[int, ...]:
    """Sizes for each axis; for the row of a sequence as an image ``rows``, or as along the sequence."""
    values = (given,) if isinstance(given, int) else tuple(given)
    return values if len(values) == axes else (values[0] if rows is None else rows, *values)


def _kernel_and_bias(layer: Any, kernel: Any, outputs: int) -> Arrays:
    return {".kernel": kernel, ".bias": _array(layer.bias if layer.use_bias else None, np.zeros(outputs))}


def _dense(layer: Any, shape: Shape, where: str) -> list[Part]:
    kernel = _array(layer.kernel)
    if len(shape) == 1:
        return [Part({"op": "dense", "units": layer.units}, _kernel_and_bias(layer, kernel, layer.units))]
    # Along the last axis: a convolution with a kernel of one pixel.
    axes = len(shape) - 1
    keys: Keys = {"op": f"conv{axes}d", "filters": layer.units, "kernel": 1}
    return [Part(keys, _kernel_and_bias(layer, kernel.reshape(*(1,) * axes, *kernel.shape), layer.units))]


@dataclass(frozen=True)
class _Rows:
    """A sequence as an image whose columns are the phases of a dilation: a dilated kernel is then one of some rows.

    ``shape``: of the image. ``keys``: its convolution's kernel and padding. ``behind``: rows of the result.
    """

    shape: Shape
    keys: Keys
    behind: int

    def back(self, channels: int) -> Part:
        """The change of shape behind the convolution, to a sequence again."""
        return Part(reshape((self.behind * self.shape[1], channels)))


def _in_rows(layer: Any, shape: Shape, size: int) -> _Rows | None:
    """A dilated sequence of ``shape`` as an image, for a kernel of ``size`` steps.

    None without a dilation, if the length is no multiple of it, or if padding adds more zeros behind the sequence than before.
    """
    dilation = layer.dilation_rate if isinstance(layer.dilation_rate, int) else layer.dilation_rate[0]
    before = {"valid": 0, "causal": size - 1, "same": (size - 1) / 2}.get(layer.padding, 0.5)
    if dilation == 1 or shape[0] % dilation or before % 1:
        return None
    rows, first = shape[0] // dilation, int(before)
    after = first if layer.padding == "same" else 0
    behind = rows + first + after - size + 1
    padding: TomlValue = [[first, 0], [0, 0]] if layer.padding == "causal" else layer.padding
    return None if behind < 1 else _Rows((rows, dilation, shape[1]), {"kernel": [size, 1], "padding": padding}, behind)


def _conv(axes: int) -> Read:
    def read_conv(layer: Any, shape: Shape, where: str) -> list[Part]:
        if axes == 1 and layer.groups == 1 and (rows := _in_rows(layer, shape, layer.kernel_size[0])):
            arrays = _kernel_and_bias(layer, _array(layer.kernel)[:, None], layer.filters)
            convolution = Part({"op": "conv2d", "filters": layer.filters, **rows.keys}, arrays)
            return [Part(reshape(rows.shape)), convolution, rows.back(layer.filters)]
        grouped = spread_groups(_array(layer.kernel), layer.groups)
        kernel = spread(grouped, _on_axes(layer.dilation_rate, axes))
        keys: Keys = {"op": f"conv{axes}d", "filters": layer.filters, **_window(layer, where, kernel, axes)}
        with_zeros = f"groups = {layer.groups}" if layer.groups != 1 else _dilation(layer)
        return [Part(keys, _kernel_and_bias(layer, kernel, layer.filters), with_zeros)]

    return read_conv


def _dilation(layer: Any) -> str:
    dilation = getattr(layer, "dilation_rate", 1)
    return f"dilation_rate = {dilation}" if np.prod(dilation) != 1 else ""


def _depthwise(axes: int) -> Read:
    def read_depthwise(layer: Any, shape: Shape, where: str) -> list[Part]:
        kernel = _array(layer.kernel)  # [rows, columns, channels, multiplier]; of a sequence without rows
        if axes == 1 and kernel.shape[2] == 1 and (rows := _in_rows(layer, shape, kernel.shape[0])):
            arrays = _kernel_and_bias(layer, kernel[:, None], shape[1])
            return [Part(reshape(rows.shape)), Part({"op": "depthwise_conv2d", **rows.keys}, arrays), rows.back(shape[1])]
        first = [] if axes == 2 else [Part(reshape((1, *shape)))]
        kernel = kernel if axes == 2 else kernel[None]
        return [
            *first,
            _depthwise_part(layer, kernel, where, _kernel_and_bias(layer, kernel, kernel.shape[2] * kernel.shape[3])),
        ]

    return read_depthwise


def _depthwise_part(layer: Any, kernel: Any, where: str, arrays: Arrays) -> Part:
    """A depthwise convolution with several filters per channel is a convolution whose other weights are 0."""
    kernel = spread(kernel, _on_axes(layer.dilation_rate, 2))
    channels, multiplier = kernel.shape[2:]
    window = _window(layer, where, kernel, 2)
    if multiplier == 1:
        return Part({"op": "depthwise_conv2d", **window}, arrays | {".kernel": kernel}, _dilation(layer))
    keys: Keys = {"op": "conv2d", "filters": channels * multiplier, **window}
    with_zeros = f"depth_multiplier = {multiplier}" if channels > 1 else _dilation(layer)
    return Part(keys, arrays | {".kernel": spread_channels(kernel)}, with_zeros)


def _separable(axes: int) -> Read:
    def read_separable(layer: Any, shape: Shape, where: str) -> list[Part]:
        first = [] if axes == 2 else [Part(reshape((1, *shape)))]
        depthwise, pointwise = _array(layer.depthwise_kernel), _array(layer.pointwise_kernel)
        if axes == 1:
            depthwise, pointwise = depthwise[None], pointwise[None]
        bias = _array(layer.bias if layer.use_bias else None, np.zeros(layer.filters))
        outputs = depthwise.shape[2] * depthwise.shape[3]
        pointwise_keys: Keys = {"op": "conv2d", "filters": layer.filters, "kernel": 1}
        pointwise_part = Part(pointwise_keys, {".kernel": pointwise, ".bias": bias})
        if axes == 1 and outputs == shape[1] and (rows := _in_rows(layer, shape, depthwise.shape[1])):
            spatial_arrays: Arrays = {".kernel": depthwise.transpose(1, 0, 2, 3), ".bias": np.zeros(outputs)}
            spatial = Part({"op": "depthwise_conv2d", **rows.keys}, spatial_arrays)
            return [Part(reshape(rows.shape)), spatial, pointwise_part, rows.back(layer.filters)]
        if depthwise.shape[3] == 1 and not _dilation(layer):
            arrays: Arrays = {
                "_depthwise.kernel": depthwise,
                "_depthwise.bias": np.zeros(outputs),  # Keras has a bias after the pointwise kernel only
                "_pointwise.kernel": pointwise,
                "_pointwise.bias": bias,
            }
            keys: Keys = {"op": "separable_conv2d", "filters": layer.filters, **_window(layer, where, depthwise, 2)}
            return [*first, Part(keys, arrays)]
        spatial = _depthwise_part(layer, depthwise, where, {".bias": np.zeros(outputs)})
        return [*first, spatial, pointwise_part]

    return read_separable


def _pool(op: str, axes: int) -> Read:
    def read_pool(layer: Any, shape: Shape, where: str) -> list[Part]:
        first = [] if axes == 2 else [Part(reshape((1, *shape)))]
        size, stride = (extents(_on_axes(each, 2)) for each in (layer.pool_size, layer.strides))
        return [*first, Part({"op": op, "size": size, "stride": stride, "padding": _padding(layer, where)})]

    return read_pool


def _global_max_pool(layer: Any, shape: Shape, where: str) -> list[Part]:
    image = (1,) * (3 - len(shape)) + shape
    first = [] if image == shape else [Part(reshape(image))]
    return [*first, Part({"op": "max_pool", "size": extents(image[:2])})]


def _concatenate(layer: Any, shape: Shape, where: str) -> list[Part]:
    return [Part(concatenation(layer.axis, len(shape), where))]


def concatenation(axis: int, rank: int, where: str) -> Keys:
    """The keys of a concatenation of tensors of ``rank`` axes. Keras counts the axis of the samples as well."""
    if axis in (0, -rank - 1):
        raise ModelFileError(f"{where}: axis = {axis} joins samples; join their values along another axis")
    last = axis in (-1, rank)
    return {"op": "concatenate"} if last else {"op": "concatenate", "axis": axis if axis < 0 else axis - rank - 1}


def _plain(op: str) -> Read:
    return lambda layer, shape, where: [Part({"op": op})]


def _batch_normalization(layer: Any, shape: Shape, where: str) -> list[Part]:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if axis not in (-1, layer.input_spec.ndim - 1):
        raise ModelFileError(f"{where}: axis = {axis}; build it with axis=-1, the channels")
    variance, mean = (finite(_array(each), where) for each in (layer.moving_variance, layer.moving_mean))
    scale = _array(layer.gamma if layer.scale else None, 1.0) / np.sqrt(variance + layer.epsilon)
    offset = _array(layer.beta if layer.center else None, 0.0) - mean * scale
    return [Part({"op": AFFINE}, {"scale": scale, "offset": offset})]


def _normalization(layer: Any, shape: Shape, where: str) -> list[Part]:
    _only(layer, where, "use it without invert", invert=False)
    mean, variance = (finite(_array(each), where) for each in (layer.mean, layer.variance))
    values = {"mean": mean, "variance": variance}
    if any(array.size not in (1, array.shape[-1]) for array in values.values()):
        raise ModelFileError(f"{where}: axis = {layer.axis}; build it with axis=-1, the channels")
    scale = 1 / np.maximum(np.sqrt(np.squeeze(variance)), 1e-7)  # Keras' epsilon
    return [Part({"op": AFFINE}, {"scale": scale, "offset": -np.squeeze(mean) * scale})]


def _rescaling(layer: Any, shape: Shape, where: str) -> list[Part]:
    return [Part({"op": AFFINE}, {"scale": np.squeeze(layer.scale), "offset": np.squeeze(layer.offset)})]


def _zeros(layer: Any, shape: Shape, where: str) -> list[Part]:
    pairs = layer.padding if isinstance(layer.padding[0], tuple | list) else [layer.padding]
    return [Part({"op": PAD, "margins": [[int(each) for each in pair] for pair in pairs]})]


def _relu(layer: Any, shape: Shape, where: str) -> list[Part]:
    _only(layer, where, "use ReLU(), ReLU(6) or LeakyReLU()", threshold=0)
    if layer.max_value is None:
        return _sloped(float(layer.negative_slope))
    _only(layer, where, "use ReLU(), ReLU(6) or LeakyReLU()", max_value=6, negative_slope=0)
    return [Part({"op": "relu6"})]


def _leaky_relu(layer: Any, shape: Shape, where: str) -> list[Part]:
    return _sloped(float(layer.negative_slope))


def _sloped(slope: float) -> list[Part]:
    return [Part(keys) for keys in leaky_relu(slope)]


def _elu(layer: Any, shape: Shape, where: str) -> list[Part]:
    return [Part(elu(float(layer.alpha)))]


def _prelu(layer: Any, shape: Shape, where: str) -> list[Part]:
    return PRelu.of(finite(_array(layer.alpha), where), shape, where).parts


def _softmax(layer: Any, shape: Shape, where: str) -> list[Part]:
    _only(layer, where, "use the last axis", axis=-1)
    return [Part({"op": "softmax"})]


def activation_keys(activation: Any, where: str) -> list[Keys]:
    """The keys of the layer that an ``activation`` means; empty for none."""
    if activation is None:
        return []
    kind = type(activation).__name__
    if kind in ("ReLU", "LeakyReLU", "Softmax", "ELU"):  # a layer instead of a function
        return [part.keys for part in LAYERS[kind](activation, (), where)]
    name = getattr(activation, "__name__", kind)
    if name == "linear":
        return []
    if name not in _ACTIVATIONS:
        known = [f"'{each}'" for each in _ACTIVATIONS]
        raise unsupported(where, f"activation '{name}'", known, _NEAREST_ACTIVATION)
    return [{"op": "leaky_relu", "slope": 0.2} if name == "leaky_relu" else {"op": _ACTIVATIONS[name]}]


def operation_keys(operation: Any) -> list[Keys] | None:
    """The keys of the layers that an operation of keras.ops means; None if it is no activation that is supported."""
    name = _OF_OPERATIONS.get(type(operation).__name__)
    if name is None or getattr(operation, "axis", -1) != -1:
        return None
    if name == "elu":
        return [elu(float(operation.alpha))]
    if name == "gelu":
        return [gelu(bool(operation.approximate))]
    if name == "leaky_relu":
        return leaky_relu(float(operation.negative_slope))
    return [{"op": _ACTIVATIONS[name]}]


def refuse(kind: str, where: str) -> ModelFileError:
    """The error for a kind of layer that is not supported."""
    return unsupported(where, kind, LAYERS, _NEAREST)


LAYERS: dict[str, Read] = {
    "Dense": _dense,
    "Conv2D": _conv(2),
    "Conv1D": _conv(1),
    "DepthwiseConv2D": _depthwise(2),
    "DepthwiseConv1D": _depthwise(1),
    "SeparableConv2D": _separable(2),
    "SeparableConv1D": _separable(1),
    "ZeroPadding2D": _zeros,
    "ZeroPadding1D": _zeros,
    "MaxPooling2D": _pool("max_pool", 2),
    "MaxPooling1D": _pool("max_pool", 1),
    "AveragePooling2D": _pool("avg_pool", 2),
    "AveragePooling1D": _pool("avg_pool", 1),
    "GlobalMaxPooling2D": _global_max_pool,
    "GlobalMaxPooling1D": _global_max_pool,
    "GlobalAveragePooling2D": _plain("global_avg_pool"),
    "GlobalAveragePooling1D": _plain("global_avg_pool"),
    "Flatten": _plain("flatten"),
    "Add": _plain("add"),
    "Subtract": _plain("subtract"),
    "Multiply": _plain("multiply"),
    "Average": _plain("average"),
    "Maximum": _plain("maximum"),
    "Minimum": _plain("minimum"),
    "Concatenate": _concatenate,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "PReLU": _prelu,
    "Softmax": _softmax,
    "Activation": lambda layer, shape, where: [],  # only what its activation means
    "BatchNormalization": _batch_normalization,
    "Normalization": _normalization,
    "Rescaling": _rescaling,
}
