"""The table of accuracy against RAM, on a small network: its runs, their file and page, and the layers that a run keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_runs import SINE, Quiet

from tinymetafed.experiments.budget import OUTCOMES, Plan, budget_table, run_all, write
from tinymetafed.runs import training
from tinymetafed.runs.setup import set_up
from tinymetafed.runs.store import read_run
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import chosen_layers
from tinymetafed_codegen.locate import root
from tinymetafed_codegen.memory.trainable import MEASURED
from tinymetafed_codegen.spec import load


class Counting(Quiet):
    """Counts the stages of a run."""

    stages = 0

    def stage(self, text: str, total: int = 0) -> None:
        self.stages += 1


def test_runs_are_made_once_and_a_run_keeps_the_layers_that_its_budget_picked(tmp_path: Path) -> None:
    whole = chosen_layers(load(SINE, ["model.trainable=budget:1MB"]), boards.load("native"), "sine.toml").ram
    budget = f"{whole - 1}B"
    plan = Plan(
        example=SINE,
        budgets=(budget,),
        criteria=(MEASURED,),
        seeds=1,
        start_rounds=3,
        rounds=2,
        tasks=2,
        clients=4,
        checked=None,
    )
    table = run_all(plan, tmp_path / OUTCOMES, tmp_path / "work", None, Quiet())
    start, all_layers, some = table.outcomes
    assert start.ram == all_layers.ram == whole >= 1 + some.ram
    assert all_layers.layers == ("dense1", "dense2", "dense3") and set(table.gains) == {"dense1", "dense2"}
    assert max(table.gains.values()) == 1.0 and min(table.gains.values()) > 0
    assert some.layers in (("dense1", "dense3"), ("dense2", "dense3")) and some.products < all_layers.products
    again = Counting()
    assert run_all(plan, tmp_path / OUTCOMES, tmp_path / "elsewhere", None, again) == table
    assert again.stages == 0, "nothing is run twice"
    assert f"| {budget} | {MEASURED} | 2 |" in write(table, tmp_path).read_text()

    settings = {
        "model.weights": str(tmp_path / "work" / "start-1-3.npz"),
        "model.trainable": f"budget:{budget}",
        "model.gains": dict(table.gains),
        "run.rounds": 2,
        "evaluation.tasks": 2,
    }
    folder = tmp_path / "run"
    training.simulate(set_up(load(SINE, settings=settings), "sine.toml", None), 1, folder, Quiet())
    assert read_run(folder).experiment().model.trainable == some.layers
    training.resume_simulated(folder, 1, Quiet(), rounds=3)
    assert read_run(folder).trained == 3, "a run goes on with its layers"


def test_the_document_is_what_the_stored_table_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = root() / "docs"
    made = json.loads((docs / OUTCOMES).read_text())
    monkeypatch.setattr(budget_table, "__version__", made["tinymetafed"])  # the document is that of the version that measured
    monkeypatch.setattr(budget_table, "ARITHMETIC_VERSION", made["arithmetic"])
    page = write(budget_table.stored(docs / OUTCOMES), tmp_path)
    assert page.read_text() == (docs / page.name).read_text()
