"""The model's hash changes with everything that changes the trained bits, not with the C++ text or the layers' names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinymetafed_codegen import hash, ops
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design
from tinymetafed_codegen.ops import Op, conv2d, dense, row_tiles
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


def with_section(name: str, **keys: Any) -> dict[str, Any]:
    return experiment() | {name: keys}


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
    for module in (conv2d, dense):
        monkeypatch.setattr(module, "tile", lambda size: min(size, 3))
    monkeypatch.setattr(row_tiles, "MOST_BYTES", 1_000)
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
        {"model__momentum": 0.0}, {"model__huber_delta": 2.0}, {"model__init": "glorot"}, {"strategy__selection": "layer"},
        {"strategy__server": "adam"}, {"strategy__average_last": 0.5},
    ],
    ids=str,
)  # fmt: skip
def test_options_sent_at_run_time_or_unused_do_not_change_the_hash(changes: dict[str, Any]) -> None:
    assert hash_of(experiment(**changes)) == BASE


@pytest.mark.parametrize(
    "keys", [{"memory": "least"}, {"keep_activations": False}, {"split_steps": True}, {"measures": True}], ids=str
)
def test_what_takes_other_memory_for_the_same_bits_does_not_change_the_hash(keys: dict[str, Any]) -> None:
    assert hash_of(with_section("board", **keys)) == BASE


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
        experiment(strategy__uplink="i4"), experiment(strategy__downlink="i4"), experiment(model__activations="f16"),
        with_section("augment", shift=1), with_section("predict", average=3, shift=1),
        with_section("data", normalise="running"), with_section("data", shift=[0.5], scale=[2.0]),
        with_section("board", store=True),
    ],
    ids=lambda raw: "",
)  # fmt: skip
def test_options_that_change_the_trained_bits_change_the_hash(raw: dict[str, Any]) -> None:
    layers = raw["model"]["layers"]
    layers[:] = [{key: value for key, value in layer.items() if value is not None} for layer in layers]
    assert hash_of(raw) != BASE


@pytest.mark.parametrize(
    "variants",
    [
        [experiment(strategy__uplink=uplink) for uplink in ("i8", "i4", "i3", "t2")],
        [experiment(strategy__downlink=downlink) for downlink in ("f32", "f16", "i8", "i4", "i3", "t2")],
        [with_section("augment", **keys) for keys in ({"shift": 1}, {"shift": 2}, {"shift": 1, "adaptation": False})],
        [with_section("predict", average=views, shift=shift) for views, shift in ((3, 1), (5, 1), (3, 2))],
        [with_section("data", shift=[shift], scale=[scale]) for shift, scale in ((0.0, 1.0), (0.5, 1.0), (0.5, 2.0))],
    ],
    ids=["uplink", "downlink", "augment", "predict", "data"],
)  # fmt: skip
def test_each_value_of_an_option_has_a_hash_of_its_own(variants: list[dict[str, Any]]) -> None:
    assert len({hash_of(raw) for raw in variants}) == len(variants)


def test_which_layers_train_changes_the_hash_even_if_the_others_are_alike(tmp_path: Path) -> None:
    file, names = tmp_path / "weights.npz", ("first", "second")
    kernels = {f"{name}.kernel": np.eye(4, dtype=np.float32) for name in names}
    np.savez(file, **kernels, **{f"{name}.bias": np.zeros(4, np.float32) for name in names})
    seen = set()
    for trained in (["stem", "first", "head"], ["stem", "second", "head"], ["stem", "first", "second", "head"]):
        raw = experiment(model__trainable=trained, model__weights=str(file))
        raw["model"]["layers"] = [
            {"op": "flatten"},
            *(
                {"op": "dense", "units": units, "name": name}
                for name, units in (("stem", 4), ("first", 4), ("second", 4), ("head", 2))
            ),
        ]
        seen.add(hash_of(raw))
    assert len(seen) == 3


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
