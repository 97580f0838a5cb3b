"""The kernels keep to their budget: a change of more than 2 % in the cost or memory of a training step, up or down, fails."""

from __future__ import annotations

import budgets
import pytest
from small_runs import Quiet, needs_qemu

from tinymetafed.bench import kernel_cost, layer_grid
from tinymetafed_codegen import spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design
from tinymetafed_codegen.locate import find


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
@pytest.mark.parametrize("model", budgets.MODELS)
def test_each_example_keeps_to_its_budget(model: str, built_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_cost, "REPEATS", 1)
    allowed = budgets.written()
    if allowed["compiler"] != (here := budgets.compiler(budgets.BOARD)):
        pytest.skip(f"the budget is of {allowed['compiler']}, this is {here}")
    moved = budgets.beyond(model, allowed[model], budgets.measured(model))
    assert not moved, "\n".join([*moved, f"if this is intended, `{budgets.UPDATE}` stores the new figures"])


# Pools of which textbook kernels have no bits to pack: few channels, windows that overlap, lie apart or reach beyond the image.
POOLS = [
    layer_grid.layer(kind, *extents, size=size, stride=stride, padding=padding)
    for kind in ("max_pool", "avg_pool")
    for extents, size, stride, padding in (
        ((7, 9, 1), 2, 2, "valid"),
        ((7, 9, 1), 2, 1, "same"),
        ((7, 9, 1), 3, 3, "same"),
        ((10, 10, 5), 2, 3, "valid"),
        ((10, 10, 5), 3, 2, "same"),
        ((13, 11, 3), 2, 1, "valid"),
        ((13, 11, 3), 4, 4, "valid"),
        ((12, 12, 8), 4, 4, "valid"),
        ((8, 8, 4), 8, 8, "valid"),
    )
]


@pytest.fixture(scope="module")
def rows() -> dict[str, layer_grid.Row]:
    """The layers of the grid that have a budget, and further pools."""
    allowed = {name.rpartition(": ")[0] for name in budgets.written()["layers"]}
    shapes = [shape for shape in layer_grid.GRID if shape.title in allowed]
    return {row.title: row for row in layer_grid.measure(budgets.BOARD, Quiet(), [*shapes, *POOLS]).rows}


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
def test_the_worst_layers_of_the_grid_keep_to_their_budget(rows: dict[str, layer_grid.Row]) -> None:
    allowed = budgets.written()
    if allowed["compiler"] != (here := budgets.compiler(budgets.BOARD)):
        pytest.skip(f"the budget is of {allowed['compiler']}, this is {here}")
    of_the_grid = [rows[shape.title] for shape in layer_grid.GRID if shape.title in rows]
    moved = budgets.slower_layers(allowed["layers"], of_the_grid)
    assert not moved, "\n".join([*moved, f"if this is intended, `{budgets.UPDATE}` stores the new figures"])


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
def test_pools_of_any_shape_are_faster_than_textbook_ones(rows: dict[str, layer_grid.Row]) -> None:
    for row in rows.values():
        if "_pool" in row.title:
            assert row.faster >= 1.1, row.title


def test_a_layer_that_becomes_slower_or_has_no_budget_is_named() -> None:
    def row(instructions: float, limit: float | None) -> layer_grid.Row:
        return layer_grid.Row("dense", 8, {"forward": layer_grid.Cell(instructions, 9.0, (1.0, 1.0), limit)})

    allowed = {"dense: forward": 4.00}
    assert budgets.slower_layers(allowed, [row(4.07, 2.0)]) == []
    assert budgets.slower_layers(allowed, [row(4.09, 2.0)]) == ["dense: forward 4.00 -> 4.09 (+2.2%)"]
    assert budgets.slower_layers({"dense: forward": 4.00, "dense: update": 1.0}, [row(4.00, 2.0)]) == [
        "dense: update: not in the grid"
    ]
    assert budgets.slower_layers({}, [row(4.00, 3.3)]) == []
    assert budgets.slower_layers({}, [row(4.00, 3.1)]) == ["dense: forward 4.00: no budget"]
    assert budgets.slower_layers({}, [row(4.00, None)]) == ["dense: forward 4.00: no budget"]


@pytest.mark.parametrize(("model", "most"), [("sine", 5_200), ("bench-conv", 40_000)])
def test_weights_and_arena_stay_small(model: str, most: int) -> None:
    path = find(f"examples/{model}.toml")
    manifest = design(spec.load(path, ()), boards.load(budgets.BOARD), str(path)).manifest
    assert 4 * (manifest.n_parameters + manifest.arena.floats) <= most


def test_changes_of_more_than_two_percent_fail() -> None:
    allowed = {"full_instructions": 1_000, "flash_bytes": 1_000}
    assert budgets.beyond("m", allowed, {"full_instructions": 1_020, "flash_bytes": 980}) == []
    assert budgets.beyond("m", allowed, {"full_instructions": 1_021, "flash_bytes": 979}) == [
        "m: flash bytes 1,000 -> 979 (-2.1%)",
        "m: full instructions 1,000 -> 1,021 (+2.1%)",
    ]
    assert budgets.beyond("m", {}, {"flash_bytes": 7}) == ["m: flash bytes 0 -> 7 (new)"]
