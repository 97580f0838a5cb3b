"""Code generation: deterministic, writes only changed files, and refuses a model too large for its board before compiling."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tinymetafed_codegen import emit, protocol, spec
from tinymetafed_codegen.board import board_errors, boards
from tinymetafed_codegen.budget import BudgetError
from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.manifest import ModelManifest

SINE = find("examples") / "sine.toml"
GOLDEN = Path(__file__).parents[1] / "golden" / "sine_mps2_model.hpp"


def designed(*overrides: str, board: str = "mps2") -> Design:
    return design(spec.load(SINE, overrides), boards.load(board), "sine.toml")


def test_the_generated_model_is_the_golden_one(tmp_path: Path) -> None:
    emit.write(designed(), tmp_path, "tinymetafed codegen sine.toml --board mps2")
    assert (tmp_path / "model.hpp").read_text() == GOLDEN.read_text(), (
        f"the generated code changed; if it should, copy {tmp_path / 'model.hpp'} to {GOLDEN}"
    )


def test_generating_again_writes_nothing(tmp_path: Path) -> None:
    assert len(emit.write(designed(), tmp_path, "test")) == 10
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert emit.write(designed(), tmp_path, "test") == []
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_the_model_hash_follows_what_the_bits_depend_on() -> None:
    base = designed().model_hash
    assert designed("run.rounds=5", "strategy.top_p=3", "task.support=4").model_hash == base
    assert designed(board="native").model_hash == base
    assert designed("model.local_start_scale=0.2").model_hash != base
    assert designed("strategy.kind=fedsgd").model_hash != designed("strategy.kind=fedavg").model_hash
    assert len({designed(f"strategy.downlink={dtype}").model_hash for dtype in ("f32", "f16", "i8")}) == 3
    assert designed('model.layers=[{op="dense",units=33},{op="dense",units=1,local=true}]').model_hash != base


def test_the_manifest_describes_every_weight_once(tmp_path: Path) -> None:
    emit.write(designed(), tmp_path, "test")
    manifest = ModelManifest.read(tmp_path / "manifest.json")
    assert manifest == designed().manifest
    ends = [tensor.offset + tensor.size for tensor in manifest.parameters]
    assert [tensor.offset for tensor in manifest.parameters] == [0, *ends[:-1]]
    assert ends[-1] == manifest.n_parameters == 1153
    assert manifest.n_global == 1120
    assert manifest.schema_hash == protocol.schema_hash().hex()
    assert manifest.memory.ram_total == sum(use.size for use in manifest.memory.ram) < manifest.memory.ram_available


def test_received_weights_take_the_memory_of_the_downlink() -> None:
    def received(downlink: str) -> int:
        ram = designed(f"strategy.downlink={downlink}").manifest.memory.ram
        return next(use.size for use in ram if use.purpose == "received weights (for the delta)")

    assert received("f32") == 4 * 1120
    assert received("f16") == 2 * 1120
    assert received("i8") == 1120 + 4 * 4  # dense1 and dense2 have four tensors together, each with a scale


def test_a_model_larger_than_the_board_is_refused_with_the_map() -> None:
    wide = 'model.layers=[{op="dense",units=900},{op="dense",units=200},{op="dense",units=1,local=true}]'
    with pytest.raises(BudgetError) as caught:
        designed(wide)
    text = str(caught.value)
    for part in ("bytes of RAM", "262,144", "weights", "arena", "dense2.kernel [900, 200]", "sine.toml"):
        assert part in text
    assert designed(wide, board="native").manifest.n_parameters > 180_000


def test_a_task_accepts_every_loss_of_its_kind_of_targets() -> None:
    assert designed("model.loss=huber").graph.loss.name == "huber"
    with pytest.raises(spec.SpecError, match=r"task 'sine' needs model.loss = mse or mae or huber, the model has binary"):
        designed("model.loss=binary_crossentropy")


def test_the_model_hash_follows_the_options_of_update_and_loss() -> None:
    seen = {designed(*options).model_hash for options in (
        [], ["model.momentum=0.5"], ["model.weight_decay=0.5"], ["model.clip_norm=0.5"], ["model.loss=huber"],
        ["model.loss=huber", "model.huber_delta=2.0"],
    )}  # fmt: skip
    assert len(seen) == 6


def test_momentum_is_accounted_for_in_memory() -> None:
    plain, moved = designed().manifest, designed("model.momentum=0.5").manifest
    assert moved.memory.ram_total - plain.memory.ram_total == 4 * plain.n_parameters


def test_a_streamed_sample_always_fits_the_receive_window() -> None:
    made = design(spec.load(find("examples") / "omniglot.toml"), boards.load("mps2"), "omniglot.toml")
    frame = 2 + protocol.Sample.fixed_size() + 4 + 28 * 28 + 4
    assert made.manifest.receive_window >= frame + -(-frame // 254) + 1


def test_an_unknown_board_names_the_nearest() -> None:
    with pytest.raises(board_errors.BoardError, match="did you mean 'mps2'"):
        boards.load("mps")


def test_the_command_for_build_scripts_refuses_in_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[task]\nkind = 'sine'\n")
    command = [sys.executable, "-m", "tinymetafed_codegen", str(bad), "--board", "mps2", "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ") and "'model' is missing" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
