"""Activities of real people on emulated boards: the simulation's weights, in the memory of a Nano."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import DATA, Quiet, needs_qemu

from tinymetafed.runs import training
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed_codegen import spec
from tinymetafed_codegen.locate import find

ACTIVITY = find("examples/activity.toml")
WATCHES = DATA / "sp_sw_har_watch.zip"


@needs_qemu
@pytest.mark.skipif(not WATCHES.is_file(), reason=f"no {WATCHES.name} in {DATA}")
@pytest.mark.xdist_group("emulator-qemu")
@pytest.mark.usefixtures("built_once", "patient")
def test_four_emulated_boards_end_on_the_simulations_weights(tmp_path: Path) -> None:
    short = (
        "task.support=2",
        "task.query=3",
        "run.rounds=1",
        "run.devices_per_round=4",
        "evaluation.tasks=1",
        "evaluation.every_tasks=1",
        "augment.rotation=20",
        "augment.scale=0.1",
        "augment.jitter=0.2",
    )
    setup = set_up(spec.load(ACTIVITY, short), str(ACTIVITY), WATCHES)
    simulated = training.simulate(setup, 1, tmp_path / "simulated", Quiet())
    federated = training.train(setup, ["qemu:4"], ["native:1"], tmp_path / "devices", Quiet())
    assert federated.weights_sha256 == simulated.weights_sha256
    assert federated.meta_test == simulated.meta_test


def test_the_network_is_small_and_fits_the_nano() -> None:
    manifest = design_of(spec.load(ACTIVITY), str(ACTIVITY), "nano33ble").manifest
    assert manifest.n_parameters < 20_000 and manifest.memory.ram_total < manifest.memory.ram_available
    assert manifest.memory.flash < manifest.memory.flash_available
