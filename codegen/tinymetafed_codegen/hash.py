"""The model's hash: it names all that the trained bits depend on, and nothing of how the C++ is written.

Host and firmware compare it before they work together, builds lie in folders of its name, and a run is only continued with
the model that it was begun with.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from . import included, ops, sample_source, weights
from .graph import Call, Graph
from .ops import Op, Sgd
from .spec import Experiment

# Raised whenever the same model would train to other bits: kernels, exp, sin, random numbers, order of sums.
ARITHMETIC_VERSION = 1
# Raised when the same model gets another hash for a reason that is not the model's.
HASH_VERSION = 2
_NAMES = {"name", "other"}  # how a layer is called, and how it calls another one: places stand for them


def model_hash(experiment: Experiment, net: Graph, given: Mapping[str, weights.Floats]) -> bytes:
    """First 8 bytes of SHA-256 over ops with shapes and options, their order, the update and the arithmetic.

    Args:
        experiment: The complete experiment; of its strategy, what takes memory or code of the firmware counts.
        net: Its graph.
        given: The arrays of model.weights by LAYER.kernel and LAYER.bias; those of frozen layers count.

    Names of layers, C++ types, tiles and the board do not count; of a user's own op, its C++ type and its header do. An option
    that is unused or at its default leaves the hash alone, so that a new option changes no hash of a model without it.
    """
    model = experiment.model
    own = sample_source.own_source(experiment)
    description = {
        "version": HASH_VERSION,
        "arithmetic": ARITHMETIC_VERSION,
        "input": list(net.input.shape),
        "layers": [_layer(call, net) for call in net.forward],
        "loss": net.loss.name,
        "local_start": [model.local_start, model.local_start_scale],
        "downlink": experiment.strategy.downlink,
        "samples": experiment.task.sample_source if own is None else sample_source.digest(own),
    }
    optional = {
        "huber_delta": model.huber_delta if net.loss.name == "huber" else None,
        "sgd": [net.sgd.momentum, net.sgd.weight_decay] if net.sgd != Sgd(0, 0) else None,
        "clip_norm": model.clip_norm or None,
        "gradient": experiment.strategy.gradient or None,
        "error_feedback": experiment.strategy.error_feedback or None,
        "frozen": _digest([given[f"{op.name}.{parameter.name}"] for op, parameter in net.frozen]) if net.frozen else None,
    }
    description |= {key: value for key, value in optional.items() if value is not None}
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).digest()[:8]


def _layer(call: Call, net: Graph) -> dict[str, Any]:
    """One layer: its op, what it reads (0: the input, n: the n-th layer), its shapes, its options that are no defaults."""
    made = {net.input.name: 0} | {each.y.name: place for place, each in enumerate(net.forward, start=1)}
    own = {"own": _own(call.op)} if ops.own.is_own(type(call.op)) else {}
    return own | {
        "op": call.op.kind,
        "reads": [made[tensor.name] for tensor in call.reads],
        "shapes": [list(call.op.input_shape), list(call.op.output_shape)],
        "options": _options(call.op),
    }


def _options(op: Op) -> dict[str, Any]:
    """Fields that differ from their defaults; weights by name and shape."""
    changed = {
        field.name: getattr(op, field.name)
        for field in dataclasses.fields(op)
        if field.name not in _NAMES | {"input_shape", "output_shape", "parameters"} and getattr(op, field.name) != field.default
    }
    plain = {name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value for name, value in changed.items()}  # type: ignore[arg-type]
    if op.parameters:
        plain["weights"] = [[parameter.name, list(parameter.shape)] for parameter in op.parameters]
    return plain


def _own(op: Op) -> dict[str, Any]:
    """What else the bits of a user's op depend on: of ours, ARITHMETIC_VERSION stands for it."""
    header = ops.own.header(type(op))
    return {
        "kernel": op.kernel(),
        "header": included.digest(header) if header else op.header,
        "calls": [op.template, op.backward_reads(), op.in_place, op.masks_input],
        "scales": [[parameter.fan_in, parameter.fan_out] for parameter in op.parameters],
    }


def _digest(arrays: list[weights.Floats]) -> str:
    return hashlib.sha256(b"".join(array.astype("<f4").tobytes() for array in arrays)).hexdigest()
