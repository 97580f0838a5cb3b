"""One board of each kind ends on the simulation's weights: few bits and codings, samples that change, steps of the server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rig import absent, every_board_serves
from small_runs import DATA, OMNIGLOT, Quiet, needs_data, omniglot, sine

from tinymetafed.runs import training
from tinymetafed.runs.setup import set_up
from tinymetafed.runs.store import read_run
from tinymetafed_codegen import spec
from tinymetafed_codegen.spec import Experiment

pytestmark = [pytest.mark.xdist_group("emulator-kinds"), pytest.mark.usefixtures("built_once", "patient")]

KINDS = ("native:1", "qemu:1@mps2", "qemu:1@rv32", "qemu:1@esp32isa")
FEW = ("run.rounds=2", "run.devices_per_round=4", "evaluation.tasks=4", "evaluation.every=0", "evaluation.every_tasks=1")
BOTH_CODED = ("strategy.uplink_coding=range", "strategy.downlink_coding=range")
LAYERS = '[{op="conv2d",filters=4,kernel=3,stride=4,activation="relu"},{op="flatten"},{op="dense",units=2,local=true}]'
DRAWINGS = ("task.ways=2", "task.support=1", "task.query=1", "task.adapt=1", f"model.layers={LAYERS}", "run.clients=4")


def waves(folder: Path) -> tuple[Experiment, Path | None]:
    """Sine waves of other ranges, with three levels down and seven up, both packed, and FedYogi's step."""
    del folder
    ranges = ("task.amplitude=[0.5, 2.0]", "task.phase=[-1.5, 1.5]", "task.frequency=[0.5, 2.5]")
    return sine(*FEW, *ranges, "strategy.uplink=i3", "strategy.downlink=t2", "strategy.server=yogi"), None


def images(folder: Path) -> tuple[Experiment, Path | None]:
    """Four bits both ways in a range code, moving images, means of five predictions, and momentum: the lean example's keys."""
    del folder
    levels = ("strategy.uplink=i4", "strategy.downlink=i4", *BOTH_CODED, "strategy.top_p=10")
    return omniglot(*FEW, *DRAWINGS, *levels, "strategy.server=momentum", "augment.shift=2", "predict.average=5"), DATA


def spectrograms(folder: Path) -> tuple[Experiment, Path | None]:
    """Three levels up and seven down in a range code, by difference; SpecAugment, means of three, Adam, averaged weights."""
    del folder
    levels = ("strategy.uplink=t2", "strategy.downlink=i3", *BOTH_CODED, "strategy.download=difference")
    changed = ("augment.time_shift=2", "augment.frequency_mask=4", "augment.time_mask=3", "predict.average=3")
    kept = ("strategy.error_feedback=true", "model.local_start=kept")
    return omniglot(*FEW, *DRAWINGS, *levels, *kept, *changed, "strategy.server=adam", "strategy.average_last=0.5"), DATA


def windows(folder: Path) -> tuple[Experiment, Path | None]:
    """Windows of a motion sensor that turn, scale and tremble; changes in eight bits in a Rice code."""
    draws = np.random.default_rng(7)
    for name in ("ann", "ben", "cleo", "dora", "emil"):
        np.savez(folder / f"{name}.npz", x=draws.uniform(-1, 1, (12, 8, 3)).astype(np.float32), y=np.arange(12) % 3)
    raw: dict[str, object] = {
        "task": {"kind": "folder", "path": str(folder), "held_out": ["emil"], "support": 3, "query": 3, "adapt": 3},
        "model": {
            "input": [8, 3],
            "loss": "softmax_cross_entropy",
            "layers": [
                {"op": "flatten"},
                {"op": "dense", "units": 4, "activation": "relu"},
                {"op": "dense", "units": 3, "local": True},
            ],
        },
        "strategy": {"uplink": "i8", "uplink_coding": "rice", "downlink": "f16"},
        "augment": {"rotation": 20, "scale": 0.1, "jitter": 0.2},
        "run": {"rounds": 2, "devices_per_round": 4},
        "evaluation": {"tasks": 4, "every": 0},
    }
    return spec.parse(raw, "windows"), folder


@pytest.mark.skipif(any(map(absent, KINDS)), reason="; ".join(filter(None, map(absent, KINDS))))
@pytest.mark.parametrize(
    "option", [waves, pytest.param(images, marks=needs_data), pytest.param(spectrograms, marks=needs_data), windows]
)
def test_all_kinds_of_boards_end_on_the_simulations_weights(
    option: Callable[[Path], tuple[Experiment, Path | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    experiment, data = option(tmp_path / "data")
    setup = set_up(experiment, str(OMNIGLOT), data)
    simulated = training.simulate(setup, 1, tmp_path / "simulated", Quiet())
    every_board_serves(len(KINDS), monkeypatch)
    trained = training.train(setup, KINDS, KINDS, tmp_path / "boards", Quiet())
    assert trained.weights_sha256 == simulated.weights_sha256
    assert trained.meta_test == simulated.meta_test
    assert all(board.rounds > 0 for board in trained.devices) and len({board.board for board in trained.devices}) == len(KINDS)
    hashes = [entry.weights_sha256 for entry in read_run(tmp_path / "boards").rounds]
    assert len(set(hashes)) == experiment.run.rounds, "a round without a changed weight proves nothing"
