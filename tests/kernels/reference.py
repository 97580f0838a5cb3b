"""Reference in plain NumPy for the same networks: no tiles, no fusion, all gradients before the update."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import int8_reference
import numpy as np

from tinymetafed_codegen.calls import trains
from tinymetafed_codegen.graph import Graph
from tinymetafed_codegen.protocol import Variant

Array = np.ndarray[Any, Any]
Tensors = dict[str, Array]
# y, and a function from dy to the gradients of x and of the parameters.
Result = tuple[Array, Callable[[Array], tuple[Array, Tensors]]]


def unpack(graph: Graph, weights: Array, frozen: Tensors) -> Tensors:
    trained = {p.name: weights[p.offset : p.offset + p.parameter.size].reshape(p.parameter.shape) for p in graph.parameters}
    return trained | {name: array.astype(weights.dtype) for name, array in frozen.items()}


def _windows(op: Any) -> Iterator[tuple[tuple[int, int], slice, slice, slice, slice]]:
    """Every output pixel and its window: rows and columns of the image, then rows and columns of the kernel."""
    for i, j in itertools.product(range(op.rows.outputs), range(op.columns.outputs)):
        found = []
        for axis, at in ((op.rows, i), (op.columns, j)):
            start = at * axis.stride - axis.pad
            first, last = max(start, 0), min(start + axis.size, axis.length)
            found += [slice(first, last), slice(first - start, last - start)]
        yield (i, j), found[0], found[2], found[1], found[3]


def dense(op: Any, x: Array, kernel: Array, bias: Array) -> Result:
    return x @ kernel + bias, lambda dy: (kernel @ dy, {"kernel": np.outer(x, dy), "bias": dy})


def affine(op: Any, x: Array, kernel: Array, bias: Array) -> Result:
    axes = tuple(range(x.ndim - 1))
    return x * kernel + bias, lambda dy: (kernel * dy, {"kernel": (x * dy).sum(axes), "bias": dy.sum(axes)})


def conv2d(op: Any, x: Array, kernel: Array, bias: Array) -> Result:
    y = np.zeros(op.output_shape, x.dtype)
    for at, rows, columns, k_rows, k_columns in _windows(op):
        y[at] = np.einsum("ijc,ijcf->f", x[rows, columns], kernel[k_rows, k_columns]) + bias

    def backward(dy: Array) -> tuple[Array, Tensors]:
        dx, dk = np.zeros_like(x), np.zeros_like(kernel)
        for at, rows, columns, k_rows, k_columns in _windows(op):
            dx[rows, columns] += kernel[k_rows, k_columns] @ dy[at]
            dk[k_rows, k_columns] += x[rows, columns, :, None] * dy[at]
        return dx, {"kernel": dk, "bias": dy.sum((0, 1))}

    return y, backward


def conv1d(op: Any, x: Array, kernel: Array, bias: Array) -> Result:
    image = Reshaped(op, (1, *op.input_shape), (1, *op.output_shape))
    y, inner = conv2d(image, x[None], kernel[None], bias)

    def backward(dy: Array) -> tuple[Array, Tensors]:
        dx, found = inner(dy[None])
        return dx[0], {"kernel": found["kernel"][0], "bias": found["bias"]}

    return y[0], backward


def depthwise_conv2d(op: Any, x: Array, kernel: Array, bias: Array) -> Result:
    y = np.zeros(op.output_shape, x.dtype)
    for at, rows, columns, k_rows, k_columns in _windows(op):
        y[at] = (x[rows, columns] * kernel[k_rows, k_columns, :, 0]).sum((0, 1)) + bias

    def backward(dy: Array) -> tuple[Array, Tensors]:
        dx, dk = np.zeros_like(x), np.zeros_like(kernel)
        for at, rows, columns, k_rows, k_columns in _windows(op):
            dx[rows, columns] += kernel[k_rows, k_columns, :, 0] * dy[at]
            dk[k_rows, k_columns, :, 0] += x[rows, columns] * dy[at]
        return dx, {"kernel": dk, "bias": dy.sum((0, 1))}

    return y, backward


def max_pool(op: Any, x: Array) -> Result:
    y = np.zeros(op.output_shape, x.dtype)
    for at, rows, columns, *_ in _windows(op):
        y[at] = x[rows, columns].max((0, 1))

    def backward(dy: Array) -> tuple[Array, Tensors]:
        dx = np.zeros_like(x)
        for at, rows, columns, *_ in _windows(op):
            for c in range(x.shape[2]):
                window = x[rows, columns, c]
                first = np.unravel_index(window.argmax(), window.shape)
                dx[rows, columns, c][first] += dy[at][c]
        return dx, {}

    return y, backward


def avg_pool(op: Any, x: Array) -> Result:
    y = np.zeros(op.output_shape, x.dtype)
    for at, rows, columns, *_ in _windows(op):
        y[at] = x[rows, columns].mean((0, 1))

    def backward(dy: Array) -> tuple[Array, Tensors]:
        dx = np.zeros_like(x)
        for at, rows, columns, *_ in _windows(op):
            dx[rows, columns] += dy[at] / x[rows, columns, 0].size
        return dx, {}

    return y, backward


def global_avg_pool(op: Any, x: Array) -> Result:
    pixels = x.reshape(-1, x.shape[-1])
    return pixels.mean(0), lambda dy: (np.broadcast_to(dy / len(pixels), pixels.shape).reshape(x.shape), {})


def relu(op: Any, x: Array) -> Result:
    return np.maximum(x, 0), lambda dy: (dy * (x > 0), {})


def relu6(op: Any, x: Array) -> Result:
    return np.clip(x, 0, 6), lambda dy: (dy * ((x > 0) & (x < 6)), {})


def leaky_relu(op: Any, x: Array) -> Result:
    slope = float(np.float32(op.slope))
    return np.where(x > 0, x, slope * x), lambda dy: (np.where(x > 0, dy, slope * dy), {})


def sigmoid(op: Any, x: Array) -> Result:
    y = 1 / (1 + np.exp(-x))
    return y, lambda dy: (dy * y * (1 - y), {})


def tanh(op: Any, x: Array) -> Result:
    return np.tanh(x), lambda dy: (dy / np.cosh(x) ** 2, {})


SIXTH, ROOT_HALF, DENSITY, ROOT, CUBIC = (
    float(np.float32(each)) for each in (1 / 6, 0.5**0.5, 0.3989422804, 0.7978845608, 0.044715)
)


def silu(op: Any, x: Array) -> Result:
    gate = 1 / (1 + np.exp(-x))
    return x * gate, lambda dy: (dy * (gate + x * gate * (1 - gate)), {})


def hard_sigmoid(op: Any, x: Array) -> Result:
    line = SIXTH * x + 0.5
    return np.clip(line, 0, 1), lambda dy: (dy * SIXTH * ((line > 0) & (line < 1)), {})


def hard_swish(op: Any, x: Array) -> Result:
    line = SIXTH * x + 0.5
    gate = np.clip(line, 0, 1)
    return x * gate, lambda dy: (dy * (gate + SIXTH * x * ((line > 0) & (line < 1))), {})


def elu(op: Any, x: Array) -> Result:
    scale, lowest = float(np.float32(op.scale)), float(np.float32(op.scale * op.alpha))
    y = np.where(x > 0, scale * x, lowest * np.expm1(np.minimum(x, 0)))
    return y, lambda dy: (dy * np.where(x > 0, scale, lowest * np.exp(np.minimum(x, 0))), {})


def softplus(op: Any, x: Array) -> Result:
    return np.logaddexp(0, x), lambda dy: (dy / (1 + np.exp(-x)), {})


def gelu(op: Any, x: Array) -> Result:
    if op.approximate:
        t = np.tanh(ROOT * (x + CUBIC * x**3))
        slope = ROOT * (1 + float(np.float32(3) * np.float32(CUBIC)) * x**2)
        return 0.5 * x * (1 + t), lambda dy: (dy * 0.5 * (1 + t + x * (1 - t * t) * slope), {})
    below = 0.5 * (1 + np.vectorize(math.erf)(ROOT_HALF * x))
    return x * below, lambda dy: (dy * (below + x * DENSITY * np.exp(-x * x / 2)), {})


def prelu(op: Any, x: Array, slope: Array) -> Result:
    axes = tuple(range(x.ndim - 1))

    def backward(dy: Array) -> tuple[Array, Tensors]:
        return np.where(x > 0, dy, slope * dy), {"slope": np.where(x > 0, 0, x * dy).sum(axes)}

    return np.where(x > 0, x, slope * x), backward


def softmax(op: Any, x: Array) -> Result:
    powers = np.exp(x - x.max(-1, keepdims=True))
    y = powers / powers.sum(-1, keepdims=True)
    return y, lambda dy: (y * (dy - (y * dy).sum(-1, keepdims=True)), {})


def scale(op: Any, x: Array) -> Result:
    factor = float(np.float32(op.factor))
    return factor * x, lambda dy: (factor * dy, {})


# y, and a function from dy to the gradients of both inputs.
Merged = tuple[Array, Callable[[Array], tuple[Array, Array]]]


def add(op: Any, x: Array, other: Array) -> Merged:
    return x + other, lambda dy: (dy, dy)


def subtract(op: Any, x: Array, other: Array) -> Merged:
    return x - other, lambda dy: (dy, -dy)


def multiply(op: Any, x: Array, other: Array) -> Merged:
    def summed(gradient: Array, shape: tuple[int, ...]) -> Array:
        padded = (1,) * (gradient.ndim - len(shape)) + shape
        axes = tuple(axis for axis, size in enumerate(padded) if size == 1)
        return gradient.sum(axes, keepdims=True).reshape(shape)

    return x * other, lambda dy: (summed(dy * other, x.shape), summed(dy * x, other.shape))


def maximum(op: Any, x: Array, other: Array) -> Merged:
    return np.maximum(x, other), lambda dy: (dy * (x >= other), dy * (x < other))


def minimum(op: Any, x: Array, other: Array) -> Merged:
    return np.minimum(x, other), lambda dy: (dy * (x <= other), dy * (x > other))


def concatenate(op: Any, x: Array, other: Array) -> Merged:
    def parts(dy: Array) -> tuple[Array, Array]:
        first, second = np.split(dy, [x.shape[op.axis]], op.axis)
        return first, second

    return np.concatenate([x, other], op.axis), parts


class Reshaped:
    """An op with other shapes, for a sequence as an image of one row."""

    def __init__(self, op: Any, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        self.rows, self.columns, self.input_shape, self.output_shape = op.rows, op.columns, input_shape, output_shape


OPS: dict[str, Callable[..., Result]] = {
    f.__name__: f
    for f in (
        dense, conv2d, conv1d, depthwise_conv2d, affine, max_pool, avg_pool, global_avg_pool, relu, relu6, leaky_relu, sigmoid,
        tanh, softmax, scale, silu, hard_sigmoid, hard_swish, elu, softplus, gelu, prelu,
    )
}  # fmt: skip
OPS["selu"] = elu
MERGES: dict[str, Callable[..., Merged]] = {f.__name__: f for f in (add, subtract, multiply, maximum, minimum, concatenate)}


def run(graph: Graph, weights: Array, frozen: Tensors, x: Array) -> tuple[Array, Callable[[Array, Variant, float], Tensors]]:
    """The network's output, and a function from its gradient to those of all trainable parameters, by name."""
    tensors = unpack(graph, weights, frozen)
    values: Tensors = {graph.input.name: x.reshape(graph.input.shape)}
    backwards: list[tuple[Any, Callable[[Array], tuple[Array, Any]]]] = []
    for call in graph.forward:
        op, value = call.op, values[call.x.name].reshape(call.x.shape)
        if op.kind in int8_reference.OPS:  # frozen: it has no backward
            constants = [frozen[f"{op.name}.{p.name}"].astype(np.int64) for p in op.parameters]
            read = [value] if call.other is None else [value, values[call.other.name].reshape(call.y.shape)]
            values[call.y.name] = int8_reference.OPS[op.kind](op, *read, *constants)
            continue
        if call.other is not None:
            values[call.y.name], of_inputs = MERGES[op.kind](op, value, values[call.other.name].reshape(call.other.shape))
            backwards.append((call, of_inputs))
            continue
        y, backward = OPS[op.kind](op, value, *(tensors[f"{op.name}.{p.name}"] for p in op.parameters))
        values[call.y.name] = np.maximum(y, 0) if op.relu else y
        backwards.append((call, backward))

    def backward_all(dy: Array, variant: Variant, clip_norm: float) -> Tensors:
        gradients: Tensors = {name: np.zeros(value.shape, value.dtype) for name, value in values.items()}
        gradients[graph.output.name] = dy
        found: Tensors = {}
        for call, backward in reversed(backwards):
            op, d = call.op, gradients[call.y.name].reshape(call.y.shape)
            if op.relu:
                d = d * (values[call.y.name].reshape(call.y.shape) > 0)
            if clip_norm and trains(op, variant):
                d = d * min(1, clip_norm / max(np.sqrt((d * d).sum()), 1e-300))
            first, second = backward(d)
            parts = [(call.x, first)]
            if call.other is not None:
                parts += [(call.other, second)]
            else:
                found |= {f"{op.name}.{name}": value for name, value in second.items()}
            for tensor, part in parts:
                gradients[tensor.name] = gradients[tensor.name] + part.reshape(gradients[tensor.name].shape)
        return found

    return values[graph.output.name].ravel(), backward_all


def loss(graph: Graph, delta: float, y: Array, target: Array) -> float:
    if graph.loss.name == "softmax_cross_entropy":
        shifted = y - y.max()
        return float(np.log(np.exp(shifted).sum()) - shifted[int(target[0])])
    error = y - target
    if graph.loss.name == "mse":
        return float(np.mean(error**2))
    if graph.loss.name == "mae":
        return float(np.mean(np.abs(error)))
    if graph.loss.name == "huber":
        size = np.abs(error)
        return float(np.mean(np.where(size <= delta, error**2 / 2, delta * size - delta**2 / 2)))
    assert graph.loss.name == "binary_crossentropy"
    return float(np.mean(np.logaddexp(0, y) - target * y))


def loss_gradient(graph: Graph, delta: float, y: Array, target: Array, limit: float) -> Array:
    if graph.loss.name == "softmax_cross_entropy":
        powers = np.exp(y - y.max())
        gradient = powers / powers.sum()
        gradient[int(target[0])] -= 1
    elif graph.loss.name == "mse":
        gradient = 2 * (y - target) / y.size
    elif graph.loss.name == "mae":
        gradient = np.sign(y - target) / y.size
    elif graph.loss.name == "huber":
        gradient = np.clip(y - target, -delta, delta) / y.size
    else:
        gradient = (1 / (1 + np.exp(-y)) - target) / y.size
    return np.clip(gradient, -limit, limit) if limit else gradient


def gradients(
    graph: Graph, model: Any, frozen: Tensors, weights: Array, x: Array, target: Array, limit: float, variant: Variant
) -> Array:
    """Gradients of every weight of the vector, including weights that do not train."""
    y, backward = run(graph, weights, frozen, x)
    found = backward(loss_gradient(graph, model.huber_delta, y, target, limit), variant, model.clip_norm)
    return np.concatenate([found[p.name].ravel() for p in graph.parameters])
