"""A round of many clients in JAX (vmap and jit), for comparison in ``bench simulation`` where JAX is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinymetafed_codegen import graph
from tinymetafed_codegen.ops import Op
from tinymetafed_codegen.protocol import Phase, Variant

from ..learn.tasks import Floats
from ..simulation.batches import Batch

Tensors = Mapping[str, Any]  # by the manifest's names

_MOVED = {Variant.LOCAL: {"local"}, Variant.GLOBAL: {"global"}, Variant.FULL: {"local", "global"}}
_OPS = {"dense", "conv2d", "flatten", "relu"}
_LOSSES = {"mse", "softmax_cross_entropy"}


class JaxError(Exception):
    """A round that cannot be trained in JAX; the text says why."""


def compile_round(net: graph.Graph, start: Tensors, phases: Sequence[Phase], samples: Sequence[Batch]) -> Callable[[], Tensors]:
    """Compiles the training of all clients.

    Args:
        net: The graph.
        start: All weights by tensor name, the same for every client.
        phases: The phases of the recipe.
        samples: For each phase the samples of all clients.

    Returns:
        A compiled function that trains all clients and returns their weights, [clients, ...] by tensor name.

    Raises:
        JaxError: JAX is not installed, or has no version of one of the model's ops, losses or update rules here.
    """
    try:
        jax: Any = importlib.import_module("jax")
    except ImportError:
        raise JaxError("JAX is not installed; pip install jax to compare with it") from None
    others = {call.op.kind for call in net.forward} - _OPS | {net.loss.name} - _LOSSES
    others |= {f"{phase.variant.name} steps" for phase in phases if phase.variant not in _MOVED}
    if net.frozen or net.sgd.momentum or net.sgd.weight_decay:
        others |= {"frozen layers, momentum or weight decay"}
    if others:
        raise JaxError(f"no JAX version of {', '.join(sorted(others))} to compare with")
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
