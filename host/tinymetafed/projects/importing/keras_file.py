"""Reads Keras files (.keras, .h5); settings that the kernels do not support are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runs.tensorflow import ModelFileError, require
from .network import AFFINE, Keys, Layer, Network, extents, finite, unsupported

_IGNORED = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout", "GaussianNoise",
    "ActivityRegularization",
)  # fmt: skip
_ACTIVATIONS = ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "softmax")
_NEAREST = {
    "ELU": "the nearest one is LeakyReLU",
    "PReLU": "the nearest one is LeakyReLU, with a fixed slope",
    "Conv2DTranspose": "the nearest one is Conv2D",
    "ZeroPadding2D": "leave it out and give the layer behind it padding='same'",
    "ZeroPadding1D": "leave it out and give the layer behind it padding='same'",
    "MaxPooling1D": "the nearest one is a Conv1D with strides, or MaxPooling2D over images of one row",
    "AveragePooling1D": "the nearest one is a Conv1D with strides, or AveragePooling2D over images of one row",
    "GlobalMaxPooling2D": "the nearest one is GlobalAveragePooling2D",
    "GlobalMaxPooling1D": "the nearest one is GlobalAveragePooling1D",
    "LayerNormalization": "the nearest one is BatchNormalization behind a layer with weights",
    "Normalization": "the nearest one is Rescaling",
    "SeparableConv1D": "the nearest one is Conv1D",
    "Concatenate": "the nearest one is Add",
}
_LOSSES = {
    "meansquarederror": "mse",
    "mse": "mse",
    "meanabsoluteerror": "mae",
    "mae": "mae",
    "huber": "huber",
    "binarycrossentropy": "binary_crossentropy",
    "categoricalcrossentropy": "softmax_cross_entropy",
    "sparsecategoricalcrossentropy": "softmax_cross_entropy",
}

Arrays = dict[str, npt.ArrayLike]
Part = tuple[Keys, Arrays]


def read(file: Path) -> Network:
    """Reads the network of a Sequential or Functional model. Raises ModelFileError."""
    keras = require("keras", str(file))
    try:
        model = keras.saving.load_model(file)
    except Exception as first:  # Keras may raise any exception
        try:
            model = keras.saving.load_model(file, compile=False)  # its loss or optimizer may not be available here
        except Exception:
            reason = str(first).strip().partition("\n")[0]
            raise ModelFileError(f"{file}: Keras cannot load it: {reason}; save it again with model.save()") from None
    if not isinstance(model, keras.Sequential) and not hasattr(model, "_nodes_by_depth"):
        raise ModelFileError(
            f"{file}: {type(model).__name__} is neither Sequential nor Functional; save it with model.export(FOLDER), and "
            "import the folder"
        )
    if not getattr(model, "inputs", None):
        raise ModelFileError(f"{file}: the model has no input shape; begin it with keras.Input(shape=(28, 28, 1))")
    for what, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        if len(tensors) != 1:
            raise ModelFileError(f"{file}: the model has {len(tensors)} {what}, expected one; save a part of it that has one")
    shape = tuple(model.inputs[0].shape[1:])
    if not shape or None in shape:
        raise ModelFileError(
            f"{file}: layer '{model.layers[0].name}': input shape {list(shape)}, but sizes must be known; "
            "build the model again with keras.Input(shape=(28, 28, 1)) or the like"
        )
    reader = _Reader(keras, Network(str(file), shape, [], _loss(model)))
    last = reader.walk(model, None)
    if last is None or last is not reader.network.layers[-1]:
        raise ModelFileError(f"{file}: the output of the model is not that of its last layer; save it up to its output")
    return reader.network


def _loss(model: Any) -> str | None:
    """The loss that the model was compiled with, None if it is not supported."""
    given = getattr(model, "loss", None)
    name = given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
    return _LOSSES.get(name.replace("_", "").lower())


class _Reader:
    """Collects a model's layers, those of nested models included."""

    def __init__(self, keras: Any, network: Network) -> None:
        self.keras, self.network = keras, network
        self.seen: set[int] = set()
        self.position = 0

    def walk(self, model: Any, source: Layer | None) -> Layer | None:
        """Reads a model whose input is the output of ``source``; returns the layer of its output."""
        if isinstance(model, self.keras.Sequential):
            for layer in model.layers:
                source = self.read(layer, [source])
            return source
        made: dict[int, Layer | None] = {id(tensor): source for tensor in model.inputs}
        for _, nodes in sorted(model._nodes_by_depth.items(), reverse=True):
            for node in nodes:
                tensors = node.arguments.keras_tensors
                if tensors:
                    made[id(node.outputs[0])] = self.read(node.operation, [made[id(tensor)] for tensor in tensors])
        return made[id(model.outputs[0])]

    def read(self, layer: Any, inputs: list[Layer | None]) -> Layer | None:
        """Reads one layer and its activation; returns the layer of its output."""
        kind = type(layer).__name__
        if kind == "InputLayer":
            return inputs[0]
        self.position += 1
        where = f"{self.network.file}: layer {self.position}, '{layer.name}' ({kind})"
        if id(layer) in self.seen:
            raise ModelFileError(f"{where}: used more than once; give each use a layer of its own")
        self.seen.add(id(layer))
        if isinstance(layer, self.keras.Sequential) or hasattr(layer, "_nodes_by_depth"):
            return self.walk(layer, inputs[0])
        if kind in _IGNORED:
            self.network.notes.append(f"layer {self.position}, '{layer.name}' ({kind}): left out, it acts in training only")
            return inputs[0]
        if kind == "Reshape":
            return self.reshape(layer, inputs[0], where)
        if kind not in _LAYERS:
            raise unsupported(where, kind, _LAYERS, _NEAREST)
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            raise ModelFileError(f"{where}: data_format = '{layer.data_format}'; build it with 'channels_last'")
        if getattr(layer, "quantization_mode", None):
            raise ModelFileError(f"{where}: quantised ({layer.quantization_mode}); save the model before model.quantize()")
        keys, arrays = _LAYERS[kind](layer, where)
        current: Layer | None = inputs[0]
        if keys:
            checked = {name: finite(array, where) for name, array in arrays.items()}
            current = self.add(Layer(where, layer.name, keys, inputs[:2], checked, getattr(layer, "trainable", True)))
            for other in inputs[2:]:
                current = self.add(Layer(where, layer.name, dict(keys), [current, other]))
        for keys in _activation(getattr(layer, "activation", None), where):
            current = self.add(Layer(where, layer.name, keys, [current]))
        return current

    def reshape(self, layer: Any, source: Layer | None, where: str) -> Layer | None:
        """Reads a Reshape: of the input it changes the input's shape, to one axis it is a flatten."""
        shape = tuple(layer.target_shape)
        if source is None:
            self.network.input = np.empty(self.network.input).reshape(shape).shape
            return None
        if len(shape) != 1:
            raise ModelFileError(f"{where}: to {list(shape)}; only a Reshape of the input, or to one axis, is supported")
        return self.add(Layer(where, layer.name, {"op": "flatten"}, [source]))

    def add(self, layer: Layer) -> Layer:
        """Adds a layer to the network."""
        self.network.layers.append(layer)
        return layer


def _only(layer: Any, where: str, remedy: str, **expected: Any) -> None:
    """Refuses settings other than the expected ones."""
    for key, value in expected.items():
        given = getattr(layer, key, value)
        if given != value and not (isinstance(given, tuple) and set(given) == {value}):
            raise ModelFileError(f"{where}: {key} = {given}, expected {value}; {remedy}")


def _array(variable: Any, default: Any = None) -> Any:
    """A layer's weights as a NumPy array; the default if it has none."""
    return default if variable is None else variable.numpy() if hasattr(variable, "numpy") else np.asarray(variable)


def _padding(layer: Any, where: str) -> str:
    if layer.padding not in ("same", "valid"):
        raise ModelFileError(f"{where}: padding = '{layer.padding}'; build it with 'same' or 'valid'")
    return str(layer.padding)


def _window(layer: Any, where: str) -> Keys:
    """The keys of a convolution."""
    _only(layer, where, "build it with strides instead", dilation_rate=1)
    _only(layer, where, "split it into layers, or use DepthwiseConv2D", groups=1)
    keys: Keys = {"kernel": extents(layer.kernel_size), "padding": _padding(layer, where)}
    stride = extents(layer.strides)
    return keys if stride == 1 else keys | {"stride": stride}


def _kernel_and_bias(layer: Any, kernel: Any, outputs: int) -> Arrays:
    return {".kernel": kernel, ".bias": _array(layer.bias if layer.use_bias else None, np.zeros(outputs))}


def _dense(layer: Any, where: str) -> Part:
    return {"op": "dense", "units": layer.units}, _kernel_and_bias(layer, _array(layer.kernel), layer.units)


def _conv(op: str) -> Callable[[Any, str], Part]:
    def read_conv(layer: Any, where: str) -> Part:
        keys: Keys = {"op": op, "filters": layer.filters, **_window(layer, where)}
        return keys, _kernel_and_bias(layer, _array(layer.kernel), layer.filters)

    return read_conv


def _depthwise_conv2d(layer: Any, where: str) -> Part:
    kernel = _array(layer.kernel)  # [rows, columns, channels, multiplier]
    channels, multiplier = kernel.shape[2:]
    arrays = _kernel_and_bias(layer, kernel, channels * multiplier)
    if channels == 1 and multiplier > 1:  # one channel: the same as a conv2d
        return {"op": "conv2d", "filters": multiplier, **_window(layer, where)}, arrays
    _only(layer, where, "use SeparableConv2D or Conv2D for more channels", depth_multiplier=1)
    return {"op": "depthwise_conv2d", **_window(layer, where)}, arrays


def _separable_conv2d(layer: Any, where: str) -> Part:
    _only(layer, where, "use a layer with one depthwise kernel per channel", depth_multiplier=1)
    depthwise = _array(layer.depthwise_kernel)
    arrays: Arrays = {
        "_depthwise.kernel": depthwise,
        "_depthwise.bias": np.zeros(depthwise.shape[2]),  # Keras has a bias after the pointwise kernel only
        "_pointwise.kernel": _array(layer.pointwise_kernel),
        "_pointwise.bias": _array(layer.bias if layer.use_bias else None, np.zeros(layer.filters)),
    }
    return {"op": "separable_conv2d", "filters": layer.filters, **_window(layer, where)}, arrays


def _pool(op: str) -> Callable[[Any, str], Part]:
    def read_pool(layer: Any, where: str) -> Part:
        keys: Keys = {"op": op, "size": extents(layer.pool_size), "stride": extents(layer.strides)}
        return keys | {"padding": _padding(layer, where)}, {}

    return read_pool


def _batch_normalization(layer: Any, where: str) -> Part:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if axis not in (-1, layer.input_spec.ndim - 1):
        raise ModelFileError(f"{where}: axis = {axis}; build it with axis=-1, the channels")
    variance, mean = (finite(_array(each), where) for each in (layer.moving_variance, layer.moving_mean))
    scale = _array(layer.gamma if layer.scale else None, 1.0) / np.sqrt(variance + layer.epsilon)
    return {"op": AFFINE}, {"scale": scale, "offset": _array(layer.beta if layer.center else None, 0.0) - mean * scale}


def _rescaling(layer: Any, where: str) -> Part:
    return {"op": AFFINE}, {"scale": layer.scale, "offset": layer.offset}


def _relu(layer: Any, where: str) -> Part:
    _only(layer, where, "use ReLU(), ReLU(6) or LeakyReLU()", threshold=0)
    slope = float(layer.negative_slope)
    if layer.max_value is None:
        return ({"op": "leaky_relu", "slope": slope} if slope else {"op": "relu"}), {}
    _only(layer, where, "use ReLU(), ReLU(6) or LeakyReLU()", max_value=6, negative_slope=0)
    return {"op": "relu6"}, {}


def _softmax(layer: Any, where: str) -> Part:
    _only(layer, where, "use the last axis", axis=-1)
    return {"op": "softmax"}, {}


def _activation(activation: Any, where: str) -> list[Keys]:
    """The keys of the layer that an ``activation`` means; empty for none."""
    if activation is None:
        return []
    kind = type(activation).__name__
    if kind in ("ReLU", "LeakyReLU", "Softmax"):  # a layer instead of a function
        return [_LAYERS[kind](activation, where)[0]]
    name = getattr(activation, "__name__", kind)
    if name == "linear":
        return []
    if name not in _ACTIVATIONS:
        raise unsupported(where, f"activation '{name}'", [f"activation '{each}'" for each in _ACTIVATIONS], {})
    return [{"op": "leaky_relu", "slope": 0.2} if name == "leaky_relu" else {"op": name}]


# Empty keys: the layer only has an activation.
_LAYERS: dict[str, Callable[[Any, str], Part]] = {
    "Dense": _dense,
    "Conv2D": _conv("conv2d"),
    "Conv1D": _conv("conv1d"),
    "DepthwiseConv2D": _depthwise_conv2d,
    "SeparableConv2D": _separable_conv2d,
    "MaxPooling2D": _pool("max_pool"),
    "AveragePooling2D": _pool("avg_pool"),
    "GlobalAveragePooling2D": lambda layer, where: ({"op": "global_avg_pool"}, {}),
    "GlobalAveragePooling1D": lambda layer, where: ({"op": "global_avg_pool"}, {}),
    "Flatten": lambda layer, where: ({"op": "flatten"}, {}),
    "Add": lambda layer, where: ({"op": "add"}, {}),
    "ReLU": _relu,
    "LeakyReLU": lambda layer, where: ({"op": "leaky_relu", "slope": float(layer.negative_slope)}, {}),
    "Softmax": _softmax,
    "Activation": lambda layer, where: ({}, {}),
    "BatchNormalization": _batch_normalization,
    "Rescaling": _rescaling,
}
