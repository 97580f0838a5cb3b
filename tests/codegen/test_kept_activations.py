"""What a board keeps of samples: what saves messages or layers of later passes, in two thirds of its free RAM."""

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
from tinymetafed_codegen.memory import kept, kept_activations, kept_samples
from tinymetafed_codegen.options import adaptation
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


@pytest.mark.parametrize(
    ("board", "samples", "activations"),
    [("mps2", 40, 40), ("nano33ble", 40, 25), ("esp32dev", 0, 8), ("rv32", 40, 40), ("esp32isa", 40, 40)],
)
def test_a_board_keeps_what_two_thirds_of_its_free_ram_hold_and_samples_first(
    board: str, samples: int, activations: int
) -> None:
    manifest, plain = (example("omniglot", board, f"board.keep_activations={on}").manifest for on in ("true", "false"))
    assert plain.kept is None and plain.kept_samples is None and manifest.kept is not None
    free = plain.memory.ram_available - plain.memory.ram_total
    taken = manifest.memory.ram_total - plain.memory.ram_total
    uses = {use.purpose: use.size for use in manifest.memory.ram}
    of_samples, of_activations = uses.get(kept_samples.PURPOSE, 0), uses[kept_activations.PURPOSE]
    assert taken == of_samples + of_activations <= 2 * free // 3
    assert of_samples == (kept_samples.RAM_BYTES + 40 * (28 * 28 + 4) if samples else 0)
    assert of_activations == kept_activations.RAM_BYTES + activations * 4 * (512 + 1)
    assert manifest.kept.samples == activations
    assert (0 if manifest.kept_samples is None else manifest.kept_samples.samples) == samples
    # Room for one more activation, or for the samples of the smallest set, 25 of a round, is not left.
    assert activations == 40 or taken + 4 * (512 + 1) > 2 * free // 3
    assert samples or 2 * free // 3 < kept_samples.RAM_BYTES + 25 * (28 * 28 + 4)
    adapting = adaptation.phases(example("omniglot", board).experiment, 40)
    assert [phase.passes for phase in adapting] == [8, 2]
    assert manifest.passes_sent(adapting) == ([1, 0] if samples else [8, 2])
    assert manifest.model_hash == plain.model_hash
    assert manifest.memory.stack == plain.memory.stack
    assert ModelManifest.of_json(json.loads(json.dumps(manifest.as_json())), "test") == manifest


def test_nothing_is_kept_where_there_is_no_room_or_little_to_gain() -> None:
    assert example("sine").manifest.kept is None
    assert example("presence").manifest.kept is None
    mps2 = boards.load("mps2")
    needed = example("omniglot", mps2, "board.keep_activations=false").manifest.memory
    full = dataclasses.replace(mps2, ram_bytes=needed.ram_total + 3 * (4 * 513 + kept_activations.RAM_BYTES) // 2 - 2)
    assert example("omniglot", full).manifest.kept is None
    small = dataclasses.replace(mps2, flash_bytes=needed.flash + 100)
    assert example("omniglot", small).manifest.kept is None


def test_codegen_says_why_nothing_is_kept() -> None:
    def why(*arguments: Any) -> str:
        made = example(*arguments)
        return kept.why_no_activations(made.experiment, made.lowered, made.manifest)

    mps2 = boards.load("mps2")
    needed = example("omniglot", mps2, "board.keep_activations=false").manifest.memory
    assert why("omniglot", dataclasses.replace(mps2, ram_bytes=needed.ram_total + 2_032)) == (
        "no activations are kept for later passes: those of one sample take 2,084 bytes, 1,354 are left for them"
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
    memory = design_graph(off, mps2, net, "test").manifest.memory

    def keeping(room: int) -> KeptActivations:
        found = kept_activations.plan(made, net, memory, room)
        assert found is not None and found.bytes <= room
        return found

    room = kept_activations.RAM_BYTES + 40 * 4 * (sum(floats) + 1)
    both, one = keeping(room), keeping(room - 4)
    assert (both.frozen, both.floats, both.samples, both.layers) == (1, sum(floats), 40, {"local": 2, "global": 1, "full": 1})
    assert (one.frozen, one.floats, one.samples) == (0, max(floats), 40)
    assert not both.room and not one.room
    # A board with less room keeps more samples of the smaller activation.
    few = keeping(kept_activations.RAM_BYTES + 15 * 4 * (floats[0] + 1))
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


def test_samples_are_kept_as_they_are_sent_where_a_set_comes_several_times() -> None:
    kept = example("bench-conv").manifest.kept_samples
    assert kept is not None
    assert (kept.samples, kept.dtype, kept.sample_bytes) == (40, "U8", 788)
    assert "sets of up to 40, as they are sent, 788 bytes each" in kept.summary
    floats = example("presence").manifest.kept_samples
    assert floats is not None and (floats.samples, floats.dtype, floats.sample_bytes) == (16, "F32", 4 * (8 + 1))
    once = ("strategy.local_passes=1", "strategy.global_passes=1", "adaptation.local_passes=1", "adaptation.full_passes=0")
    assert example("presence", "mps2", *once).manifest.kept_samples is None


def test_a_smaller_set_is_kept_where_the_largest_does_not_fit() -> None:
    manifest = example("bench-conv", "esp32dev").manifest
    kept = manifest.kept_samples
    assert kept is not None and (kept.samples, kept.wanted) == (25, 40)
    assert "up to 25 (of 40 in the largest)" in kept.summary
    assert manifest.kept is not None and manifest.kept.samples == 10, "in what the samples leave"


def test_no_room_is_taken_for_samples_that_activations_save_anyway() -> None:
    local = "adaptation.full_passes=0", "strategy.local_passes=1", "strategy.global_passes=1"
    manifest = example("omniglot", "mps2", *local).manifest
    assert manifest.kept is not None and manifest.kept.samples == 40 and manifest.kept_samples is None
    # Where not all of the activations fit, the samples do.
    manifest = example("omniglot", "nano33ble", *local).manifest
    assert manifest.kept is not None and manifest.kept.samples == 40 and manifest.kept_samples is None
    nano = boards.load("nano33ble")
    manifest = example("omniglot", dataclasses.replace(nano, ram_bytes=nano.ram_bytes - 16_384), *local).manifest
    assert manifest.kept is not None and manifest.kept.samples < 40
    assert manifest.kept_samples is not None and manifest.kept_samples.samples == 40


def test_passes_that_no_device_trains_decide_nothing(tmp_path: Path) -> None:
    """Without rounds only the adaptation counts; with one pass over its samples, keeping them would spare no message."""
    weights = tmp_path / "w.npz"
    np.savez(weights, **{"conv2d1.kernel": np.ones((3, 3, 1, 4), np.float32), "conv2d1.bias": np.ones(4, np.float32)})
    layers = [
        {"op": "conv2d", "filters": 4, "kernel": 3, "stride": 2, "frozen": True},
        {"op": "flatten"},
        {"op": "dense", "units": 5},
    ]
    model = {"input": [28, 28, 1], "loss": "softmax_cross_entropy", "weights": str(weights), "layers": layers}
    task, adaptation_keys = {"kind": "omniglot"}, {"local_passes": 1, "full_passes": 0}
    table = {"task": task, "strategy": {"kind": "tinyol"}, "adaptation": adaptation_keys, "model": model}
    made = spec.parse(table, "test")
    net, mps2 = graph.build(made.model, "test"), boards.load("mps2")
    off = made.model_copy(update={"board": made.board.model_copy(update={"keep_activations": False})})
    needed = design_graph(off, mps2, net, "test").manifest.memory.ram_total
    manifest = design_graph(made, dataclasses.replace(mps2, ram_bytes=needed + 150_000), net, "test").manifest
    assert manifest.kept is not None and 25 <= manifest.kept.samples < 40
    assert manifest.kept_samples is None


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("sine", ()),  # the board makes its own
        ("bench-conv", ("board.keep_activations=false",)),
        ("bench-conv", ("board.memory=least",)),
        ("bench-conv", ("augment.shift=2",)),  # they change in every pass
    ],
)
def test_no_samples_are_kept(name: str, keys: tuple[str, ...]) -> None:
    assert example(name, "mps2", *keys).manifest.kept_samples is None
