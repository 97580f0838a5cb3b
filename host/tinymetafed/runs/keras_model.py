"""Converts a graph with its weights to a Keras model or a TensorFlow Lite file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.design import kernel_and_bias
from tinymetafed_codegen.graph import Graph
from tinymetafed_codegen.ops import Op, RunningStatistics
from tinymetafed_codegen.ops.running_statistics import LARGEST_OUTPUT, LEAST_VARIANCE
from tinymetafed_codegen.ops.window import Axis
from tinymetafed_codegen.temporary import temporary_folder

from .tensorflow import require


def build(
    net: Graph,
    arrays: Mapping[str, npt.NDArray[Any]],
    batch: int | None = None,
    dtype: str = "float32",
    activation: str = "",
    what: str = "a Keras model",
) -> Any:
    """Builds the keras.Model of a graph.

    Args:
        net: The graph.
        arrays: All weights, by names such as dense1.kernel.
        batch: Batch size of the input; None for any.
        dtype: Dtype of all layers.
        activation: An activation to end in, "" for none: that of a loss that takes logits.
        what: What is made of it, for the error's text.

    Returns:
        A model with the input [batch, *input shape]. Its output is that of the last layer: logits where the loss applies
        the activation.

    Raises:
        ModelFileError: TensorFlow is not installed.
    """
    keras = require("keras", what)
    first = keras.Input(batch_shape=(batch, *net.input.shape), dtype=dtype)
    values = {net.input.name: first}

    def seen(tensor: Any) -> Any:
        """The tensor in the shape in which a layer reads it; a change of shape is no call of the graph."""
        value = values[tensor.name]
        if value.shape[1:] == tensor.shape:
            return value
        view = keras.layers.Flatten(dtype=dtype) if len(tensor.shape) == 1 else keras.layers.Reshape(tensor.shape, dtype=dtype)
        return view(value)

    for call in net.forward:
        if call.other is not None:
            y = _merge(keras, call.op, dtype)([seen(call.x), seen(call.other)])
        else:
            y = _applied(keras, call.op, seen(call.x), [arrays[f"{call.op.name}.{p.name}"] for p in call.op.parameters], dtype)
        values[call.y.name] = y
    last = seen(net.output)
    return keras.Model(first, keras.layers.Activation(activation, dtype=dtype)(last) if activation else last)


def _applied(keras: Any, op: Op, x: Any, weights: list[npt.NDArray[Any]], dtype: str) -> Any:
    """The output of an op's Keras layer with these weights."""
    if op.kind == "affine":
        return _affine(keras, op, x, weights, dtype)
    if isinstance(op, RunningStatistics):
        kernel, bias = _measured(weights)
        scaled = keras.layers.Rescaling(kernel.tolist(), bias.tolist(), name=op.name, dtype=dtype)(x)
        return keras.ops.clip(scaled, -LARGEST_OUTPUT, LARGEST_OUTPUT)
    if op.kind == "gelu":  # a layer Activation has no place for `approximate`
        return keras.activations.gelu(x, approximate=op.approximate)  # type: ignore[attr-defined]
    layer = _layer(keras, op, dtype)
    zeros = _zero_padding(keras, op, dtype)
    y = layer(x if zeros is None else zeros(x))
    layer.set_weights(weights if op.kind != "prelu" else [weights[0].reshape(layer.alpha.shape)])
    return y


def _merge(keras: Any, op: Any, dtype: str) -> Any:
    """The Keras layer of an op that reads two tensors."""
    common = {"name": op.name, "dtype": dtype}
    if op.kind == "concatenate":
        return keras.layers.Concatenate(op.axis, **common)
    return getattr(keras.layers, op.kind.capitalize())(**common)


def _affine(keras: Any, op: Op, x: Any, weights: list[npt.NDArray[Any]], dtype: str) -> Any:
    """The output of an affine op: constants as Rescaling, weights that train as a BatchNormalization of mean 0, variance 1.

    Both compute x * kernel + bias as our kernels do. Training a BatchNormalization further in Keras adds batch statistics.
    """
    kernel, bias = weights
    if op.frozen:
        layer = keras.layers.Rescaling(kernel.tolist(), bias.tolist(), name=op.name, dtype=dtype)
        y = layer(x)
    else:
        layer = keras.layers.BatchNormalization(epsilon=0.0, name=op.name, dtype=dtype)
        y = layer(x)
        layer.set_weights([kernel, bias, np.zeros_like(kernel), np.ones_like(kernel)])
    return keras.layers.ReLU(name=f"{op.name}_relu", dtype=dtype)(y) if op.relu else y


def _measured(weights: list[npt.NDArray[Any]]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Kernel and bias of a normalisation by running statistics that stay as they are."""
    _, mean, variance = weights
    scale = np.ones(variance.shape)
    np.divide(1, np.sqrt(variance, dtype=np.float64), out=scale, where=variance > LEAST_VARIANCE)
    return kernel_and_bias([float(each) for each in mean], [float(each) for each in scale])


def keras_file(model: Any) -> bytes:
    """The content of a .keras file."""
    with temporary_folder("export") as folder:
        file = folder / "model.keras"
        model.save(file)
        return file.read_bytes()


def tflite_file(model: Any) -> bytes:
    """The content of a float32 .tflite file. Raises ModelFileError if TensorFlow is not installed."""
    tensorflow = require("tensorflow", "a .tflite file")
    return bytes(tensorflow.lite.TFLiteConverter.from_keras_model(model).convert())


def _layer(keras: Any, op: Any, dtype: str) -> Any:
    """The Keras layer of an op."""
    layers = keras.layers
    common = {"name": op.name, "dtype": dtype}
    weighted = common | {"activation": "relu" if op.relu else None}
    match op.kind:
        case "dense":
            return layers.Dense(op.output_shape[0], **weighted)
        case "conv2d":
            return layers.Conv2D(op.output_shape[2], op.parameters[0].shape[:2], **_window(op), **weighted)
        case "conv1d":
            strides, padding = op.columns.stride, _window(op)["padding"]
            return layers.Conv1D(op.output_shape[1], op.columns.size, strides=strides, padding=padding, **weighted)
        case "depthwise_conv2d":
            return layers.DepthwiseConv2D(op.parameters[0].shape[:2], **_window(op), **weighted)
        case "max_pool":
            return layers.MaxPooling2D((op.rows.size, op.columns.size), **_window(op), **common)
        case "avg_pool":
            return layers.AveragePooling2D((op.rows.size, op.columns.size), **_window(op), **common)
        case "global_avg_pool":
            average = layers.GlobalAveragePooling2D if len(op.input_shape) == 3 else layers.GlobalAveragePooling1D
            return average(**common)
        case "relu6":
            return layers.ReLU(6.0, **common)
        case "prelu":
            return layers.PReLU(shared_axes=list(range(1, len(op.input_shape))) or None, **common)
        case "elu":
            return layers.ELU(op.alpha, **common)
        case "scale":
            return layers.Rescaling(op.factor, **common)
        case "leaky_relu":
            return layers.LeakyReLU(op.slope, **common)
    return layers.Activation(op.kind, **common)


class _Window(TypedDict):
    """Keywords of a Keras layer."""

    strides: tuple[int, int]
    padding: str


def _window(op: Op) -> _Window:
    """Strides and padding of a sliding window; where both kinds of padding fit, they mean the same."""
    rows, columns = op.rows, op.columns  # type: ignore[attr-defined]
    return {"strides": (rows.stride, columns.stride), "padding": "same" if _pads_as_same(op) else "valid"}


def _pads_as_same(op: Op) -> bool:
    axes = (op.rows, op.columns)  # type: ignore[attr-defined]
    return all(axis == Axis.build(axis.length, axis.size, axis.stride, "same") for axis in axes)


def _zero_padding(keras: Any, op: Op, dtype: str) -> Any:
    """The layer of zeros around a convolution's input; None where 'same' or 'valid' says it."""
    if op.kind not in ("conv2d", "depthwise_conv2d", "conv1d") or _pads_as_same(op):
        return None
    rows, columns = op.rows.margins, op.columns.margins  # type: ignore[attr-defined]
    if not any((*rows, *columns)):
        return None
    name = f"{op.name}_zeros"
    if op.kind == "conv1d":
        return keras.layers.ZeroPadding1D(columns, name=name, dtype=dtype)
    return keras.layers.ZeroPadding2D((rows, columns), name=name, dtype=dtype)
