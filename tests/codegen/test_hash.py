"""The model's hash changes with everything that changes the trained bits, not with the C++ text or the layers' names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinymetafed_codegen import boards, hash, ops
from tinymetafed_codegen.design import design
from tinymetafed_codegen.ops import Op, conv2d, dense, depthwise_conv2d
from tinymetafed_codegen.spec import parse

CONV: list[dict[str, Any]] = [
    {"op": "conv2d", "filters": 4, "kernel": 3, "stride": 2, "activation": "relu"},
    {"op": "depthwise_conv2d", "kernel": 3, "activation": "leaky_relu"},
    {"op": "conv2d", "filters": 4, "kernel": 1, "name": "side"},
    {"op": "add", "with": "conv2d1"},
    {"op": "max_pool"},
    {"op": "flatten"},
    {"op": "dense", "units": 2, "local": True},
]


def experiment(**changes: Any) -> dict[str, Any]:
    """A small network with every kind of option; ``changes`` are given as ``section_key=value``."""
    raw: dict[str, Any] = {
        "task": {"kind": "folder", "path": "."},
        "model": {"input": [8, 8, 1], "loss": "softmax_cross_entropy", "layers": [dict(layer) for layer in CONV]},
        "strategy": {},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        raw[section][name] = value
    return raw


def hash_of(raw: dict[str, Any], board: str = "native") -> str:
    return design(parse(raw, "test"), boards.load(board), "test").manifest.model_hash


def with_layer(number: int, **keys: Any) -> dict[str, Any]:
    raw = experiment()
    raw["model"]["layers"][number] |= keys
    return raw


BASE = hash_of(experiment())


def test_the_text_of_the_cpp_does_not_change_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Op.cpp_type
    for kind in {type(call.op) for call in design(parse(experiment(), "test"), boards.load("native"), "test").graph.forward}:
        genuine: Callable[[Op], str] = kind.cpp_type
        monkeypatch.setattr(kind, "cpp_type", lambda op, genuine=genuine: f"/* a comment */ renamed::{genuine(op)}")
    for module in (conv2d, dense, depthwise_conv2d):
        monkeypatch.setattr(module, "tile", lambda size: min(size, 3))
    assert Op.cpp_type is written and hash_of(experiment()) == BASE


def test_names_of_layers_do_not_change_the_hash() -> None:
    raw = experiment()
    raw["model"]["layers"][0]["name"] = "stem"
    raw["model"]["layers"][3]["with"] = "stem"
    raw["model"]["layers"][6]["name"] = "head"
    assert hash_of(raw) == BASE


@pytest.mark.parametrize("board", ["mps2", "nano33ble", "esp32dev"])
def test_the_board_does_not_change_the_hash(board: str) -> None:
    assert hash_of(experiment(), board) == BASE


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy__top_p": 10}, {"strategy__uplink": "f16"}, {"strategy__global_learning_rate": 0.5}, {"task__support": 3},
        {"model__momentum": 0.0}, {"model__huber_delta": 2.0}, {"model__init": "glorot"},
    ],
    ids=str,
)  # fmt: skip
def test_options_sent_at_run_time_or_unused_do_not_change_the_hash(changes: dict[str, Any]) -> None:
    assert hash_of(experiment(**changes)) == BASE


@pytest.mark.parametrize(
    "raw",
    [
        with_layer(0, kernel=5),         with_layer(0, activation="relu6"), with_layer(0, activation=None),
        with_layer(1, activation="tanh"),
        with_layer(1, kernel=5), with_layer(2, local=True), with_layer(3, **{"with": "depthwise_conv2d2"}),
        with_layer(4, op="avg_pool"), with_layer(4, stride=1), with_layer(6, local=False), with_layer(6, units=3),
        experiment(model__input=[8, 8, 2]), experiment(model__momentum=0.5), experiment(model__weight_decay=0.1),
        experiment(model__clip_norm=1.0), experiment(model__local_start="zeros"), experiment(model__local_start_scale=0.1),
        experiment(strategy__downlink="f32"), experiment(strategy__error_feedback=True), experiment(strategy__kind="fedsgd"),
        experiment(strategy__uplink_coding="rice"), experiment(strategy__uplink_coding="range"),
        experiment(strategy__uplink="i4"), experiment(strategy__downlink="i4"),
    ],
    ids=lambda raw: "",
)  # fmt: skip
def test_options_that_change_the_trained_bits_change_the_hash(raw: dict[str, Any]) -> None:
    layers = raw["model"]["layers"]
    layers[:] = [{key: value for key, value in layer.items() if value is not None} for layer in layers]
    assert hash_of(raw) != BASE


def test_the_order_of_layers_changes_the_hash() -> None:
    first, second = {"op": "tanh"}, {"op": "sigmoid"}
    seen = set()
    for order in ([first, second], [second, first]):
        raw = experiment()
        raw["model"]["layers"][4:4] = order
        seen.add(hash_of(raw))
    assert len(seen) == 2


def test_an_options_value_changes_the_hash() -> None:
    seen = set()
    for slope in (0.1, 0.2, 0.3):
        raw = experiment()
        raw["model"]["layers"].insert(4, {"op": "leaky_relu", "slope": slope})
        seen.add(hash_of(raw))
    assert len(seen) == 3


def test_the_version_of_the_arithmetic_changes_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash, "ARITHMETIC_VERSION", hash.ARITHMETIC_VERSION + 1)
    assert hash_of(experiment()) != BASE


def test_frozen_weights_change_the_hash(tmp_path: Path) -> None:
    seen = set()
    for value in (0.5, 0.25):
        file = tmp_path / f"{value}.npz"
        np.savez(file, **{"stem.kernel": np.full((3, 3, 1, 4), value, np.float32), "stem.bias": np.zeros(4, np.float32)})
        raw = with_layer(0, name="stem", frozen=True)
        raw["model"]["layers"][3]["with"] = "stem"
        raw["model"]["weights"] = str(file)
        seen.add(hash_of(raw))
    assert len(seen | {BASE}) == 3


def test_a_users_sample_source_and_its_includes_change_the_hash(tmp_path: Path) -> None:
    source, header = tmp_path / "source.cpp", tmp_path / "mine.hpp"
    source.write_text('#include "mine.hpp"\n#include "source.hpp"\nbool on_device();\nvoid make();\n')
    raw = experiment(task__source=str(source))
    seen = set()
    for text in ("#pragma once\n", "#pragma once\nconstexpr int kLevels = 3;\n"):
        header.write_text(text)
        seen.add(hash_of(raw))
    assert len(seen | {BASE}) == 3


def test_every_op_is_told_apart_by_its_kind() -> None:
    kinds = [op.kind for op in ops.LAYERS.values()]
    assert len(set(kinds)) == len(kinds) >= 15
