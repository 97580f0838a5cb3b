"""How activations wait for the backward pass changes no bit: as they are, packed as float16, or computed again."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled_model import compile_with
from test_kernels import aligned, pointer

from tinymetafed_codegen import emit, graph, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.calls import Call
from tinymetafed_codegen.design import Design, design_graph
from tinymetafed_codegen.memory import stored_activations
from tinymetafed_codegen.memory.stored_activations import Storage
from tinymetafed_codegen.protocol import Variant

LANES, STEPS = 4, 3
# Two branches over one depthwise convolution: steps of local layers alone come to its output later than others.
MODEL: dict[str, Any] = {
    "input": [9, 9, 1],
    "loss": "softmax_cross_entropy",
    "layers": [
        {"op": "conv2d", "filters": 3, "kernel": 1, "activation": "sigmoid"},
        {"op": "depthwise_conv2d", "kernel": 3, "activation": "relu"},
        {"op": "affine"},
        {"op": "depthwise_conv2d", "kernel": 3, "activation": "hard_swish", "name": "trunk"},
        {"op": "conv2d", "filters": 3, "kernel": 3, "stride": 2, "local": True},
        {"op": "conv2d", "filters": 3, "kernel": 1, "local": True, "name": "own", "activation": "relu"},
        {"op": "conv2d", "filters": 3, "kernel": 3, "stride": 2, "from": "trunk", "activation": "relu"},
        {"op": "concatenate", "with": "own"},
        {"op": "max_pool", "size": 2},
        {"op": "flatten"},
        {"op": "dense", "units": 3},
    ],
}


def designed(activations: str, memory: str) -> Design:
    table = {
        "task": {"kind": "folder", "path": "."},
        "data": {"normalise": "none"},
        "model": MODEL | {"activations": activations},
        "board": {"memory": memory},
    }
    experiment = spec.parse(table, "test")
    return design_graph(experiment, boards.load("native"), graph.build(experiment.model), "test")


def trained(made: Design, folder: Path) -> bytes:
    """The weights of every lane after steps of all variants."""
    folder.mkdir()
    emit.write(made, folder, "pytest")
    flags = ["g++", "-O0", "-g0", "-shared", "-fPIC", "-fvisibility=hidden", f"-DLANES={LANES}", "-Wno-psabi"]
    compile_with(flags, folder, folder / "lanes.so", "lanes.cpp")
    vectors = ctypes.CDLL(str(folder / "lanes.so"))
    random = np.random.default_rng(3)
    net, arena_floats = made.graph, made.plan.floats
    weights, arena = aligned(net.n_state, LANES), aligned(arena_floats, LANES)
    weights[: net.n_parameters] = random.normal(0, 0.4, (net.n_parameters, LANES))
    start = weights[: net.n_parameters].copy()
    rates = np.full(LANES, 0.05, np.float32)
    for _ in range(STEPS):
        for variant in net.backward:
            arena[:] = np.nan  # reading an unwritten place gives NaN
            at, target = made.plan.offset(net.input), made.plan.offset(net.target)
            arena[at : at + net.input.size] = random.uniform(-1, 1, (net.input.size, LANES))
            arena[target] = random.integers(0, 3, LANES)
            vectors.step(int(variant), pointer(weights), pointer(arena), pointer(rates), ctypes.c_float(0.5))
    assert np.isfinite(weights).all() and (weights[: net.n_parameters] != start).any(axis=1).all()
    return weights.tobytes()


@pytest.mark.parametrize("activations", ["f32", "f16"])
def test_stored_packed_and_computed_again_train_to_the_same_weights(
    activations: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if activations == "f16":  # packed and computed again side by side, one from the other
        both = Storage(again=frozenset({"x3", "x6"}), packed=frozenset({"x2", "x5", "x7"}))
        monkeypatch.setattr(stored_activations, "chosen", lambda net, again: both)
    least = designed(activations, "least")
    kinds = {call.op.kind for call in least.graph.backward[Variant.FULL] if isinstance(call, Call) and call.again}
    assert kinds >= ({"depthwise_conv2d"} if activations == "f32" else {"depthwise_conv2d", "unpack_f16", "round_to_f16"})
    # The plain version stores every activation as it is.
    monkeypatch.setattr(stored_activations, "chosen", lambda net, again: Storage())
    plain = designed(activations, "fastest")
    assert least.plan.floats < plain.plan.floats
    assert least.model_hash == plain.model_hash
    assert trained(least, tmp_path / "least") == trained(plain, tmp_path / "plain")


def test_float16_activations_are_another_model() -> None:
    assert designed("f32", "least").model_hash != designed("f16", "least").model_hash
