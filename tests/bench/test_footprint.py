"""Memory measured on the emulated Cortex-M4F is within its budgets and never above the estimate of codegen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_runs import Quiet, needs_qemu, sine

from tinymetafed import cli
from tinymetafed.bench import BenchError, BoardCannotMeasure, footprint, stack
from tinymetafed.bench.footprint import Footprint
from tinymetafed.devices.running import build_firmware
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen import graph
from tinymetafed_codegen.board import board_facts, board_requirements, boards
from tinymetafed_codegen.design import design_graph
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.spec import Experiment

KB = 1024
MEASURED = [
    (name, experiment) for name, experiment in footprint.models([]) if experiment.task.kind == "sine" or "presence" in name
]


@pytest.fixture(scope="module")
def figures() -> dict[str, Footprint]:
    """Memory of each model on mps2, by the model's name."""
    return {each.model: each for each in footprint.measure(MEASURED, ["mps2"], Quiet())}


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
@pytest.mark.parametrize(
    ("model", "flash", "ram"),
    [("examples/sine.toml", 24 * KB, 12 * KB), ("presence detector", 24 * KB, 48 * KB)],
)
def test_a_model_keeps_to_its_budget(figures: dict[str, Footprint], model: str, flash: int, ram: int) -> None:
    found = figures[model]
    assert found.flash <= flash
    assert found.static + found.stack == found.ram <= ram
    assert 256 < found.stack < board_facts.STACK_BYTES


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
def test_codegen_estimates_no_less_than_is_measured_and_little_more(figures: dict[str, Footprint]) -> None:
    board = boards.load("mps2")
    for name, experiment in MEASURED:
        found, manifest = figures[name], manifest_of(experiment, board)
        static = manifest.memory.ram_static
        assert found.static <= static <= 1.05 * found.static, name
        assert found.flash <= manifest.memory.flash <= 1.15 * found.flash, name


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
def test_a_program_that_predicts_learns_and_adapts_takes_little_more(figures: dict[str, Footprint]) -> None:
    designed = design_of(sine(), "sine")
    with_all = build_firmware(designed, "mps2", footprint.OWN_PROGRAM)
    plain = figures["examples/sine.toml"]
    assert plain.flash < with_all.flash_bytes <= plain.flash + 3 * KB
    assert plain.static <= with_all.ram_bytes <= plain.static + 512


def manifest_of(experiment: Experiment, board: board_facts.Board) -> ModelManifest:
    return design_graph(experiment, board, graph.build(experiment.model, "test"), "test").manifest


def test_a_board_that_does_not_run_in_qemu_is_refused() -> None:
    with pytest.raises(BoardCannotMeasure, match=r"'native' does not run in QEMU.*mps2"):
        footprint.measure(footprint.models([]), ["native"], Quiet())


def test_a_missing_emulator_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = board_requirements.Requirement("qemu-system-arm", True, "running", "qemu-system-arm", None, to_build=False)
    monkeypatch.setattr(boards, "missing_tools", lambda board: [lacking])
    with pytest.raises(BenchError, match="sudo apt install qemu-system-arm"):
        footprint.emulated_boards()


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
def test_a_stack_without_paint_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "PAINT", 0xC5C5C5C6)
    with pytest.raises(BenchError, match="'mps2': its start-up does not paint the stack with 0xC5C5C5C6"):
        footprint.measure(footprint.models([])[:1], ["mps2"], Quiet())


def test_the_command_prints_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [Footprint("sine", "mps2", 11_044, 11_256, 596, 11_852, 1_048_576, 262_144)]
    printed = json.dumps([
        {"model": "sine", "board": "mps2", "flash": 11_044, "static": 11_256, "stack": 596, "ram": 11_852,
         "flash_available": 1_048_576, "ram_available": 262_144},
    ])  # fmt: skip
    monkeypatch.setattr(footprint, "measure", lambda chosen, on, observer, own_program: rows)
    for arguments, words in ((["--json"], printed), ([], "11,852")):
        monkeypatch.setattr("sys.argv", ["tinymetafed", "bench", "memory", "--board", "mps2", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        assert words in capsys.readouterr().out
