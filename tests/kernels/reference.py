"""The plain NumPy way to train the same networks: no tiles, no fusion, gradients first and the update after."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinymetafed_codegen.graph import Graph
from tinymetafed_codegen.ops.conv2d import Conv2d
from tinymetafed_codegen.ops.dense import Dense
from tinymetafed_codegen.ops.relu import Relu

Array = np.ndarray[Any, Any]


def unpack(graph: Graph, weights: Array) -> dict[str, Array]:
    return {p.name: weights[p.offset : p.offset + p.parameter.size].reshape(p.parameter.shape) for p in graph.parameters}


def pack(graph: Graph, tensors: dict[str, Array]) -> Array:
    return np.concatenate([tensors[p.name].ravel() for p in graph.parameters])


def _patches(op: Conv2d, x: Array) -> Array:
    """[out_height, out_width, k, k, channels]."""
    height, width, _ = op.output_shape
    rows = (height - 1) * op.stride + op.size
    columns = (width - 1) * op.stride + op.size
    padded = np.zeros((max(rows, op.pad_top + x.shape[0]), max(columns, op.pad_left + x.shape[1]), x.shape[2]), x.dtype)
    padded[op.pad_top : op.pad_top + x.shape[0], op.pad_left : op.pad_left + x.shape[1]] = x
    return np.stack(
        [
            np.stack([padded[i * op.stride :, j * op.stride :][: op.size, : op.size] for j in range(width)])
            for i in range(height)
        ]
    )


def forward(graph: Graph, weights: Array, x: Array) -> list[Array]:
    """Every op's output, the input first."""
    tensors = unpack(graph, weights)
    outputs = [x.reshape(graph.input.shape)]
    for call in graph.forward:
        op, value = call.op, outputs[-1].reshape(call.x.shape)
        if isinstance(op, Dense):
            value = value @ tensors[f"{op.name}.kernel"] + tensors[f"{op.name}.bias"]
        elif isinstance(op, Conv2d):
            value = np.einsum("hwijc,ijcf->hwf", _patches(op, value), tensors[f"{op.name}.kernel"])
            value = value + tensors[f"{op.name}.bias"]
        elif isinstance(op, Relu):
            value = np.maximum(value, 0)
        outputs.append(np.maximum(value, 0) if op.relu else value)
    return outputs


def loss(graph: Graph, outputs: Array, target: Array) -> float:
    if graph.loss.name == "mse":
        return float(np.mean((outputs - target) ** 2))
    shifted = outputs - outputs.max()
    return float(np.log(np.exp(shifted).sum()) - shifted[int(target[0])])


def loss_gradient(graph: Graph, outputs: Array, target: Array, limit: float) -> Array:
    if graph.loss.name == "mse":
        gradient = 2 * (outputs - target) / outputs.size
    else:
        shifted = np.exp(outputs - outputs.max())
        gradient = shifted / shifted.sum()
        gradient[int(target[0])] -= 1
    return np.clip(gradient, -limit, limit) if limit else gradient


def gradients(graph: Graph, weights: Array, x: Array, target: Array, limit: float) -> Array:
    """Of every weight, whether it trains or not."""
    tensors = unpack(graph, weights)
    values = forward(graph, weights, x)
    dy = loss_gradient(graph, values[-1], target, limit)
    found: dict[str, Array] = {}
    for call, x_in, y in zip(reversed(graph.forward), values[-2::-1], values[:0:-1], strict=True):
        op = call.op
        x_in = x_in.reshape(call.x.shape)
        dy = dy.reshape(y.shape)
        if op.relu or isinstance(op, Relu):
            dy = dy * (y > 0)
        if isinstance(op, Dense):
            kernel = tensors[f"{op.name}.kernel"]
            found[f"{op.name}.kernel"] = np.outer(x_in, dy)
            found[f"{op.name}.bias"] = dy
            dy = kernel @ dy
        elif isinstance(op, Conv2d):
            kernel = tensors[f"{op.name}.kernel"]
            found[f"{op.name}.kernel"] = np.einsum("hwijc,hwf->ijcf", _patches(op, x_in), dy)
            found[f"{op.name}.bias"] = dy.sum((0, 1))
            dx = np.zeros((x_in.shape[0] + 2 * op.size, x_in.shape[1] + 2 * op.size, x_in.shape[2]), x_in.dtype)
            for i in range(dy.shape[0]):
                for j in range(dy.shape[1]):
                    top = i * op.stride - op.pad_top + op.size
                    left = j * op.stride - op.pad_left + op.size
                    dx[top : top + op.size, left : left + op.size] += kernel @ dy[i, j]
            dy = dx[op.size : op.size + x_in.shape[0], op.size : op.size + x_in.shape[1]]
    return pack(graph, found)
