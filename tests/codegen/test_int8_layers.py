"""Layers over int8 in an experiment: what may follow what, their constants, and the hash that covers them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinymetafed_codegen import graph, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design, design_graph
from tinymetafed_codegen.spec import SpecError

QUANTIZE: dict[str, Any] = {"op": "quantize", "scale": 0.5, "zero_point": 3}
CONV: dict[str, Any] = {"op": "conv2d_int8", "name": "conv", "filters": 2, "kernel": 1, "zero_point": -1}
DEQUANTIZE: dict[str, Any] = {"op": "dequantize", "scale": 0.25}
TOP: list[dict[str, Any]] = [{"op": "flatten"}, {"op": "dense", "units": 2}]
ADD: dict[str, Any] = {"op": "add_int8", "with": "conv", "zero_point": 0, "factors": [[1 << 30, 0]] * 3}
GOOD = {
    "conv.kernel": np.arange(4).reshape(2, 1, 1, 2),
    "conv.bias": np.array([-70_000, 5]),
    "conv.multiplier": np.array([(1 << 31) - 1, 1 << 30]),
    "conv.shift": np.array([-9, -31]),
}


def experiment(layers: list[dict[str, Any]], weights: Path | None = None) -> spec.Experiment:
    model: dict[str, Any] = {"input": [3, 4, 2], "loss": "mse", "layers": layers}
    if weights is not None:
        model["weights"] = str(weights)
    return spec.parse({"task": {"kind": "folder", "path": "."}, "data": {"normalise": "none"}, "model": model}, "a test")


def designed(folder: Path, layers: list[dict[str, Any]], **changed: Any) -> Design:
    np.savez(folder / "net.npz", **(GOOD | changed))
    made = experiment(layers, folder / "net.npz")
    return design_graph(made, boards.load("mps2"), graph.build(made.model, "a test"), "a test")


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([CONV, DEQUANTIZE, *TOP], r"layers\[0\]: conv2d_int8 computes in int8 and would read float32; put .*quantize"),
        ([QUANTIZE, QUANTIZE, DEQUANTIZE, *TOP], r"layers\[1\]: quantize would read int8; leave it out"),
        ([QUANTIZE, *TOP], r"layers\[2\]: dense computes in float32 and would read int8; put .*dequantize"),
        ([QUANTIZE, {"op": "relu"}, *TOP], r"layers\[1\]: relu computes in float32"),
        (
            [{"op": "conv2d", "filters": 2, "kernel": 1}, QUANTIZE, DEQUANTIZE, *TOP],
            r"layers\[1\]: frozen above model.layers\[0\]",
        ),
        ([QUANTIZE, CONV | {"from": "stem"}, DEQUANTIZE, *TOP], r"layers\[1\]: from = 'stem': no layer above this line"),
        ([QUANTIZE, CONV | {"range": [5, 4]}, DEQUANTIZE, *TOP], r"range.*\[5, 4\]: expected \[lowest, highest\]"),
        ([QUANTIZE, CONV | {"zero_point": 128}, DEQUANTIZE, *TOP], r"zero_point.*127"),
        ([QUANTIZE, CONV, ADD | {"from": "quantize1", "name": "sum"}, DEQUANTIZE], r"every layer|nothing to train"),
        (
            [QUANTIZE, CONV | {"filters": 3}, ADD | {"with": "quantize1"}, DEQUANTIZE, *TOP],
            r"add_int8 expects two equal shapes",
        ),
        ([QUANTIZE, {"op": "dense_int8", "units": 2, "zero_point": 0}, DEQUANTIZE, *TOP], r"dense_int8 expects a vector"),
        ([QUANTIZE, CONV, DEQUANTIZE, {"op": "add", "with": "conv"}, *TOP], r"layers\[3\]: add computes in float32"),
    ],
)
def test_what_may_follow_what(layers: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        graph.build(experiment(layers).model, "a test")


def test_zero_points_come_from_the_layers_that_are_read() -> None:
    pool = {"op": "max_pool_int8", "size": 1, "name": "pool"}
    layers = [
        QUANTIZE,
        CONV,
        pool,
        CONV | {"name": "right", "from": "conv", "zero_point": 7},
        ADD | {"with": "pool"},
        DEQUANTIZE,
        *TOP,
    ]
    net = graph.build(experiment(layers).model, "a test")
    kernels = {call.op.name: call.op.cpp_type() for call in net.forward}
    assert "/*input_zero=*/3, /*zero=*/-1," in kernels["conv"]
    assert "/*input_zero=*/-1, /*zero=*/7," in kernels["right"]
    assert "/*input_zero=*/7, /*input_zero=*/-1, /*zero=*/0," in kernels["add_int85"]
    read = {call.op.name: [tensor.name for tensor in call.reads] for call in net.forward}
    assert read["right"] == ["x2"] and read["add_int85"] == ["x4", "x3"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"conv.kernel": np.full((2, 1, 1, 2), 128)}, "'conv.kernel' holds numbers that are not int8; import the model again"),
        ({"conv.bias": np.array([0.5, 1])}, "'conv.bias' holds numbers that are not int32"),
        ({"conv.shift": np.zeros(3)}, r"'conv.shift' has the shape \[3\], expected \[2\]"),
    ],
)
def test_constants_that_are_no_integers_are_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        designed(tmp_path, [QUANTIZE, CONV, DEQUANTIZE, *TOP], **changed)


def test_the_hash_follows_every_bit_of_the_constants_and_every_setting(tmp_path: Path) -> None:
    layers = [QUANTIZE, CONV, DEQUANTIZE, *TOP]
    hashes = [
        designed(tmp_path, layers).model_hash,
        designed(tmp_path, layers, **{"conv.multiplier": np.array([(1 << 31) - 2, 1 << 30])}).model_hash,
        designed(tmp_path, layers, **{"conv.shift": np.array([-8, -31])}).model_hash,
        designed(tmp_path, [QUANTIZE | {"zero_point": 4}, *layers[1:]]).model_hash,
        designed(tmp_path, [QUANTIZE | {"scale": 0.50001}, *layers[1:]]).model_hash,
        designed(tmp_path, [QUANTIZE, CONV | {"range": [-1, 127]}, *layers[2:]]).model_hash,
    ]
    assert len(set(hashes)) == len(hashes)
    assert designed(tmp_path, [QUANTIZE, CONV, {**DEQUANTIZE, "name": "other"}, *TOP]).model_hash == hashes[0]
