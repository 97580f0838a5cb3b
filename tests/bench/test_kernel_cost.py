"""Cost of a training step: plugin and timer count alike, textbook kernels train alike, and missing tools are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import Quiet, needs_qemu

from tinymetafed.bench import BenchError, kernel_cost, line_cost, stack
from tinymetafed.bench.cycles import executions
from tinymetafed.bench.cycles.executions import Uncountable
from tinymetafed.devices.firmware import Deviation
from tinymetafed.devices.running import build_firmware
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen import spec
from tinymetafed_codegen.board import board_facts, boards
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.spec import Experiment

pytestmark = [needs_qemu, pytest.mark.xdist_group("emulator-qemu"), pytest.mark.usefixtures("built_once", "few_steps")]

# Upper limit of instructions of the textbook kernels at -O2, so that the comparison with them stays fair.
TEXTBOOK_LIMIT = {"sine": 27_500, "bench-conv": 4_000_000}


class RecordingObserver(Quiet):
    """An observer that records events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def event(self, text: str) -> None:
        self.events.append(text)


@pytest.fixture
def no_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the measurement of the stack, which is slow because it steps through single instructions."""
    monkeypatch.setattr(stack, "deepest", lambda *_: 0)


@pytest.mark.usefixtures("no_stack")
@pytest.mark.parametrize("model", sorted(TEXTBOOK_LIMIT))
def test_both_kernels_train_alike_and_are_counted(model: str) -> None:
    path = find(f"examples/{model}.toml")
    figures = kernel_cost.kernels(spec.load(path, ()), str(path), "mps2", Quiet(), "-O2")
    ours, plain = figures.generated, figures.textbook
    assert plain is not None and figures.weights_differ_by is not None and figures.weights_differ_by <= 1e-5
    assert ours.instructions_per_step["full"] < plain.instructions_per_step["full"] <= TEXTBOOK_LIMIT[model]
    for each in (ours, plain):
        assert each.cycles_low is not None and each.cycles_high is not None and each.us_low is not None
        for variant, instructions in each.instructions_per_step.items():
            low, high = each.cycles_low[variant], each.cycles_high[variant]
            assert instructions <= low <= high <= 4 * instructions
            assert each.us_low[variant] == pytest.approx(low / 64, abs=0.1)  # the nRF52840's 64 MHz
    assert "never checked on silicon" in figures.estimate


SINE = find("examples/sine.toml")


@pytest.mark.parametrize("experiment", [spec.load(SINE, ()), line_cost.presence()], ids=["samples of the board", "streamed"])
def test_two_counts_of_the_same_steps_are_equal(experiment: Experiment) -> None:
    built = build_firmware(design_of(experiment, "counted"), "mps2")
    counts = [kernel_cost.measure(experiment, boards.load("mps2"), built, Quiet()).instructions for _ in range(2)]
    assert counts[0] == counts[1]


@pytest.mark.usefixtures("no_stack")
def test_a_difference_between_plugin_and_timer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    read = executions.read

    def one_lost(out: Path) -> list[dict[int, executions.Execution]]:
        steps = read(out)
        most = [max(step, key=lambda address: step[address].executed) for step in steps]
        return [{at: each for at, each in step.items() if at != lost} for step, lost in zip(steps, most, strict=True)]

    monkeypatch.setattr(executions, "read", one_lost)
    path = SINE
    with pytest.raises(BenchError, match=r"instructions by the timer, .* by the plugin"):
        kernel_cost.kernels(spec.load(path, ()), str(path), "mps2", Quiet())


@pytest.mark.usefixtures("no_stack")
def test_without_a_compiler_for_the_plugin_instructions_are_counted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(emulator: str) -> Path:
        raise Uncountable("no C compiler")

    monkeypatch.setattr(executions, "plugin", fail)
    path = find("examples/sine.toml")
    figures = kernel_cost.kernels(spec.load(path, ()), str(path), "mps2", Quiet())
    assert figures.estimate == "no cycles: no C compiler"
    printed = figures.as_json()
    assert "cycles_low" not in printed and "us_low" not in printed["textbook"]
    assert figures.generated.instructions_per_step["full"] > 1_000


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(Uncountable, match="none-such-objdump is not installed"):
        executions.disassemble(tmp_path / "firmware.elf", "none-such-")
    monkeypatch.setenv("TINYMETAFED_BUILD_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Uncountable, match="no C compiler"):
        executions.plugin("qemu-system-arm")


def test_an_emulator_that_refuses_the_plugin_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stub = tmp_path / "emulator"
    stub.write_text("#!/bin/sh\necho 'plugins are not built in' >&2\nexit 1\n")
    stub.chmod(0o755)
    monkeypatch.setenv("TINYMETAFED_BUILD_DIR", str(tmp_path))
    with pytest.raises(Uncountable, match="plugins are not built in"):
        executions.plugin(str(stub))


def test_a_board_without_a_counter_is_refused() -> None:
    path = SINE
    with pytest.raises(BenchError, match="'native' does not run in QEMU"):
        kernel_cost.kernels(spec.load(path, ()), str(path), "native", Quiet())


def test_an_emulated_board_names_the_chip_it_represents() -> None:
    chip = boards.load("mps2").stands_for
    assert chip == board_facts.Chip("nRF52840", "cortex-m4", 64_000_000, (1.0, 1.21))
    assert boards.load("native").stands_for is None


def test_each_optimization_level_is_a_program_of_its_own() -> None:
    path = find("examples/sine.toml")
    size, speed = (
        build_firmware(design_of(spec.load(path, ()), str(path)), "mps2", Deviation(level)) for level in (None, "-O2")
    )
    assert size.program != speed.program and size.flash_bytes < speed.flash_bytes
