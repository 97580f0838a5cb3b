"""Networks of the papers' size as firmware: the layers that fit a board with 256 KB train there to the simulation's weights."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from small_runs import DATA, Quiet, needs_data, needs_qemu

from tinymetafed.bench import keeping_nothing
from tinymetafed.federation.meta_test import Collapsed
from tinymetafed.learn.weights import initial
from tinymetafed.runs import training
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed.runs.store import read_run
from tinymetafed_codegen import spec
from tinymetafed_codegen.budget import BudgetError
from tinymetafed_codegen.locate import find

SHORT = ("task.support=1", "task.query=1", "task.adapt=1", "run.rounds=1", "run.devices_per_round=1", "evaluation.tasks=1")
BOARD_BYTES = 256 * 1024


@needs_data
@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
@pytest.mark.usefixtures("built_once", "patient")
@pytest.mark.parametrize("name", ["omniglot-paper-size", "digits-paper-size"])
def test_the_layers_that_fit_train_on_a_board_to_the_simulations_weights(name: str, tmp_path: Path) -> None:
    example = find("examples") / f"{name}.toml"
    whole = keeping_nothing(spec.load(example, SHORT))
    with pytest.raises(BudgetError, match=r"mps2\) has 262,144"):
        design_of(whole, name, "mps2")
    manifest = design_of(whole, name).manifest
    assert 105_000 < manifest.n_parameters < 109_000
    weights = initial(manifest, 1, whole.model.init)
    arrays = {each.name: weights[each.place].reshape(each.shape) for each in manifest.global_tensors}
    np.savez(tmp_path / "start.npz", **arrays)  # type: ignore[arg-type]

    fitting = (*SHORT, f"model.weights={tmp_path / 'start.npz'}", "model.trainable=budget:192KB")
    setup = set_up(spec.load(example, fitting), name, DATA)
    on_board = design_of(setup.experiment, name, "mps2").manifest
    assert on_board.memory.ram_total <= BOARD_BYTES and on_board.n_parameters < manifest.n_parameters
    with suppress(Collapsed):  # one round may teach too little
        training.simulate(setup, 1, tmp_path / "simulated", Quiet())
    with suppress(Collapsed):
        training.train(setup, ["qemu:1"], ["native:1"], tmp_path / "board", Quiet())
    simulated, trained = read_run(tmp_path / "simulated"), read_run(tmp_path / "board")
    assert [entry.weights_sha256 for entry in trained.rounds] == [entry.weights_sha256 for entry in simulated.rounds]
    assert simulated.rounds[0].weights_sha256 != simulated.header.weights_sha256, "the round changed nothing"
    (on_a_board,), (here,) = trained.evaluations, simulated.evaluations
    assert (on_a_board.before, on_a_board.after) == (here.before, here.after)
