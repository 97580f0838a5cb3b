"""docs/costs.md: its exact figures are those of the budget, and `make bench` writes what was measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import budgets
import pytest

from tinymetafed.bench import costs, suite_cost, targets
from tinymetafed.bench.activation_cost import ActivationCost, ActivationCosts
from tinymetafed.bench.adaptation_cost import AdaptationCost
from tinymetafed.bench.augment_cost import AugmentCost
from tinymetafed.bench.command_cost import CommandCost
from tinymetafed.bench.costs import ArenaBytes, Costs
from tinymetafed.bench.downlink_cost import DownlinkCost, DownlinkRow
from tinymetafed.bench.kernel_cost import Comparison, StepCost
from tinymetafed.bench.layer_grid import PASSES, Cell, Grid, Row
from tinymetafed.bench.level_cost import LevelCost, LevelRow
from tinymetafed.bench.line_cost import FramingShare, LineShare, WireCost, WireRound
from tinymetafed.bench.run_cost import RunCost
from tinymetafed.bench.sample_cost import SampleCost
from tinymetafed.bench.seed_cost import SeedCost
from tinymetafed.bench.simulation_cost import ManyClients, SimulationCost
from tinymetafed.bench.suite_cost import SuiteCost
from tinymetafed.bench.uplink_cost import UpdateBytes, UplinkCost, UplinkRound
from tinymetafed_codegen.locate import root
from tinymetafed_codegen.memory.memory_prices import MemoryPrice


def rows(document: str, heading: str) -> list[list[str]]:
    """The cells of the table whose first line begins with ``heading``."""
    lines = document[document.index(heading) :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_documents_exact_figures_are_the_budgets() -> None:
    document = (root() / "docs" / costs.DOCUMENT).read_text(encoding="utf-8")
    allowed = budgets.written()
    assert allowed["compiler"] in document
    told = {
        net: {"full_instructions": int(instructions.replace(",", "")), "flash_bytes": int(flash.replace(",", ""))}
        for net, level, instructions, _, _, flash, *_ in rows(document, "| net | compiled at | instructions")
        if "the board's own" in level
    }
    assert set(told) == {*budgets.MODELS, "presence"}
    moved = [
        line for net in budgets.MODELS for line in budgets.beyond(net, {key: allowed[net][key] for key in told[net]}, told[net])
    ]
    assert not moved, "\n".join([*moved, "`make bench` writes docs/costs.md again"])
    assert (root() / "docs" / costs.PICTURE).is_file()


def test_targets_of_kernels_are_told_by_their_passes() -> None:
    depthwise = {name: Cell(3.0, 9.0, (cycles, 9.0), 2.5) for name, cycles in zip(PASSES, (3.0, 4.0, 5.0), strict=True)}
    pool = {"forward": Cell(8.0, 12.0, (8.0, 9.0), None), "gradient": Cell(2.0, 3.0, (2.0, 3.0), None)}
    grid = (Row("depthwise_conv2d 16x16x8, kernel 3, stride 1", 9, depthwise), Row("max_pool 24x24x8", 9, pool))
    title = grid[0].title
    assert [
        (row.what, row.now, row.wanted, bool(row.note)) for row in targets.of_kernels(grid, {title: 3_073, "other": 1})
    ] == [
        (f"{title}: cycles per multiplication", "4.00–9.00", "≤ 3.6", True),
        ("depthwise 3x3, stride 1, input gradient: cycles per multiplication", "4.00–9.00", "< 6.02", False),
        (f"{title}: bytes of flash, all passes, the largest of its kind in the grid", "3,073 (estimate)", "≤ 3,072", True),
        ("max_pool 2x2: times as fast as textbook", "1.50", "≥ 1.1", False),
        ("passes of 2 layers above 1.25 of their limit", "0 of 3", "0", False),
    ]


def test_the_layer_without_weights_that_gains_least_has_a_row() -> None:
    slow, fast = ({"forward": Cell(10.0, textbook, (8.0, 9.0), None)} for textbook in (10.5, 20.0))
    last = targets.of_kernels([Row("add 8", 8, slow), Row("max_pool 4x4x1", 16, fast)], {})[0]
    assert last.what == "add 8, the worst of 2 layers without weights: times as fast as textbook"
    assert (last.now, last.wanted) == ("1.05", "≥ 1.1")


def test_less_memory_for_activations_has_its_price_beside_it() -> None:
    choices = (("fastest", "f32", 800), ("least", "f32", 600), ("fastest", "f16", 400), ("least", "f16", 200))
    costs_of_net = ActivationCosts(
        "mps2",
        tuple(
            ActivationCost(MemoryPrice(memory, activations, arena, 9, 0, 0, False), {"local": 50, "full": 1_600 - arena})
            for memory, activations, arena in choices
        ),
    )
    again, packed = targets.of_activations({"net": costs_of_net})
    assert (again.what, again.now) == ('net, `board.memory = "least"`: arena, of the fastest', "0.75")
    assert again.note.startswith("1.25 times the instructions of a step, the same weights")
    assert packed.now == "0.50"
    assert "other weights" in packed.note


def test_an_adaptation_has_its_limit_and_messages_beside_it() -> None:
    steps, sent = {"local": 80, "full": 20}, {"local": 1, "full": 2}
    cost = AdaptationCost("mps2", 10, steps, sent, sent, 10, 4_000, 520_000, 1_000_000)
    least, forwards, messages = targets.of_adaptation({"n": cost}, {"n": {"local": 8_000, "full": 20_000}})
    assert (least.now, least.limit) == ("0.52", "0.48")
    assert "are 0.40;" in least.note and "70 further steps of the last layer take 0.04" in least.note
    assert (forwards.before, forwards.now, messages.before, messages.now) == ("8", "1", "100", "30")
    assert "do not fit" in messages.note
    cost = replace(cost, sent={"local": 1, "full": 0})
    *_, forwards, messages = targets.of_adaptation({"n": cost}, {"n": {"local": 8_000, "full": 20_000}})
    assert (forwards.now, messages.now, messages.note) == ("1", "10", "")


def test_an_adaptation_is_compared_with_the_one_before_boards_kept_activations() -> None:
    steps, passes = {"local": 320, "full": 80}, {"local": 1, "full": 2}
    cost = AdaptationCost("mps2", 40, steps, passes, passes, 40, 82_112, 92_000_000, 176_000_000)
    rows = targets.of_adaptation({"omniglot": cost}, {"omniglot": {"local": 300_000, "full": 900_000}})
    total, ratio = (row for row in rows if "instructions" in row.what)
    assert (total.before, total.now, total.wanted, total.limit) == ("212,156,400", "92,000,000", "≤ 106,078,200", "84,000,000")
    assert (total.note, ratio.now, ratio.limit) == ("0.43 of before", "0.52", "0.48")


def test_the_time_of_the_tests_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYMETAFED_BUILD_DIR", str(tmp_path))
    assert suite_cost.last() is None
    suite_cost.record(SuiteCost(480.0, 3_000, 2, 0.5))
    assert suite_cost.last() == SuiteCost(480.0, 3_000, 2, 0.5)
    (tmp_path / "tests.json").write_text("{}")
    assert suite_cost.last() is None


def test_the_worst_layers_of_the_document_are_the_budgets() -> None:
    document = (root() / "docs" / costs.DOCUMENT).read_text(encoding="utf-8")
    told = {}
    for layer, *cells in rows(document, "| layer | forward"):
        told |= {
            f"{layer}: {name}": float(cell.split()[-1])
            for name, cell in zip(PASSES, cells[::4], strict=True)
            if cell and cell[0] != "🟩"
        }
    assert told == budgets.written()["layers"]


def test_each_pass_above_its_limit_has_its_instructions_by_kind() -> None:
    """The template holds these counts, made once by hand; they belong to the kernels that the grid has measured."""
    document = (root() / "docs" / costs.DOCUMENT).read_text(encoding="utf-8")
    explained = {name: float(ratio) for name, ratio, *_ in rows(document, "| pass | of its limit")}
    measured = {}
    for layer, *cells in rows(document, "| layer | forward"):
        for name, cell, limit in zip(("forward", "input gradient", "update"), cells[::4], cells[1::4], strict=True):
            if cell and limit and cell[0] != "🟩":
                measured[f"{layer}, {name}"] = float(cell.split()[-1]) / float(limit)
    assert explained.keys() == measured.keys()
    assert explained == pytest.approx(measured, abs=0.01)


def step(instructions: int, level: int) -> StepCost:
    """Measured figures of a training step; they differ between optimization levels."""

    def by_variant(full: int) -> dict[str, int]:
        return {"local": 1, "global": 2, "full": full}

    return StepCost(
        instructions_per_step=by_variant(instructions - level),
        cycles_low=by_variant(2 * instructions),
        cycles_high=by_variant(3 * instructions),
        us_low=None,
        us_high=None,
        flash_bytes=10_000 + level,
        ram_bytes=5_000,
        stack_bytes=600,
    )


def test_measurements_are_written_and_drawn(tmp_path: Path) -> None:
    levels = {
        level: Comparison("mps2", None, step(1_000, i), step(4_000, i), 0.0, 64_000_000, "cycles are a guess")
        for i, level in enumerate(("-Os", "-O2", "-O3"))
    }
    simulated = SimulationCost(
        us_per_client_step=1.5, lanes=8, isa="avx2", threads=1, one_thread_us=1.5, speedup=None, speedup_idle=None,
        single_us=6.0, round_us=12.0, coding_percent=25.0, textbook_us=18.0, ratio=12.0,
        cpu_us=1.5, peers={"JAX": 6.0}, peak_percent=40.0, weights_percent=80.0, many=ManyClients(100_000, 1.0, 10.0, 5, 6),
        lacking=("PyTorch",),
    )  # fmt: skip
    wire = WireCost(
        source="a net", baud=115200, turn_around_seconds=0.016, bulk=[LineShare(256, 0.9, 0.8)],
        framing=[FramingShare(256, 0.04)], rounds=[WireRound("i8 both ways", 1_234, 567, 0.5, 0.75)],
        training_instructions=16_000_000, clock_hz=64_000_000, estimate="no board",
    )  # fmt: skip
    adaptation = AdaptationCost(
        "mps2",
        40,
        {"local": 320, "full": 80},
        {"local": 1, "full": 2},
        {"local": 1, "full": 2},
        30,
        61_000,
        1_000_000,
        2_500_000,
    )
    uplink = UplinkCost(
        "mps2", 100, [UpdateBytes(25, 280, 500.0, 440.0, 100.0, 300.0, 352.0)],
        UplinkRound(12_000, 10_000, 620, 600, 1_000_000, 100_000), UplinkRound(13_500, 10_028, 700, 500, 1_000_000, 130_000),
    )  # fmt: skip
    grid = Grid(
        "mps2",
        (
            Row("conv2d", 1_000, {"forward": Cell(3.0, 9.0, (3.5, 4.0), 2.5), "update": Cell(6.0, 9.0, (7.0, 8.0), 2.4)}),
            Row("add", 10, {"forward": Cell(5.0, 6.0, (6.0, 7.0), None)}),
        ),
    )
    sample = SampleCost((4, 5, 3), "uint8", 3_072, 1_000, 5_000, 60, 99, 0)
    counted = replace(sample, instructions=7_000)
    stored = ActivationCosts(
        "mps2",
        (
            ActivationCost(MemoryPrice("fastest", "f32", 2_000, 100, 0, 0, chosen=True), {"full": 1_000}),
            ActivationCost(MemoryPrice("least", "f32", 1_500, 110, 10, 0, chosen=False), {"full": 1_050}),
        ),
    )
    versions = (
        DownlinkRow("f16", "packed", 2_348.0, {1: 568.2, 16: 825.0}),
        DownlinkRow("i4", "range", 500.0, {1: 490.0, 16: 500.0}),
    )
    downlink = DownlinkCost("n", 300, 1_120, 1_024, versions)
    changed = AugmentCost("mps2", "augment.shift = 2", 10, 1_100.4, 1_000.0, 5_000, 5_000, 9_280, 9_000)
    few_bits = LevelCost(
        "mps2", 100, 5_888, 589,
        (
            LevelRow("i8", "packed", 6_246.0, 976.4, 9_000, 5_000, 600, 1_000_000, 0),
            LevelRow("i4", "range", 2_500.0, 494.0, 9_900, 5_100, 700, 1_000_000, 47_200),
        ),
    )  # fmt: skip
    shown = (
        {"n": adaptation},
        (("n, 4x4", changed),),
        {"n": uplink},
        {"n": few_bits},
        downlink,
        {"n": stored},
        {"n": ArenaBytes(1_100, 1_010, 1_000)},
        (sample, counted),
        CommandCost(0.25, 0.5, 0.1),
        RunCost(14.2, 23.0, 0.9, 25.6, 2.0, 0.2, 0.5, 0.5, 0.3, 2.1, 1.0),
        SeedCost(8, 100.0, 130.0, 500.0),
        SuiteCost(480.0, 3_000, 2, 0.5),
        {"mps2": 9.6},
    )
    figures = Costs("mps2", "-Os", {"n": levels}, grid, {"sine": simulated}, wire, "gcc 1", *shown)
    document, picture = costs.write(figures, tmp_path)
    text = document.read_text(encoding="utf-8")
    table = rows(text, "| net | compiled at | instructions")
    assert [row[1:5] for row in table] == [
        ["-Os, the board's own", "1,000", "4,000", "4.00"],
        ["-O2", "999", "3,999", "4.00"],
        ["-O3, the best", "998", "3,998", "4.01"],
    ]
    assert rows(text, "| layer | forward") == [
        ["conv2d", "🟩 3.00", "2.50", "3.5–4.0", "9.0", "", "", "", "", "🟥 6.00", "2.40", "7.0–8.0", "9.0"],
        ["add", "5.00", "", "6.0–7.0", "6.0", "", "", "", "", "", "", "", ""],
    ]
    reached = {row[1]: row[2:] for row in rows(text, "| area | what")}
    assert reached["adapting n: instructions, of whole steps with today's kernels"] == ["1", "0.40", "≤ 0.5", "0.03", "", ""]
    assert reached["update of n, P = 25: bytes, of indices + adaptive entropy"][:4] == ["1.25 (packed)", "1.10", "≤ 1.15", "1"]
    received = {
        board: f"a byte on the line to an emulated `{board}`: µs of the emulator's processor time"
        for board in ("mps2", "esp32isa")
    }
    assert [reached[what][:3] for what in received.values()] == [["50", "10", ""], ["44", targets.NOT_MEASURED, "≤ 13"]]
    # What this machine could not measure is said, not left out.
    assert (
        reached["sine: times as fast as PyTorch"][1] == reached["update of omniglot: bytes, of indices + adaptive entropy"][1]
    )
    assert reached["sine: times as fast as PyTorch"][1] == targets.NOT_MEASURED
    assert "`make bench DATA=FOLDER`" in reached["update of omniglot: bytes, of indices + adaptive entropy"][-1]
    assert reached["f16 download by difference, every round: of all weights"] == ["1", "0.24", "≤ 0.3", "", "", ""]
    peak = reached["sine: % of the multiply-adds of one core without fused ones"]
    assert peak[:4] == ["45–53", "40", "≥ 62", "50"] and peak[5].startswith("2.5x away")
    assert reached["sine: one client alone, of the time in a lane"][:3] == ["", "4.00", "≤ 2"]
    assert reached["sine: times as fast as JAX"][1:5] == ["4.0", "", "", "6.00 µs a step"]
    assert reached["sine: seconds of processor time per million clients"][1:3] == ["10", "≤ 60"]
    assert reached["`tinymetafed --help`: seconds"][:3] == ["1.7", "0.25", "≤ 0.5"]
    assert reached["`make demo` after the set-up: seconds"][:3] == ["66", "14", "≤ 30"]
    assert reached["`make test`: minutes"][1:3] == ["8.0", "≤ 10"]
    assert reached["omniglot: 8 seeds in lanes, times as fast as one after the other"][:3] == ["1", "5.0", "≥ 1.9"]
    assert reached["`simulate examples/sine.toml`: % of processor time outside of compiled kernels"][1:4] == [
        "90",
        "≤ 50",
        "60",
    ]
    assert reached["`simulate examples/sine.toml`: seconds of processor time"][1] == "2.00"
    assert rows(text, "| net | vector unit") == [["sine", "avx2", "8", "4.0", "12.0"]]
    assert rows(text, "| wire types") == [["i8 both ways", "1,234", "567", "0.50", "0.75"]]
    assert "| weights in | all | every round | every 16 rounds |" in text
    assert rows(text, "| weights in | all") == [
        ["f16", "2,348", "568 (0.24)", "825 (0.35)"],
        ["i4, range code", "500", "490 (0.98)", "500 (1.00)"],
    ]
    assert rows(text, "| net | steps") == [["n", "320 local, 80 full", "40, 30", "61,000", "1,000,000", "2,500,000", "0.40"]]
    assert rows(text, "| net | P, %") == [["n", "25", "280", "500.0", "440.0", "400.0", "1.25", "1.10", "1.25"]]
    assert rows(text, "| net | flash, bytes | packed")[0][5:] == ["700", "620", "500", "600", "130,000", "100,000", "3.00 %"]
    assert rows(text, "| net | keys") == [["n, 4x4", "`augment.shift = 2`", "10", "+100", "1,000", "10.0", "+0", "+280"]]
    assert [[row[2], row[3], row[5], *row[-2:]] for row in rows(text, "| net | weights | both ways")] == [
        ["i8 packed", "6,246", "976", "", ""],
        ["i4 range", "2,500", "494", "47,200", "4.72 %"],
    ]
    assert rows(text, "| net | board.memory") == [
        ["n", "fastest", "f32", "2,000", "1.00", "1,000", "1.00"],
        ["n", "least", "f32", "1,500", "0.75", "1,050", "1.05"],
    ]
    assert rows(text, "| net | first-fit") == [["n", "1,100", "1,010", "1,000", "1.01"]]
    assert rows(text, "| input | dtype") == [
        ["4x5x3", "uint8", "3,072", "1,000", "5,000", "60", "99", instructions] for instructions in ("", "7,000")
    ]
    assert "cycles are a guess" in text and "with gcc 1" in text
    bars = costs.bars({"n": levels["-Os"]})
    assert [(bar.kind, bar.width, bar.figure) for bar in bars[:2]] == [
        ("generated", costs.BAR / 4, "1,000"),
        ("textbook", costs.BAR, "4,000"),
    ]
    assert len(ET.parse(picture).getroot().findall(".//{*}rect[@class]")) == len(bars) == 2 * len(costs.MEASURES)
