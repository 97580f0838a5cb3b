"""Boards and the simulation end on the same weights, for every strategy and every dtype of the weights on the wire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_runs import DATA, OMNIGLOT, Quiet, needs_data, needs_qemu, omniglot

from tinymetafed.runs import training
from tinymetafed.runs.setup import set_up
from tinymetafed.runs.store import read_run

pytestmark = [needs_data, pytest.mark.xdist_group("federations"), pytest.mark.usefixtures("built_once", "patient")]

# Two rounds of two boards each, with two drawings of two characters, and a network with a local layer.
SHORT = (
    "task.ways=2",
    "task.support=1",
    "task.query=1",
    "task.adapt=1",
    'model.layers=[{op="conv2d",filters=4,kernel=3,stride=4,activation="relu"},{op="flatten"},{op="dense",units=2,local=true}]',
    "run.rounds=2",
    "run.devices_per_round=2",
    "evaluation.tasks=1",
    "evaluation.every_tasks=1",
)
TYPES = ("f32", "f16", "i8")
SELECTIONS = ("global", "layer", "random")
KEEPING = ("strategy.error_feedback=true", "model.local_start=kept", "strategy.top_p=10")
CLIPPED = ("model.clip_norm=0.01", "strategy.output_clamp=0.25", "strategy.uplink=i8", "strategy.top_p=30")
GRADIENT = ("strategy.kind=fedsgd", "model.momentum=0.5", "model.weight_decay=0.01", *CLIPPED)
REDRAWN = ("strategy.downlink=i8", "model.local_start=redrawn", "strategy.schedule=cosine")
WIDE = tuple(key.replace("filters=4", "filters=32") for key in SHORT if key.startswith("model.layers"))
DIFFERENCES = "error feedback and kept starts, f16 up, i8 down by difference"

CASES: dict[str, tuple[str, ...]] = {
    **{f"{up} up, f16 down": (f"strategy.uplink={up}",) for up in TYPES},
    **{f"{up} up, f32 down": (f"strategy.uplink={up}", "strategy.downlink=f32") for up in TYPES},
    **{f"{up} up, i8 down, redrawn starts": (f"strategy.uplink={up}", *REDRAWN) for up in TYPES},
    # The baselines of the papers under the codec of TinyMetaFed.
    **{kind: (f"strategy.kind={kind}", "strategy.downlink=f16", *CLIPPED) for kind in ("tinyreptile", "reptile", "fedavg")},
    "each sample once": ("task.online=true", "strategy.uplink=i8"),
    "fedsgd": GRADIENT,
    "adam and the mean of all rounds": ("strategy.server=adam", "strategy.average_last=1"),
    **{f"selection by {kind}": (f"strategy.selection={kind}", "strategy.top_p=20") for kind in SELECTIONS},
    **{f"error feedback and kept starts, {kind}": (*KEEPING, f"strategy.selection={kind}") for kind in SELECTIONS},
    DIFFERENCES: (*WIDE, *KEEPING, "strategy.uplink=f16", "strategy.downlink=i8", "strategy.download=difference"),
}


def same(url: str, clients: int, keys: tuple[str, ...], folder: Path) -> None:
    experiment = omniglot(*SHORT, f"run.clients={clients}", *keys)
    setup = set_up(experiment, str(OMNIGLOT), DATA)
    simulated = training.simulate(setup, 1, folder / "simulated", Quiet())
    federated = training.train(setup, [url], ["native:1"], folder / "devices", Quiet())
    assert federated.weights_sha256 == simulated.weights_sha256
    assert federated.meta_test == simulated.meta_test
    assert digests(folder / "devices") == digests(folder / "simulated")


def digests(run: Path) -> list[Any]:
    rounds = read_run(run).rounds
    assert len({entry.weights_sha256 for entry in rounds}) == 2, "a round without a changed weight proves nothing"
    return [[(part.client, part.digest) for part in entry.contributions] for entry in rounds]


@pytest.mark.parametrize("case", CASES)
def test_boards_end_on_the_simulations_weights(case: str, tmp_path: Path) -> None:
    same("native:2", 2, CASES[case], tmp_path)
    if case == DIFFERENCES:
        # Each client keeps state on its own board, so that both hold the weights of the client's last round.
        (_, simulated), (_, trained) = (read_run(tmp_path / name).rounds for name in ("simulated", "devices"))
        assert trained.retries == 0 and trained.bytes_down == simulated.bytes_down
        assert trained.bytes_down_full == simulated.bytes_down_full > trained.bytes_down


@needs_qemu
@pytest.mark.parametrize("case", ["i8 up, f16 down", "reptile", "fedsgd", "error feedback and kept starts, layer"])
def test_four_emulated_boards_end_on_the_simulations_weights(case: str, tmp_path: Path) -> None:
    same("qemu:4", 4, CASES[case], tmp_path)
