"""What a board keeps of samples: only where steps leave the first layers as they are, and only in half of its free RAM."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinymetafed_codegen import graph, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.design import Design, design, design_graph
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.manifest import KeptActivations, ModelManifest
from tinymetafed_codegen.memory import kept_activations
from tinymetafed_codegen.protocol import Phase, SampleSet, Variant

CONV: dict[str, Any] = {"op": "conv2d", "filters": 16, "kernel": 3}
HEAD: list[dict[str, Any]] = [{"op": "flatten"}, {"op": "dense", "units": 5, "local": True}]


def example(name: str, board: str | Board = "mps2", *overrides: str) -> Design:
    known = boards.load(board) if isinstance(board, str) else board
    return design(spec.load(find(f"examples/{name}.toml"), overrides), known, name)


def prefixes(layers: list[dict[str, Any]], size: int = 12, **model: Any) -> dict[Variant, tuple[int, str]]:
    """Of a model with these layers: number of layers and boundary tensor by variant."""
    table = {"task": {"kind": "omniglot"}, "model": {"input": [size, size, 1], "loss": "softmax_cross_entropy", **model}}
    table["model"]["layers"] = layers
    net = graph.build(spec.parse(table, "test").model, "test")
    found = kept_activations.prefixes(net)
    return {variant: (len(prefix.calls), prefix.boundary.name) for variant, prefix in found.items()}


def test_local_steps_of_omniglot_keep_the_last_global_activation_of_every_sample() -> None:
    kept = example("omniglot").manifest.kept
    assert kept is not None
    assert (kept.samples, kept.wanted, kept.floats, kept.layers) == (40, 40, 512, {"local": 3})
    assert kept.summary == (
        "kept activations of all 40 samples of a set: passes after the first leave out the first 3 layers in local steps "
        "(144,288 multiply-accumulates)"
    )


@pytest.mark.parametrize("board", ["mps2", "nano33ble", "esp32dev", "rv32", "esp32isa"])
def test_a_board_keeps_as_many_samples_as_half_of_its_free_ram_holds(board: str) -> None:
    manifest, plain = (example("omniglot", board, f"board.keep_activations={on}").manifest for on in ("true", "false"))
    assert plain.kept is None and manifest.kept is not None
    free = plain.memory.ram_available - plain.memory.ram_total
    taken = manifest.memory.ram_total - plain.memory.ram_total
    assert taken == {use.purpose: use.size for use in manifest.memory.ram}[kept_activations.PURPOSE]
    assert taken <= free // 2
    assert manifest.kept.samples == manifest.kept.wanted or taken + 4 * (512 + 1) > free // 2
    assert manifest.model_hash == plain.model_hash
    assert manifest.memory.stack == plain.memory.stack
    assert ModelManifest.of_json(json.loads(json.dumps(manifest.as_json())), "test") == manifest


def test_nothing_is_kept_where_there_is_no_room_or_little_to_gain() -> None:
    assert example("sine").manifest.kept is None
    assert example("presence").manifest.kept is None
    mps2 = boards.load("mps2")
    needed = example("omniglot", mps2, "board.keep_activations=false").manifest.memory
    full = dataclasses.replace(mps2, ram_bytes=needed.ram_total + 2 * 4 * 513)
    assert example("omniglot", full).manifest.kept is None
    small = dataclasses.replace(mps2, flash_bytes=needed.flash + 100)
    assert example("omniglot", small).manifest.kept is None


def test_codegen_says_why_nothing_is_kept() -> None:
    def why(*arguments: Any) -> str:
        made = example(*arguments)
        return kept_activations.obstacle(made.experiment, made.lowered, made.manifest.memory)

    mps2 = boards.load("mps2")
    needed = example("omniglot", mps2, "board.keep_activations=false").manifest.memory
    assert why("omniglot", dataclasses.replace(mps2, ram_bytes=needed.ram_total + 2_032)) == (
        "no activations are kept for later passes: those of one sample take 2,052 bytes, half of the free RAM is 984"
    )
    assert "bytes of flash" in why("omniglot", dataclasses.replace(mps2, flash_bytes=needed.flash + 100))
    assert why("omniglot", "mps2", "board.keep_activations=false") == why("sine") == ""


def test_frozen_layers_are_kept_however_small_they_are() -> None:
    def layers(frozen: bool) -> list[dict[str, Any]]:
        return [{"op": "flatten"}, *({"op": "dense", "units": 8, "frozen": each} for each in (True, frozen, False)), HEAD[1]]

    # Copying eight numbers takes less than computing them of nine.
    assert prefixes(layers(frozen=False), size=3, weights="w.npz") == dict.fromkeys(
        (Variant.LOCAL, Variant.GLOBAL, Variant.FULL), (1, "x2")
    )
    assert prefixes(layers(frozen=True), size=3, weights="w.npz")[Variant.LOCAL] == (2, "x3")
    affine = [{"op": "affine", "frozen": True}, {**CONV, "filters": 1}, *HEAD]
    assert prefixes(affine, size=6, weights="w.npz") == {}, "it multiplies each number once"


def test_frozen_layers_have_a_place_of_their_own_where_all_samples_fit_twice(tmp_path: Path) -> None:
    weights = tmp_path / "w.npz"
    np.savez(weights, **{"conv2d1.kernel": np.ones((3, 3, 1, 8), np.float32), "conv2d1.bias": np.ones(8, np.float32)})
    frozen = {"op": "conv2d", "filters": 8, "kernel": 3, "stride": 2, "frozen": True}
    table: dict[str, Any] = {"task": {"kind": "omniglot"}, "model": {"input": [28, 28, 1], "loss": "softmax_cross_entropy"}}
    table["model"] |= {"weights": str(weights), "layers": [frozen, {**CONV, "stride": 2}, *HEAD]}
    made = spec.parse(table, "test")
    net, mps2 = graph.build(made.model, "test"), boards.load("mps2")
    floats = (14 * 14 * 8, 7 * 7 * 16)
    off = made.model_copy(update={"board": made.board.model_copy(update={"keep_activations": False})})
    needed = design_graph(off, mps2, net, "test").manifest.memory.ram_total

    def kept(free: int) -> KeptActivations:
        found = design_graph(made, dataclasses.replace(mps2, ram_bytes=needed + 2 * free), net, "test").manifest.kept
        assert found is not None and found.bytes <= free
        return found

    room = kept_activations.RAM_BYTES + 40 * 4 * (sum(floats) + 1)
    both, one = kept(room), kept(room - 4)
    assert (both.frozen, both.floats, both.samples, both.layers) == (1, sum(floats), 40, {"local": 2, "global": 1, "full": 1})
    assert (one.frozen, one.floats, one.samples) == (0, max(floats), 40)
    assert not both.room and not one.room
    # A board with less room keeps more samples of the smaller activation.
    few = kept(kept_activations.RAM_BYTES + 15 * 4 * (floats[0] + 1))
    assert (few.frozen, few.samples, few.room) == (0, 15, {"local": 29})
    phases = [Phase(variant, SampleSet.SUPPORT, 25, 2, 0.1, 0.0) for variant in (Variant.LOCAL, Variant.FULL)]
    assert few.passes_sent(phases) == [1, 2]
    assert "15 of 40 (29 in local steps) samples" in few.summary
    assert both.summary.endswith("; the first 1, which are frozen, run once for all phases")
    phases = [Phase(variant, SampleSet.ADAPT, 40, 2, 0.1, 0.0) for variant in (Variant.LOCAL, Variant.FULL, Variant.LOCAL)]
    assert (both.passes_sent(phases), one.passes_sent(phases)) == ([1, 0, 0], [1, 1, 1])
    phases[1] = dataclasses.replace(phases[1], sample_set=SampleSet.QUERY)
    assert both.passes_sent(phases) == [1, 1, 1]


def test_a_strategy_without_local_layers_keeps_nothing() -> None:
    assert example("omniglot", "mps2", "strategy.kind=fedavg").manifest.kept is None


def test_the_layers_left_out_end_before_the_first_that_trains() -> None:
    assert prefixes([CONV, CONV, *HEAD]) == {Variant.LOCAL: (2, "x2")}
    assert prefixes([CONV, {**CONV, "frozen": False, "local": True}, *HEAD]) == {Variant.LOCAL: (1, "x1")}
    frozen = {**CONV, "frozen": True}
    rest = (Variant.GLOBAL, Variant.FULL)
    assert prefixes([frozen, CONV, *HEAD], weights="w.npz") == {Variant.LOCAL: (2, "x2")} | dict.fromkeys(rest, (1, "x1"))
    pooled = [frozen, {"op": "max_pool", "size": 2}, {"op": "flatten"}, {"op": "dense", "units": 8}, HEAD[1]]
    assert prefixes(pooled, weights="w.npz")[Variant.FULL] == (2, "x2")


def test_a_branch_across_the_border_moves_it_to_where_one_tensor_crosses() -> None:
    first = {**CONV, "name": "first", "padding": "same"}
    across = [first, {**CONV, "padding": "same"}, {**CONV, "padding": "same", "local": True}, {"op": "add", "with": "first"}]
    assert prefixes([*across, *HEAD]) == {Variant.LOCAL: (1, "x1")}
    within = [first, {**CONV, "padding": "same"}, {"op": "add", "with": "first"}]
    assert prefixes([*within, *HEAD]) == {Variant.LOCAL: (3, "x3")}


def test_a_device_that_takes_statistics_of_its_input_keeps_nothing() -> None:
    running = example("activity", "mps2", "data.normalise=running")
    assert running.graph.observing(Variant.LOCAL)
    assert running.manifest.kept is None
    assert example("activity").manifest.kept is not None


def test_int8_activations_are_kept_as_bytes() -> None:
    conv = {"op": "conv2d_int8", "name": "conv", "filters": 8, "kernel": 5, "zero_point": -1}
    table: dict[str, Any] = {
        "task": {"kind": "folder", "path": "."},
        "data": {"normalise": "none"},
        "model": {"input": [12, 12, 2], "loss": "mse", "weights": "net.npz"},
    }
    table["model"]["layers"] = [{"op": "quantize", "scale": 0.5, "zero_point": 3}, conv, {"op": "dequantize", "scale": 0.25}]
    table["model"]["layers"] += [{"op": "flatten"}, {"op": "dense", "units": 2}]
    net = graph.build(spec.parse(table, "test").model, "test")
    prefix = kept_activations.prefixes(net)[Variant.FULL]
    assert [call.op.kind for call in prefix.calls] == ["quantize", "conv2d_int8"]
    assert (prefix.boundary.floats, prefix.boundary.size) == (12 * 12 * 8 // 4, 12 * 12 * 8)
