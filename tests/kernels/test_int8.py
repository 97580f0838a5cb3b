"""Every layer over int8 against NumPy, also for samples beyond int8, and against recorded outputs of TensorFlow Lite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import int8_reference
import numpy as np
import pytest
import recorded_int8
from compiled_model import MODELS, design
from int8_model import compile_apart

from tinymetafed_codegen import spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design as designed


def expected(made: Any, x: Any) -> dict[str, Any]:
    """Every int8 layer's output, by its name."""
    values = {made.graph.input.name: x.reshape(made.graph.input.shape)}
    found = {}
    for call in made.graph.forward:
        if call.op.kind not in int8_reference.OPS:
            break
        read = [values[tensor.name].reshape(tensor.shape) for tensor in call.reads[:1]]
        read += [] if call.other is None else [values[call.other.name]]
        constants = [made.weights[f"{call.op.name}.{p.name}"].astype(np.int64) for p in call.op.parameters]
        values[call.y.name] = found[call.op.name] = int8_reference.OPS[call.op.kind](call.op, *read, *constants)
    return found


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("int8")])
def test_every_layer_equals_numpy(name: str, tmp_path: Path) -> None:
    made = design(MODELS[name], tmp_path)
    model = compile_apart(made, tmp_path)
    random = np.random.default_rng(5)
    scale = np.float32(made.graph.forward[0].op.scale)  # type: ignore[attr-defined]
    size = made.graph.input.size
    halves = scale * (random.integers(-300, 300, size) + 0.5).astype(np.float32)
    far = np.where(random.integers(0, 2, size), 3e38, -3e38).astype(np.float32)
    samples = [scale * random.normal(0, 90, size).astype(np.float32) for _ in range(8)]
    seen: dict[str, set[int]] = {}
    for x in (*samples, halves, far, np.zeros(size, np.float32)):
        given = model.tensors(x)
        for layer, wanted in expected(made, x).items():
            np.testing.assert_array_equal(given[layer], wanted.ravel(), err_msg=layer)
            seen.setdefault(layer, set()).update(np.unique(wanted).tolist())
    few = [layer for layer, values in seen.items() if len(values) < 12]
    assert not few, "the outputs of these layers are nearly all clamped, so that a wrong one would not be noticed"


@pytest.mark.parametrize("name", recorded_int8.NETWORKS)
def test_every_layer_equals_what_tensorflow_lite_gave(name: str, tmp_path: Path) -> None:
    made = designed(spec.load(recorded_int8.FOLDER / name / "net.toml"), boards.load("native"), "test")
    model = compile_apart(made, tmp_path)
    quantize = made.graph.forward[0].op
    scale, zero_point = np.float32(quantize.scale), np.float32(quantize.zero_point)  # type: ignore[attr-defined]
    given = []
    for x in recorded_int8.samples(made.graph.input.size):
        tensors = model.tensors(scale * (x.astype(np.float32) - zero_point))
        given.append({layer: values for layer, values in tensors.items() if values.dtype == np.int8})
    assert recorded_int8.hashes(given) == recorded_int8.recorded()[name]


def test_four_int8_numbers_share_a_float_of_the_arena(tmp_path: Path) -> None:
    made = design(MODELS["int8"], tmp_path)
    stem = next(call.y for call in made.graph.forward if call.op.name == "stem")
    assert stem.int8 and stem.floats == -(-stem.size // 4)
    kernel = next(p for op, p in made.graph.frozen if op.name == "stem" and p.name == "kernel")
    assert kernel.bytes == kernel.size
    assert made.graph.frozen_bytes == sum(p.size * (1 if p.dtype == "int8" else 4) for _, p in made.graph.frozen)
