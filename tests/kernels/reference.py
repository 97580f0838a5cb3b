"""Reference in plain NumPy for the same networks: no tiles, no fusion, all gradients before the update."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import int8_reference
import numpy as np

from tinymetafed_codegen.graph import Graph, trains
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


def softmax(op: Any, x: Array) -> Result:
    powers = np.exp(x - x.max(-1, keepdims=True))
    y = powers / powers.sum(-1, keepdims=True)
    return y, lambda dy: (y * (dy - (y * dy).sum(-1, keepdims=True)), {})


class Reshaped:
    """An op with other shapes, for a sequence as an image of one row."""

    def __init__(self, op: Any, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        self.rows, self.columns, self.input_shape, self.output_shape = op.rows, op.columns, input_shape, output_shape


OPS: dict[str, Callable[..., Result]] = {
    f.__name__: f
    for f in (
        dense, conv2d, conv1d, depthwise_conv2d, affine, max_pool, avg_pool, global_avg_pool, relu, relu6, leaky_relu, sigmoid,
        tanh, softmax,
    )
}  # fmt: skip


def run(graph: Graph, weights: Array, frozen: Tensors, x: Array) -> tuple[Array, Callable[[Array, Variant, float], Tensors]]:
    """The network's output, and a function from its gradient to those of all trainable parameters, by name."""
    tensors = unpack(graph, weights, frozen)
    values: Tensors = {graph.input.name: x.reshape(graph.input.shape)}
    backwards: list[tuple[Any, Callable[[Array], tuple[Array, Tensors]] | None]] = []
    for call in graph.forward:
        op, value = call.op, values[call.x.name].reshape(call.x.shape)
        if op.kind in int8_reference.OPS:  # frozen: it has no backward
            constants = [frozen[f"{op.name}.{p.name}"].astype(np.int64) for p in op.parameters]
            read = [value] if call.other is None else [value, values[call.other.name].reshape(call.y.shape)]
            values[call.y.name] = int8_reference.OPS[op.kind](op, *read, *constants)
            continue
        if call.other is not None:
            values[call.y.name] = value + values[call.other.name].reshape(call.y.shape)
            backwards.append((call, None))
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
            if backward is None:
                parts = [(call.x, d), (call.other, d)]
            else:
                dx, of_parameters = backward(d)
                parts = [(call.x, dx)]
                found |= {f"{op.name}.{name}": value for name, value in of_parameters.items()}
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
