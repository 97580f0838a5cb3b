"""A round of many clients in JAX and in PyTorch, for comparison in ``bench simulation`` where they are installed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinymetafed_codegen import graph
from tinymetafed_codegen.ops import Op
from tinymetafed_codegen.protocol import Phase, Variant

from ..learn.tasks import Floats
from ..simulation.batches import Batch

Tensors = Mapping[str, Any]  # by the manifest's names
Round = Callable[[], Tensors]  # trains all clients; returns their weights, [clients, ...] by tensor name

_MOVED = {Variant.LOCAL: {"local"}, Variant.GLOBAL: {"global"}, Variant.FULL: {"local", "global"}}
_OPS = {"dense", "conv2d", "flatten", "relu"}
_LOSSES = {"mse", "softmax_cross_entropy"}
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # in XLA_FLAGS


class PeerError(Exception):
    """A round that cannot be trained in a library; the text says why."""


class NotInstalled(PeerError):
    """A library that is not there."""


def in_jax(net: graph.Graph, start: Tensors, phases: Sequence[Phase], samples: Sequence[Batch]) -> Round:
    """Compiles the training of all clients with vmap and jit, for one thread unless JAX runs already.

    Args:
        net: The graph.
        start: All weights by tensor name, the same for every client.
        phases: The phases of the recipe.
        samples: For each phase the samples of all clients.

    Returns:
        The compiled round.

    Raises:
        PeerError: JAX is not installed, or has no version of one of the model's ops, losses or update rules here.
    """
    os.environ.setdefault("XLA_FLAGS", _ONE_THREAD)  # read when JAX starts
    jax = _library("JAX", "jax")
    _require(net, phases, "JAX")
    parts = {placed.name: placed.op.part for placed in net.parameters}

    def answer(weights: Tensors, x: Any) -> Any:
        for call in net.forward:
            x = _forward(jax, call.op, weights, x)
        return x

    def gradient(y: Any, target: Any, clamp: float) -> Any:
        if net.loss.name == "mse":
            dy = 2 * (y - target) / y.size
        else:
            dy = jax.nn.softmax(y) - jax.nn.one_hot(target[0].astype(int), y.size)
        return jax.numpy.clip(dy, -clamp, clamp) if clamp > 0 else dy

    def client(weights: Tensors, sets: Sequence[tuple[Any, Any]]) -> Tensors:
        for phase, (inputs, targets) in zip(phases, sets, strict=True):
            moved = {name for name, part in parts.items() if part in _MOVED[phase.variant]}

            def step(weights: Tensors, sample: Any, phase: Phase = phase, moved: set[str] = moved) -> tuple[Tensors, None]:
                trained = {name: weights[name] for name in moved}
                y, back = jax.vjp(lambda trained: answer({**weights, **trained}, sample[0]), trained)
                (slopes,) = back(gradient(y, sample[1], phase.output_clamp))
                return {**weights, **{n: trained[n] - phase.learning_rate * slopes[n] for n in moved}}, None

            again = [jax.numpy.tile(each, (phase.passes, *[1] * (each.ndim - 1))) for each in (inputs, targets)]
            weights, _ = jax.lax.scan(step, weights, tuple(again))
        return weights

    sets = [(_inputs(net, batch), jax.numpy.asarray(batch.targets)) for batch in samples]
    every = jax.jit(jax.vmap(client, in_axes=(None, 0)))
    given = {name: jax.numpy.asarray(array) for name, array in start.items()}

    def train() -> Tensors:
        trained: Tensors = jax.block_until_ready(every(given, sets))
        return trained

    train()
    return train


def in_torch(net: graph.Graph, start: Tensors, phases: Sequence[Phase], samples: Sequence[Batch]) -> Round:
    """Prepares the same in PyTorch with torch.func.vmap, on one thread. Arguments, result and errors are those of in_jax."""
    torch = _library("PyTorch", "torch")
    _require(net, phases, "PyTorch")
    torch.set_num_threads(1)
    parts = {placed.name: placed.op.part for placed in net.parameters}

    def answer(weights: Tensors, x: Any) -> Any:
        for call in net.forward:
            x = _forward_torch(torch, call.op, weights, x)
        return x

    def error(trained: Tensors, others: Tensors, x: Any, target: Any, clamp: float) -> Any:
        """A number whose gradient is that of the loss, clamped at the output."""
        y = answer({**others, **trained}, x)
        if net.loss.name == "mse":
            dy = 2 * (y - target) / y.numel()
        else:
            dy = torch.softmax(y, 0) - (torch.arange(y.numel()) == target[0]).to(y.dtype)
        dy = torch.clamp(dy, -clamp, clamp) if clamp > 0 else dy
        return (y * dy.detach()).sum()

    slopes_of = torch.func.vmap(torch.func.grad(error), in_dims=(0, 0, 0, 0, None))
    sets = [(torch.as_tensor(_inputs(net, batch)), torch.as_tensor(batch.targets)) for batch in samples]
    clients = samples[0].inputs.shape[0]
    given = {name: torch.as_tensor(array).expand(clients, *array.shape) for name, array in start.items()}

    def train() -> Tensors:
        weights = dict(given)
        for phase, (inputs, targets) in zip(phases, sets, strict=True):
            moved = [name for name, part in parts.items() if part in _MOVED[phase.variant]]
            for step in range(phase.count * phase.passes):
                trained = {name: weights.pop(name) for name in moved}
                row = step % phase.count
                slopes = slopes_of(trained, weights, inputs[:, row], targets[:, row], phase.output_clamp)
                weights |= {name: trained[name] - phase.learning_rate * slopes[name] for name in moved}
        return weights

    return train


PEERS: dict[str, Callable[[graph.Graph, Tensors, Sequence[Phase], Sequence[Batch]], Round]] = {
    "JAX": in_jax,
    "PyTorch": in_torch,
}


def _library(name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError):
        raise NotInstalled(f"{name} is not installed; pip install {module} to compare with it") from None


def _require(net: graph.Graph, phases: Sequence[Phase], name: str) -> None:
    """Raises PeerError unless the model has a version in both libraries."""
    others = {call.op.kind for call in net.forward} - _OPS | {net.loss.name} - _LOSSES
    others |= {f"{phase.variant.name} steps" for phase in phases if phase.variant not in _MOVED}
    if net.frozen or net.sgd.momentum or net.sgd.weight_decay:
        others |= {"frozen layers, momentum or weight decay"}
    if others:
        raise PeerError(f"no {name} version of {', '.join(sorted(others))} to compare with")


def _inputs(net: graph.Graph, batch: Batch) -> Floats:
    floats = batch.inputs.astype(np.float32) * np.float32(batch.scale)
    return floats.reshape(*floats.shape[:2], *net.input.shape)


def _forward(jax: Any, op: Op, weights: Tensors, x: Any) -> Any:
    x = x.reshape(op.input_shape)  # all that flatten and reshape do
    if op.parameters:
        kernel, bias = (weights[f"{op.name}.{parameter.name}"] for parameter in op.parameters)
        x = (x @ kernel if op.kind == "dense" else _convolve(jax, op, x, kernel)) + bias
    return jax.numpy.maximum(x, 0) if op.relu or op.kind == "relu" else x


def _convolve(jax: Any, op: Any, x: Any, kernel: Any) -> Any:
    axes = (op.rows, op.columns)
    padding = [axis.margins for axis in axes]
    strides = [axis.stride for axis in axes]
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x[None], kernel, strides, padding, dimension_numbers=layout)[0]


def _forward_torch(torch: Any, op: Op, weights: Tensors, x: Any) -> Any:
    x = x.reshape(op.input_shape)  # all that flatten and reshape do
    if op.parameters:
        kernel, bias = (weights[f"{op.name}.{parameter.name}"] for parameter in op.parameters)
        x = (x @ kernel if op.kind == "dense" else _convolve_torch(torch, op, x, kernel)) + bias
    return torch.relu(x) if op.relu or op.kind == "relu" else x


def _convolve_torch(torch: Any, op: Any, x: Any, kernel: Any) -> Any:
    (top, bottom), (left, right) = op.rows.margins, op.columns.margins
    functional = torch.nn.functional
    padded = functional.pad(x.permute(2, 0, 1)[None], (left, right, top, bottom))
    strides = (op.rows.stride, op.columns.stride)
    return functional.conv2d(padded, kernel.permute(3, 2, 0, 1), stride=strides)[0].permute(1, 2, 0)
