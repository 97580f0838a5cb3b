"""The kernels keep to their budget: a change of more than 2 % in the cost or memory of a training step, up or down, fails."""

from __future__ import annotations

import budgets
import pytest
from small_runs import needs_qemu

from tinymetafed.bench import kernel_cost
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
