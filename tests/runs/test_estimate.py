"""Time and energy of a round: every real board has the data for the estimate, and the work is that of the kernels."""

from __future__ import annotations

import budgets
import pytest
from small_runs import manifest, sine

from tinymetafed.learn.strategies import open_strategy
from tinymetafed.runs import estimate
from tinymetafed_codegen import graph, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.memory.work import multiply_accumulates
from tinymetafed_codegen.protocol import Variant

REAL = [name for name in boards.names() if boards.load(name).real]


@pytest.mark.parametrize("name", boards.names())
def test_real_boards_and_only_these_have_what_is_estimated_from(name: str) -> None:
    board = boards.load(name)
    assert (board.estimates is not None) == board.real
    if board.estimates is not None:
        for low, high in (board.estimates.cycles_per_mac, board.estimates.milliamperes, board.estimates.flash_slowdown):
            assert 0 < low <= high
        assert board.estimates.volts > 1 and board.estimates.clock_hz > 1_000_000


@pytest.mark.parametrize("model", budgets.MODELS)
def test_work_is_as_many_cycles_as_the_budgets_have_instructions(model: str) -> None:
    path = find(f"examples/{model}.toml")
    net = graph.build(spec.load(path).model)
    known = boards.load("nano33ble").estimates
    assert known is not None
    low, high = known.cycles_per_mac
    for variant in (Variant.LOCAL, Variant.GLOBAL, Variant.FULL):
        instructions = budgets.written()[model][f"{variant.name.lower()}_instructions"]
        work = multiply_accumulates(net, variant)
        # A Cortex-M4F takes 1.28 to 1.5 cycles for an instruction of these kernels, as one instruction loads several numbers.
        assert low * work < 1.5 * instructions and 1.28 * instructions < high * work


def test_a_layer_counts_once_per_forward_and_backward_pass() -> None:
    net = graph.build(sine().model)  # layers 1 -> 32 -> 32 -> 1, the last one local
    forward = 32 + 32 * 32 + 32
    assert multiply_accumulates(net, Variant.LOCAL) == forward + 32
    assert multiply_accumulates(net, Variant.GLOBAL) == forward + 32 + 2 * 32 * 32 + 32
    assert multiply_accumulates(net, Variant.FULL) == forward + 2 * 32 + 2 * 32 * 32 + 32


def test_a_layer_over_int8_counts_its_kernel_alone() -> None:
    below = "{op='quantize',scale=0.1,zero_point=0},{op='dense_int8',units=7,zero_point=0},{op='dequantize',scale=0.1}"
    net = graph.build(sine(f"model.layers=[{below},{{op='dense',units=1}}]").model)
    assert multiply_accumulates(net, Variant.FULL) == 7 + 2 * 7


def test_the_time_of_a_round_is_line_and_training() -> None:
    experiment = sine("task.support=10", "task.query=5")  # 2 passes of the reconstruction phase, 3 of the update phase
    figures = estimate.of_round(open_strategy(experiment, manifest(experiment)), 2304.0, boards.INSTALLED)
    assert figures.multiply_accumulates == 2 * 10 * 1120 + 3 * 5 * 3200 and set(figures.boards) == set(REAL)
    nano = figures.boards["nano33ble"]
    assert nano.wire_seconds == pytest.approx(0.2)  # 2304 bytes of ten bits at 115200 baud
    assert nano.training_seconds == pytest.approx([70_400 * cycles / 64e6 for cycles in (2.8, 4.8 * 1.21)])
    assert nano.seconds == pytest.approx([0.2 + seconds for seconds in nano.training_seconds])
    assert nano.joules == pytest.approx([seconds * 3.0 * 0.003328 for seconds in nano.seconds])
