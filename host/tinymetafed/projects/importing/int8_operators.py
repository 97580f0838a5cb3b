"""Reads the operators of quantised TensorFlow Lite files: each as a layer over int8 and as one of float32 that trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ...runs.tensorflow import ModelFileError
from . import fixed_point
from .fixed_point import Scale
from .kernels_with_zeros import spread_channels
from .network import Array, Arrays, Keys, Part, extents
from .tflite_format import ACTIVATIONS, INT8, PADDINGS, Reader, shortest

_ACTIVATIONS = ("", "relu", "relu6")  # of operators over int8


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of a file; ``where`` is its name in errors."""

    reader: Reader
    inputs: tuple[int, ...]
    output: int
    options: Any
    where: str

    def scale(self, tensor: int) -> Scale:
        """The scale of a tensor that is computed. Raises ModelFileError if it has none, or one for each channel."""
        found = self.reader.tensors[tensor].quantization
        scales = None if found is None else found.scale
        if scales is None or len(scales) != 1:
            raise ModelFileError(f"{self.where}: '{self.reader.title(tensor)}' has no single scale; convert the model again")
        return Scale(float(scales[0]), int(found.zeroPoint[0]))

    @property
    def source_scale(self) -> Scale:
        """The scale of its first input."""
        return self.scale(self.inputs[0])

    @property
    def output_scale(self) -> Scale:
        """The scale of its output."""
        return self.scale(self.output)

    @property
    def activation(self) -> str:
        """The fused activation: "", "relu" or "relu6". Raises ModelFileError for others."""
        code = getattr(self.options, "fusedActivationFunction", 0)
        name = ACTIVATIONS.get(code)
        if name not in _ACTIVATIONS:
            raise ModelFileError(f"{self.where}: its activation {code} is not supported; the nearest one is a ReLU")
        return name

    def kernel(self) -> tuple[Any, list[float]]:
        """The int8 kernel and its scales: one, or one for each filter. Raises ModelFileError for other kernels."""
        tensor = self.reader.tensors[self.inputs[1]]
        value, found = self.reader.constant(self.inputs[1]), tensor.quantization
        if value is None or tensor.type != INT8 or found is None or found.scale is None:
            raise ModelFileError(f"{self.where}: expected a constant int8 kernel with scales; convert the model again")
        if np.any(found.zeroPoint):
            raise ModelFileError(f"{self.where}: its kernel has another zero point than 0; convert the model again")
        return value, [float(each) for each in found.scale]

    def bias(self, outputs: int) -> Any:
        """The int32 bias; zeros if there is none."""
        found = self.reader.constant(self.inputs[2]) if len(self.inputs) > 2 and self.inputs[2] >= 0 else None
        return np.zeros(outputs, np.int32) if found is None else np.asarray(found, np.int32).ravel()

    def constants(self, kernel: Any, scales: list[float]) -> Arrays:
        """The arrays of a convolution; ``scales`` are those of the kernel's filters."""
        factors = [fixed_point.factor(self.source_scale.scale * scale / self.output_scale.scale) for scale in scales]
        multipliers, shifts = zip(*factors, strict=True)
        return {
            ".kernel": np.asarray(kernel, np.int8),
            ".bias": self.bias(len(scales)),
            ".multiplier": np.array(multipliers, np.int32),
            ".shift": np.array(shifts, np.int8),
        }

    def range(self, activation: str) -> Keys:
        """The keys of an output: its zero point, and its limits if an activation has some."""
        limits = self.output_scale.limits(activation)
        keys: Keys = {"zero_point": self.output_scale.zero_point}
        return keys if limits == (-128, 127) else keys | {"range": list(limits)}

    def trained(self, keys: Keys, kernel: Array | None = None, bias: Any = None, scales: Any = 1.0) -> list[Part]:
        """The same layer in float32, and its activation; ``scales`` are those of the kernel's outputs."""
        arrays: dict[str, Array] = {}
        if kernel is not None:
            arrays = {".kernel": kernel, ".bias": np.asarray(bias, np.float64) * scales * self.source_scale.scale}
        forms = [Part(keys, arrays)]
        return forms + [Part({"op": self.activation})] * bool(self.activation)


Both = tuple[Part, list[Part]]  # the layer over int8, and the layers that it becomes where it trains


def quantize(scale: Scale) -> Part:
    """float32 to int8."""
    return Part({"op": "quantize", "scale": shortest(scale.scale), "zero_point": scale.zero_point})


def _window(operator: Operator, rows: int, columns: int) -> Keys:
    options = operator.options
    if (options.dilationHFactor, options.dilationWFactor) != (1, 1):
        raise ModelFileError(f"{operator.where}: dilation is not supported in int8; build it without dilation_rate")
    keys: Keys = {"kernel": extents((rows, columns)), "padding": PADDINGS[options.padding]}
    stride = extents((options.strideH, options.strideW))
    return keys if stride == 1 else keys | {"stride": stride}


def _per_output(scales: list[float], outputs: int) -> list[float]:
    return scales * outputs if len(scales) == 1 else scales


def _conv(operator: Operator) -> Both:
    kernel, scales = operator.kernel()
    filters, rows, columns, channels = kernel.shape
    if channels != operator.reader.shape(operator.inputs[0])[-1]:
        raise ModelFileError(f"{operator.where}: groups are not supported in int8; build it without groups")
    scales = _per_output(scales, filters)
    window = _window(operator, rows, columns)
    arrays = operator.constants(kernel, scales)
    keys: Keys = {"op": "conv2d_int8", "filters": filters, **window, **operator.range(operator.activation)}
    real = (kernel * np.reshape(scales, (-1, 1, 1, 1))).transpose(1, 2, 3, 0)
    trained = operator.trained({"op": "conv2d", "filters": filters, **window}, real, arrays[".bias"], scales)
    return Part(keys, arrays), trained


def _depthwise(operator: Operator) -> Both:
    kernel, scales = operator.kernel()
    _, rows, columns, outputs = kernel.shape
    channels = operator.reader.shape(operator.inputs[0])[-1]
    scales = _per_output(scales, outputs)
    window = _window(operator, rows, columns)
    arrays = operator.constants(kernel[0], scales)
    keys: Keys = {"op": "depthwise_conv2d_int8", **window, **operator.range(operator.activation)}
    real = (kernel[0] * np.asarray(scales)).reshape(rows, columns, channels, -1)
    if outputs == channels:
        return Part(keys, arrays), operator.trained({"op": "depthwise_conv2d", **window}, real, arrays[".bias"], scales)
    keys["depth_multiplier"] = outputs // channels
    first, *activation = operator.trained(
        {"op": "conv2d", "filters": outputs, **window}, spread_channels(real), arrays[".bias"], scales
    )
    with_zeros = f"depth multiplier {outputs // channels}" if channels > 1 else ""
    return Part(keys, arrays), [dataclasses.replace(first, with_zeros=with_zeros), *activation]


def _dense(operator: Operator) -> Both:
    kernel, scales = operator.kernel()
    units, inputs = kernel.shape
    if int(np.prod(operator.reader.shape(operator.inputs[0]))) != inputs:
        raise ModelFileError(f"{operator.where}: on more than one axis is not supported in int8; flatten its input first")
    scales = _per_output(scales, units)
    products = [operator.source_scale.scale * scale / operator.output_scale.scale for scale in scales]
    if not all(1e-30 < product < 1024 for product in products):
        raise ModelFileError(f"{operator.where}: its scales are too far apart; convert the model again")
    high, low, shift = zip(*map(fixed_point.parts, products), strict=True)
    arrays = {
        ".kernel": np.asarray(kernel, np.int8),
        ".bias": operator.bias(units),
        ".scale_high": np.array(high, np.int32),
        ".scale_low": np.array(low, np.uint32).view(np.int32),
        ".shift": np.array(shift, np.int8),
    }
    keys: Keys = {"op": "dense_int8", "units": units, **operator.range(operator.activation)}
    real = (kernel * np.reshape(scales, (-1, 1))).T
    return Part(keys, arrays), operator.trained({"op": "dense", "units": units}, real, arrays[".bias"], scales)


def _pool(op: str) -> Callable[[Operator], Both]:
    def read_pool(operator: Operator) -> Both:
        options = operator.options
        if operator.source_scale != operator.output_scale:
            raise ModelFileError(f"{operator.where}: its output has another scale than its input; convert the model again")
        keys: Keys = {
            "size": extents((options.filterHeight, options.filterWidth)),
            "stride": extents((options.strideH, options.strideW)),
            "padding": PADDINGS[options.padding],
        }
        limits = {key: value for key, value in operator.range(operator.activation).items() if key == "range"}
        return Part({"op": f"{op}_int8", **keys, **limits}), operator.trained({"op": op, **keys})

    return read_pool


def _mean(operator: Operator) -> Both:
    axes = operator.reader.constant(operator.inputs[1])
    shape = operator.reader.shape(operator.inputs[0])
    rank = len(shape) + 1
    if axes is None or sorted(int(axis) % rank for axis in np.ravel(axes)) != list(range(1, rank - 1)):
        raise ModelFileError(f"{operator.where}: over other axes than all but the channels; use a global pool")
    pixels = int(np.prod(shape[:-1]))
    factor = fixed_point.factor_of_mean(operator.source_scale, operator.output_scale, pixels)
    keys: Keys = {"op": "mean_int8", "zero_point": operator.output_scale.zero_point, "factor": list(factor)}
    return Part(keys), operator.trained({"op": "global_avg_pool"})


def _add(operator: Operator) -> Both:
    first, second = operator.inputs[:2]
    if operator.reader.shape(first) != operator.reader.shape(second) or operator.reader.constant(second) is not None:
        raise ModelFileError(f"{operator.where}: adds a constant or another shape; an ADD in int8 takes two equal tensors")
    factors = fixed_point.factors_of_sum(operator.scale(first), operator.scale(second), operator.output_scale)
    keys: Keys = {"op": "add_int8", "factors": [list(each) for each in factors], **operator.range(operator.activation)}
    return Part(keys), operator.trained({"op": "add"})


def _pad(operator: Operator) -> Both:
    margins = operator.reader.constant(operator.inputs[1])
    pairs = [] if margins is None else [[int(each) for each in pair] for pair in margins]
    if len(pairs) != 4 or any(pairs[0]) or any(pairs[-1]):
        raise ModelFileError(f"{operator.where}: pads other axes than rows and columns; pad rows and columns of an image only")
    margin_keys: Keys = {"margins": pairs[1:-1]}  # type: ignore[dict-item]
    return Part({"op": "pad_int8", **margin_keys}), [Part({"op": "pad", **margin_keys})]


def _requantized(activation: str) -> Callable[[Operator], Both]:
    def read_requantized(operator: Operator) -> Both:
        source, output = operator.source_scale, operator.output_scale
        ratio = source.scale / output.scale
        if activation:  # TensorFlow Lite divides in float32 here, and in float64 for QUANTIZE
            ratio = float(np.float32(source.scale) / np.float32(output.scale))
        keys: Keys = {"op": "requantize", "factor": list(fixed_point.factor(ratio)), **operator.range(activation)}
        return Part(keys), [Part({"op": activation})] * bool(activation)

    return read_requantized


def _quantize(operator: Operator) -> Both:
    kind = operator.reader.tensors[operator.inputs[0]].type
    if kind == INT8:
        return _requantized("")(operator)
    if kind != 0:
        raise ModelFileError(
            f"{operator.where}: reads numbers that are neither float32 nor int8; convert with inference_input_type = tf.int8"
        )
    return quantize(operator.output_scale), []


def _dequantize(operator: Operator) -> Both:
    return Part({"op": "dequantize", "scale": shortest(operator.source_scale.scale)}), []


OPERATORS: dict[str, Callable[[Operator], Both]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "ADD": _add,
    "AVERAGE_POOL_2D": _pool("avg_pool"),
    "MAX_POOL_2D": _pool("max_pool"),
    "MEAN": _mean,
    "PAD": _pad,
    "RELU": _requantized("relu"),
    "RELU6": _requantized("relu6"),
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
}
ONLY_TRAINED = ("SOFTMAX", "LOGISTIC", "TANH")  # in float32, behind the frozen layers
