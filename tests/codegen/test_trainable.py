"""A budget of RAM picks the layers that train: within it, as many as fit, the same ones everywhere, and errors by key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinymetafed_codegen import graph, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design, chosen_layers, design
from tinymetafed_codegen.memory.trainable import LayerChoice
from tinymetafed_codegen.spec import SpecError

LAYERS = [
    {"op": "conv2d", "name": "stem", "filters": 6, "kernel": 3, "stride": 2, "activation": "relu"},
    {"op": "separable_conv2d", "name": "block", "filters": 24, "kernel": 3, "activation": "relu"},
    {"op": "depthwise_conv2d", "name": "deep", "kernel": 3, "activation": "relu"},
    {"op": "conv2d", "name": "wide", "filters": 64, "kernel": 1, "activation": "relu"},
    {"op": "global_avg_pool"},
    {"op": "dense", "name": "top", "units": 3, "local": True},
]
SHARED = ["stem", "block", "deep", "wide"]
GAINS = {"stem": 1.0, "block": 0.01, "deep": 0.01, "wide": 0.001}


def experiment(tmp_path: Path, trainable: Any = None, **model: Any) -> spec.Experiment:
    table = {
        "task": {"kind": "folder", "path": "."},
        "data": {"normalise": "none"},
        "model": {"input": [16, 16, 1], "loss": "softmax_cross_entropy", "layers": LAYERS, **model},
    }
    if trainable is not None:
        table["model"]["trainable"] = trainable  # type: ignore[index]
    whole = spec.parse(table, "net.toml")
    if "weights" not in model:
        file = tmp_path / "start.npz"
        plain = whole.model.model_copy(update={"trainable": None})
        np.savez(file, **{p.name: np.zeros(p.parameter.shape, np.float32) for p in graph.build(plain).parameters})  # type: ignore[arg-type]
        table["model"]["weights"] = str(file)  # type: ignore[index]
    return spec.parse(table, "net.toml")


def picked(tmp_path: Path, budget: int, **model: Any) -> LayerChoice:
    return chosen_layers(experiment(tmp_path, f"budget:{budget}B", **model), boards.load("mps2"), "net.toml")


def designed(asked: spec.Experiment, board: str = "mps2") -> Design:
    return design(asked, boards.load(board), "net.toml")


@pytest.mark.parametrize("gains", [None, GAINS])
def test_the_layers_fit_and_no_other_layer_would(tmp_path: Path, gains: dict[str, float] | None) -> None:
    model = {} if gains is None else {"gains": gains}
    whole = picked(tmp_path, 1 << 20, **model)
    assert whole.trainable == (*SHARED, "top") and whole.ram == whole.ram_whole
    assert whole.multiply_accumulates == whole.multiply_accumulates_whole
    for share in (0.72, 0.8, 0.9):
        budget = int(share * whole.ram_whole)
        choice = picked(tmp_path, budget, **model)
        made = designed(experiment(tmp_path, f"budget:{budget}B", **model))
        assert made.manifest.kept is None
        assert made.manifest.memory.ram_total == choice.ram <= budget
        for layer in choice.layers:
            assert layer.trains or choice.ram + layer.ram_bytes > budget, f"{layer.name} would fit into {budget}"
        assert "top" in choice.trainable and choice == picked(tmp_path, budget, **model)


def test_without_gains_the_last_layers_come_first_and_with_them_what_gains_most_per_byte_and_product(tmp_path: Path) -> None:
    whole = picked(tmp_path, 1 << 20).ram_whole
    assert picked(tmp_path, whole - 1).trainable == ("block", "deep", "wide", "top"), "the first layer is left out"
    by_gain = picked(tmp_path, whole - 1, gains=GAINS | {"stem": 1e6})
    assert "stem" in by_gain.trainable and by_gain.criterion != picked(tmp_path, whole - 1).criterion
    scores = {layer.name: layer.gain for layer in by_gain.layers}
    assert scores == GAINS | {"stem": 1e6, "top": None}


def test_the_smallest_budget_that_an_error_names_works_and_one_byte_less_does_not(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no layer that boards share") as error:
        picked(tmp_path, 9_000)
    smallest = int(str(error.value).partition("'budget:9000B'")[2].partition("'budget:")[2].partition("B'")[0])
    assert len(picked(tmp_path, smallest).trainable) == 2
    with pytest.raises(SpecError, match=f"budget:{smallest}B"):
        picked(tmp_path, smallest - 1)


def test_a_design_names_the_layers_and_is_that_of_the_list_on_every_board(tmp_path: Path) -> None:
    asked = experiment(tmp_path, f"budget:{picked(tmp_path, 1 << 20).ram_whole - 1}B")
    made = designed(asked)
    assert made.experiment.model.trainable == ("block", "deep", "wide", "top")
    assert made.choice is not None and designed(made.experiment).choice is None
    listed = designed(experiment(tmp_path, ["block", "deep", "wide", "top"]), "native")
    narrow = replace(boards.load("rv32"), receive_window=256)
    assert listed.model_hash == made.model_hash == design(asked, narrow, "net.toml").model_hash == made.on(narrow).model_hash
    assert [tensor.name for tensor in made.manifest.frozen] == ["stem.kernel", "stem.bias"]
    assert spec.parse(spec.dump(made.experiment), "run.toml") == made.experiment


def test_all_layers_are_shared_by_strategies_without_local_layers(tmp_path: Path) -> None:
    asked = experiment(tmp_path, "budget:9000B")
    whole = asked.model_copy(
        update={
            "strategy": spec.TinyReptileSpec(kind="tinyreptile", global_learning_rate=0.1, global_passes=1, output_clamp=0.0)
        }
    )
    with pytest.raises(SpecError, match=r"the smallest budget that works is 'budget:\d+B', which trains top$"):
        chosen_layers(whole, boards.load("mps2"), "net.toml")


@pytest.mark.parametrize(
    ("trainable", "said"),
    [
        ("budget:", "model.trainable: 'budget:': expected a budget of RAM such as 'budget:96KB'"),
        ("96KB", "model.trainable: '96KB': expected"),
        ([], r"model.trainable: \[\]: expected .* names of layers"),
        (["top", "top"], "model.trainable: .* each once"),
        (7, "model.trainable: 7: expected"),
        (["top", "wid"], "model.trainable names 'wid', but no layer has that name; did you mean 'wide'"),
        (["top", "global_avg_pool5"], "model.trainable names 'global_avg_pool5', which is frozen or has no weights"),
        (["wide"], r"layers\[5\]: 'top' is local, so each device trains it; name it in model.trainable"),
        (["top"], "every layer of model.trainable is local, .*; name another one"),
    ],
)
def test_wrong_values_are_refused_by_key(tmp_path: Path, trainable: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        designed(experiment(tmp_path, trainable, weights="none.npz"))


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ({"stem": 1.0}, "model.gains lacks block, deep, wide; `tinymetafed bench gains`"),
        (GAINS | {"top": 1.0}, "model.gains.top: no shared layer"),
        (GAINS | {"stem": -1.0}, "model.gains"),
    ],
)
def test_gains_that_do_not_fit_are_refused(tmp_path: Path, gains: dict[str, float], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        picked(tmp_path, 1 << 20, gains=gains)


def test_layers_that_do_not_train_need_values(tmp_path: Path) -> None:
    asked = experiment(tmp_path, ["wide", "top"])
    with pytest.raises(SpecError, match=r"model.weights is missing.*tinymetafed export RUN -o start.npz"):
        designed(asked.model_copy(update={"model": asked.model.model_copy(update={"weights": None})}))
