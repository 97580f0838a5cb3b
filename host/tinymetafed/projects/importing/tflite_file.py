"""Reads float TensorFlow Lite files, and SavedModels, which are first converted to TensorFlow Lite."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...runs.tensorflow import ModelFileError, require
from .network import AFFINE, WEIGHTED, Array, Keys, Layer, Network, Shape, extents, finite, unsupported

_FILE_IDENTIFIER = b"TFL3"  # at byte 4
_FLOAT32 = 0
_VIEWS = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
_SHAPE_ARITHMETIC = ("SHAPE", "STRIDED_SLICE", "PACK")  # operators on integers that compute the new shape of a view
_PADDINGS = ("same", "valid")
_FUSED: dict[int, list[Keys]] = {0: [], 1: [{"op": "relu"}], 3: [{"op": "relu6"}], 4: [{"op": "tanh"}]}
_NEAREST = {
    "PAD": "leave it out and give the layer behind it padding 'same'",
    "DEQUANTIZE": "the file is quantised; convert it again without converter.optimizations",
    "QUANTIZE": "the file is quantised; convert it again without converter.optimizations",
    "PRELU": "the nearest one is LEAKY_RELU, with a fixed slope",
    "ELU": "the nearest one is LEAKY_RELU",
    "CONCATENATION": "the nearest one is ADD",
    "REDUCE_MAX": "the nearest one is MEAN over all pixels",
}
_ELEMENTWISE = {"RELU": "relu", "RELU6": "relu6", "LOGISTIC": "sigmoid", "TANH": "tanh"}


def read_saved_model(folder: Path) -> Network:
    """Reads a SavedModel, after conversion to float TensorFlow Lite. Raises ModelFileError."""
    tensorflow = require("tensorflow", str(folder))
    try:
        converter = tensorflow.lite.TFLiteConverter.from_saved_model(str(folder))
        content = converter.convert()
    except Exception as error:  # TensorFlow may raise any exception
        reason = str(error).strip().partition("\n")[0]
        raise ModelFileError(f"{folder}: TensorFlow cannot convert it: {reason}; save it again with model.export()") from None
    with tempfile.TemporaryDirectory(prefix="tinymetafed-import-") as temporary:
        (Path(temporary) / "model.tflite").write_bytes(content)
        return read(Path(temporary) / "model.tflite", str(folder))


def read(file: Path, name: str | None = None) -> Network:
    """Reads a file's network; ``name`` is its name in errors. Raises ModelFileError."""
    name = name or str(file)
    content = file.read_bytes()
    if content[4:8] != _FILE_IDENTIFIER:
        raise ModelFileError(f"{name}: no TensorFlow Lite model; make one with tf.lite.TFLiteConverter")
    schema = require("tensorflow.lite.python.schema_py_generated", name)
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        if len(model.subgraphs) != 1:
            raise ModelFileError(
                f"{name}: {len(model.subgraphs)} subgraphs, expected one: a network without conditions and loops"
            )
        return _Reader(schema, model, name).network
    except ModelFileError:
        raise
    except Exception as error:  # a flatbuffer has no checksum, so damage may cause any exception
        raise ModelFileError(f"{name}: damaged, cannot be decoded ({type(error).__name__}); convert the model again") from None


class _Reader:
    """Reads the operators of a file in order; ``made`` has for each tensor the layer that computes it."""

    def __init__(self, schema: Any, model: Any, file: str) -> None:
        graph = model.subgraphs[0]
        self.model, self.tensors, self.file = model, graph.tensors, file
        for what, found in (("inputs", graph.inputs), ("outputs", graph.outputs)):
            if len(found) != 1:
                raise ModelFileError(f"{file}: the model has {len(found)} {what}, expected one; convert the part that has one")
        source, output = int(graph.inputs[0]), int(graph.outputs[0])
        self._refuse_unfit_input(source)
        self.network = Network(file, self.shape(source), [])
        self.made: dict[int, Layer | None] = {source: None}
        self.rank = {source: len(self.shape(source))}  # number of axes in our network: a sequence has one less than in the file
        names = {value: key for key, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
        for position, operator in enumerate(graph.operators):
            code = model.operatorCodes[operator.opcodeIndex]
            self.operator(position, operator, names[max(code.builtinCode, code.deprecatedBuiltinCode)])
        if not self.network.layers or self.made.get(output) is not self.network.layers[-1]:
            raise ModelFileError(f"{file}: the output of the model is not that of its last operator; convert only that far")

    def _refuse_unfit_input(self, source: int) -> None:
        tensor = self.tensors[source]
        signature = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
        shape = [int(size) for size in signature][1:]
        if not shape or -1 in shape:
            raise ModelFileError(
                f"{self.file}: input '{tensor.name.decode()}' of shape {shape}, but sizes must be known; convert it again "
                "with a fixed input shape"
            )

    def shape(self, tensor: int) -> Shape:
        """The shape of one sample, without the batch."""
        return tuple(int(size) for size in self.tensors[tensor].shape)[1:]

    def constant(self, tensor: int) -> Any:
        """A tensor's constant value in the file, None if it is computed."""
        found = self.tensors[tensor]
        data = self.model.buffers[found.buffer].data
        if data is None or not len(data):
            return None
        kind = "<f4" if found.type == _FLOAT32 else "<i4"
        return np.frombuffer(bytes(data), kind).reshape([] if found.shape is None else [int(size) for size in found.shape])

    def weights(self, tensor: int, where: str) -> Array:
        """A tensor's constant weights. Raises ModelFileError if it is computed."""
        value = self.constant(tensor)
        if value is None:
            raise ModelFileError(f"{where}: its weights are computed, expected constants; convert a trained, frozen model")
        return finite(value, where)

    def bias(self, operator: Any, outputs: int, where: str) -> Array:
        """An operator's third input, zeros if it has none."""
        given = [int(each) for each in operator.inputs[2:] if each >= 0]
        return self.weights(given[0], where) if given else np.zeros(outputs)

    def operator(self, position: int, operator: Any, kind: str) -> None:
        """Reads one operator into layers."""
        output = int(operator.outputs[0])
        title = self.tensors[output].name.decode(errors="replace").split(";")[-1]
        where = f"{self.file}: operator {position}, '{title}' ({kind})"
        if kind in _SHAPE_ARITHMETIC and self.tensors[output].type != _FLOAT32:
            return
        if kind not in (*_OPERATORS, *_VIEWS):
            raise unsupported(where, kind, [*_OPERATORS, *_VIEWS], _NEAREST)
        for each in (*operator.inputs[:2], output):
            is_axes = kind in (*_VIEWS, "MEAN") and each == operator.inputs[1]
            if each >= 0 and not is_axes and self.tensors[each].type != _FLOAT32:
                raise ModelFileError(f"{where}: not float32; convert the model again without converter.optimizations")
        inputs = [int(each) for each in operator.inputs if int(each) in self.made]
        if not inputs:
            raise ModelFileError(f"{where}: reads nothing that comes from the model's input; convert the model again")
        self.rank[output] = self.rank[inputs[0]]
        if kind in _VIEWS:
            self.view(inputs[0], output, where)
            return
        for keys, arrays in [
            *_OPERATORS[kind](self, operator, where),
            *((keys, {}) for keys in self.fused(operator, where)),
        ]:
            if keys["op"] in ("dense", "global_avg_pool", "flatten"):
                self.rank[output] = 1
            read = inputs if keys["op"] == "add" else inputs[:1]
            name = f"{keys['op']}{1 + sum(layer.op in WEIGHTED for layer in self.network.layers)}"
            layer = Layer(where, name, keys, [self.made[each] for each in read], arrays)
            self.network.layers.append(layer)
            self.made[output] = layer
            inputs = [output]

    def fused(self, operator: Any, where: str) -> list[Keys]:
        """The keys of an operator's fused activation; empty for none."""
        code = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
        if code not in _FUSED:
            raise ModelFileError(f"{where}: its activation {code} is not supported; the nearest one is a ReLU")
        return [dict(keys) for keys in _FUSED[code]]

    def view(self, source: int, output: int, where: str) -> None:
        """Reads a change of shape: it is a flatten, another shape of the model's input, or has no effect."""
        old, new = self.shape(source), self.shape(output)
        layer = self.made[source]
        same = [size for size in old if size != 1] == [size for size in new if size != 1]
        if len(new) == 1 and self.rank[source] > 1:
            layer = Layer(where, "flatten", {"op": "flatten"}, [layer])
            self.network.layers.append(layer)
            self.rank[output] = 1
        elif layer is None and not same:
            self.network.input = new
            self.rank[output] = len(new)
        elif not same:
            raise ModelFileError(f"{where}: from {list(old)} to {list(new)}; expected a view of the input, or one axis")
        self.made[output] = layer

    def window(self, options: Any, size: tuple[int, int], where: str, sequence: bool) -> Keys:
        """The keys of a convolution."""
        if (options.dilationHFactor, options.dilationWFactor) != (1, 1):
            raise ModelFileError(
                f"{where}: dilation = {[options.dilationHFactor, options.dilationWFactor]}, expected 1; use strides instead"
            )
        strides = (options.strideH, options.strideW)
        if sequence:
            size, strides = size[1:], strides[1:]  # type: ignore[assignment]
        keys: Keys = {"kernel": extents(size), "padding": _PADDINGS[options.padding]}
        return keys if set(strides) == {1} else keys | {"stride": extents(strides)}


Parts = list[tuple[Keys, dict[str, Array]]]


def _conv(reader: _Reader, operator: Any, where: str) -> Parts:
    kernel = reader.weights(int(operator.inputs[1]), where).transpose(1, 2, 3, 0)
    sequence = reader.rank[int(operator.inputs[0])] == 2
    channels, filters = reader.shape(int(operator.inputs[0]))[-1], kernel.shape[3]
    if kernel.shape[2] != channels:
        raise ModelFileError(f"{where}: {channels // kernel.shape[2]} groups, expected 1; split it, or use a depthwise one")
    if sequence and kernel.shape[0] != 1:
        raise ModelFileError(f"{where}: a kernel of {kernel.shape[0]} rows on a sequence; give the model three axes")
    keys: Keys = {"op": "conv1d" if sequence else "conv2d", "filters": filters}
    keys |= reader.window(operator.builtinOptions, kernel.shape[:2], where, sequence)
    return [(keys, {".kernel": kernel[0] if sequence else kernel, ".bias": reader.bias(operator, filters, where)})]


def _depthwise(reader: _Reader, operator: Any, where: str) -> Parts:
    kernel = reader.weights(int(operator.inputs[1]), where)
    channels = reader.shape(int(operator.inputs[0]))[-1]
    kernel = kernel.reshape(*kernel.shape[1:3], channels, -1)
    multiplier = kernel.shape[3]
    window = reader.window(operator.builtinOptions, kernel.shape[:2], where, sequence=False)
    if multiplier > 1 and channels > 1:
        raise ModelFileError(f"{where}: depth multiplier {multiplier}, expected 1; use a separable or a full convolution")
    # With one input channel it is the same as a conv2d.
    keys: Keys = {"op": "conv2d", "filters": multiplier} if multiplier > 1 else {"op": "depthwise_conv2d"}
    return [(keys | window, {".kernel": kernel, ".bias": reader.bias(operator, channels * multiplier, where)})]


def _dense(reader: _Reader, operator: Any, where: str) -> Parts:
    kernel = reader.weights(int(operator.inputs[1]), where).T
    shape = reader.shape(int(operator.inputs[0]))
    if int(np.prod(shape)) != kernel.shape[0]:
        raise ModelFileError(f"{where}: {kernel.shape[0]} inputs on a tensor of {list(shape)}; flatten it first")
    units = kernel.shape[1]
    keys: Keys = {"op": "dense", "units": units}
    dense = (keys, {".kernel": kernel, ".bias": reader.bias(operator, units, where)})
    return [dense] if reader.rank[int(operator.inputs[0])] == 1 else [({"op": "flatten"}, {}), dense]


def _pool(op: str) -> Callable[[_Reader, Any, str], Parts]:
    def read_pool(reader: _Reader, operator: Any, where: str) -> Parts:
        options = operator.builtinOptions
        size = extents((options.filterHeight, options.filterWidth))
        stride = extents((options.strideH, options.strideW))
        return [({"op": op, "size": size, "stride": stride, "padding": _PADDINGS[options.padding]}, {})]

    return read_pool


def _mean(reader: _Reader, operator: Any, where: str) -> Parts:
    axes = reader.constant(int(operator.inputs[1]))
    rank = len(reader.shape(int(operator.inputs[0])))
    if axes is None or sorted(int(axis) % (rank + 1) for axis in np.ravel(axes)) != list(range(1, rank)):
        raise ModelFileError(f"{where}: over other axes than all but the channels; use a global average pool")
    return [({"op": "global_avg_pool"}, {})]


def _arithmetic(reader: _Reader, operator: Any, where: str, kind: str) -> Parts:
    """ADD of two tensors, or one of ADD, SUB and MUL with a constant per channel."""
    first, second = (int(each) for each in operator.inputs[:2])
    if first in reader.made and second in reader.made:
        if kind != "ADD":
            raise ModelFileError(f"{where}: of two tensors is not supported; the nearest one is ADD")
        return [({"op": "add"}, {})]
    constant = reader.weights(second if first in reader.made else first, where)
    value = constant.squeeze()
    if value.ndim > 1 or (value.ndim == 1 and constant.shape[-1] != value.size) or (kind == "SUB" and second in reader.made):
        raise ModelFileError(f"{where}: a constant of shape {list(constant.shape)}, expected one number or one per channel")
    zero, one = np.zeros(()), np.ones(())
    arrays = {"ADD": (one, value), "SUB": (one, -value), "MUL": (value, zero)}[kind]
    return [({"op": AFFINE}, dict(zip(("scale", "offset"), arrays, strict=True)))]


def _elementwise(reader: _Reader, operator: Any, where: str, op: str) -> Parts:
    return [({"op": op}, {})]


def _leaky_relu(reader: _Reader, operator: Any, where: str) -> Parts:
    slope = float(str(np.float32(operator.builtinOptions.alpha)))  # the shortest decimal number with the same float32 bits
    return [({"op": "leaky_relu", "slope": slope}, {})]


def _softmax(reader: _Reader, operator: Any, where: str) -> Parts:
    if operator.builtinOptions.beta != 1:
        raise ModelFileError(f"{where}: beta = {operator.builtinOptions.beta}, expected 1; scale the layer before it")
    return [({"op": "softmax"}, {})]


_OPERATORS: dict[str, Callable[[_Reader, Any, str], Parts]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "MAX_POOL_2D": _pool("max_pool"),
    "AVERAGE_POOL_2D": _pool("avg_pool"),
    "MEAN": _mean,
    "LEAKY_RELU": _leaky_relu,
    "SOFTMAX": _softmax,
    **{kind: partial(_arithmetic, kind=kind) for kind in ("ADD", "SUB", "MUL")},
    **{kind: partial(_elementwise, op=op) for kind, op in _ELEMENTWISE.items()},
}
