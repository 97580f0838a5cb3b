"""The model's hash: it covers everything that the trained bits depend on, but not how the C++ is written.

Host and firmware compare it before they work together. Build folders are named after it. A run is continued only with the
model that it was begun with.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from . import included, ops, weights_file
from .calls import Call
from .graph import Graph
from .messages.level_format import LevelFormat
from .ops import Op, Sgd
from .optional_messages import (
    authentication_messages,
    coded_messages,
    difference_messages,
    level_messages,
    secure_messages,
    store_messages,
)
from .options import augmentation, private_update, sample_source, secure_sum, sensor
from .spec import Experiment

# Raise it when a change makes the same model train to other bits: kernels, exp, sin, random numbers, order of sums, or the
# whole numbers that gateways add up (host/tinymetafed/learn/fixed_sum.py). Gateways and servers that differ refuse each other.
ARITHMETIC_VERSION = 1
# Raise it when the hash itself is computed in another way.
HASH_VERSION = 2
_NAMES = {"name", "other"}  # names of layers, which do not count; `reads` has the numbers of layers instead


def model_hash(experiment: Experiment, net: Graph, given: Mapping[str, weights_file.Values]) -> bytes:
    """Hashes ops with shapes and options, their order, the update rule and the arithmetic.

    Args:
        experiment: The complete experiment. Only those options of the strategy count that change the firmware.
        net: The model's graph.
        given: The arrays of model.weights by names such as dense1.kernel. Only those of frozen layers count.

    Returns:
        The first 8 bytes of SHA-256. Names of layers, C++ types, tiles and the board do not change them, but the C++ type and
        the header of a user's op do. Unused options and options at their default do not alter the hash, so a new option
        changes no existing hash.
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
        "activations": model.activations if net.rounds else None,
        "clip_norm": model.clip_norm or None,
        "gradient": experiment.strategy.gradient or None,
        "error_feedback": experiment.strategy.error_feedback or None,
        "store": store_messages.store_schema_hash().hex() if experiment.board.store else None,
        "sensor": sensor.description(experiment),
        "security": authentication_messages.authentication_schema_hash().hex() if experiment.run.is_authenticated else None,
        "private_update": private_update.description(experiment, net.n_global),
        "secure_sum": _secure_sum(experiment, net.n_global),
        "level_update": _levels(experiment.strategy.uplink_levels),
        "level_load": _levels(experiment.strategy.downlink_levels),
        "coded_update": coded_messages.coded_schema_hash().hex() if experiment.strategy.codes_values else None,
        "download": difference_messages.difference_schema_hash().hex() if experiment.strategy.takes_differences else None,
        "waves": experiment.task.waves.changed_ranges or None if experiment.task.waves else None,
        "augment": augmentation.description(experiment),
        "frozen": _digest([given[f"{op.name}.{parameter.name}"] for op, parameter in net.frozen]) if net.frozen else None,
    }
    description |= {key: value for key, value in optional.items() if value is not None}
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).digest()[:8]


def _levels(found: LevelFormat | None) -> list[str | int] | None:
    return None if found is None else [level_messages.level_schema_hash().hex(), *found.facts]


def _secure_sum(experiment: Experiment, n_global: int) -> list[str | int] | None:
    facts = secure_sum.facts(experiment, n_global)
    return None if facts is None else [secure_messages.secure_schema_hash().hex(), facts.seats, facts.levels, facts.exponent]


def _layer(call: Call, net: Graph) -> dict[str, Any]:
    """One layer: its op, the layers that it reads (0 is the input), its shapes, its options that differ from the defaults."""
    made = {net.input.name: 0} | {each.y.name: place for place, each in enumerate(net.forward, start=1)}
    own = {"own": _own(call.op)} if ops.own_op.is_own(type(call.op)) else {}
    return own | {
        "op": call.op.kind,
        "reads": [made[tensor.name] for tensor in call.reads],
        "shapes": [list(call.op.input_shape), list(call.op.output_shape)],
        "options": _options(call.op),
    }


def _options(op: Op) -> dict[str, Any]:
    """Fields of the op that differ from their defaults; weights by name and shape."""
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
    """What else the bits of a user's op depend on; ARITHMETIC_VERSION covers it for built-in ops."""
    header = ops.own_op.header(type(op))
    return {
        "kernel": op.cpp_type(),
        "header": included.digest(header) if header else op.header,
        "calls": [op.template, op.backward_reads(), op.in_place, op.can_mask_input],
        "scales": [[p.fan_in, p.fan_out, *([] if p.starts_at is None else [p.starts_at])] for p in op.parameters],
    }


def _digest(arrays: list[weights_file.Values]) -> str:
    little_endian = [array.astype(array.dtype.newbyteorder("<")) for array in arrays]
    return hashlib.sha256(b"".join(array.tobytes() for array in little_endian)).hexdigest()
