"""A sensor, running statistics and a store in one firmware: a board learns with the host's bits, also after a reset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clocks import wait_until
from small_runs import Quiet

import tinymetafed as tmf
from tinymetafed.devices import asked_board
from tinymetafed.devices.running import running
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.learn.tasks import Samples
from tinymetafed.learn.tasks.own_data.reading import read_folder
from tinymetafed.learn.weights import initial
from tinymetafed.runs.exported_weights import learning_phase, trained
from tinymetafed.runs.setup import design_of
from tinymetafed.simulation.kernels import open_kernels
from tinymetafed_codegen import spec
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.optional_messages.sensor_messages import SensorState
from tinymetafed_codegen.protocol import Program, Recipe, Status
from tinymetafed_codegen.spec import DataSpec

EXPERIMENT = """
[task]
kind = "folder"
path = "data"
features = ["a", "b"]
label = "what"
window = 3

[data]
normalise = "running"
shift = [180, 210]
scale = [0.02, 0.03]
start_count = 5
largest_count = 40

[model]
input = [3, 2]
loss = "softmax_cross_entropy"
layers = [{ op = "flatten" }, { op = "dense", units = 4, activation = "relu" }, { op = "dense", units = 3, local = true }]

[board]
sensor = "sensor.cpp"
store = true
save_every = 0
"""
NAMES = ("2", "7", "[a] 1")  # one is the number of another class
WINDOWS = 30

pytestmark = pytest.mark.usefixtures("built_once", "patient")


def test_what_a_board_learns_by_its_sensor_survives_a_reset(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    (tmp_path / "sensor.cpp").write_text("class Sensor {};\n")
    (tmp_path / "data").mkdir()
    rows = np.random.default_rng(3).normal(200, 40, (3 * WINDOWS, 2)).round(3)
    lines = [f"{a},{b},{i // 3 % 3}" for i, (a, b) in enumerate(rows)]
    (tmp_path / "data" / "anna.csv").write_text("\n".join(["a,b,what", *lines, ""]))
    made = design_of(spec.load(tmp_path / "e.toml"), str(tmp_path / "e.toml"))
    strategy, kernels = open_strategy(made.experiment, made.manifest), open_kernels(made, 1)
    own = made.experiment.task.own_files
    assert own is not None
    (client,) = read_folder(tmp_path / "data", own, None, 0, ()).clients
    assert len(client.inputs) == WINDOWS
    store = f"native:1?store={tmp_path / 'flash'}"

    with running(made, [store], Quiet()) as fleet:
        session = fleet.devices[0].session
        session.configure(Program.ADAPT, Recipe(()))
        session.load(1, strategy.download(initial(made.manifest, 1, "he")[: made.manifest.n_global]))
        session.train(1, Program.ADAPT, 1, 0, 0)
        session.keep(NAMES)
        weights = session.fetch(0, made.manifest.n_parameters)

    def learn(features: np.ndarray, target: np.ndarray) -> None:
        nonlocal weights
        sample = Samples(features[None], target[None])
        status, _, _, weights = trained(kernels, weights, learning_phase(strategy), sample)
        assert status == Status.OK

    for features, target in zip(client.inputs, client.targets, strict=True):
        learn(features, target)
    with running(made, [f"{store}&replay={tmp_path / 'data'}"], Quiet()) as fleet:
        (device,) = fleet.devices
        wait_until(lambda: device.session.sensor().state == SensorState.ENDED)
        assert device.session.fetch(0, made.manifest.n_parameters).tobytes() == weights.tobytes()
        device.close()
        assert tmf.label_sample(device.line, "2", keep=True).samples == WINDOWS, "the class with this name is number 0"
        learn(client.inputs[-1], np.zeros(1, np.float32))
        assert tmf.board_classes(device.line) == NAMES
        before = tmf.board_status(device.line).learning
        scores = tmf.board_predict(device.line, client.inputs[0].ravel())
    assert before is not None and before.learned == WINDOWS + 1
    with running(made, [store], Quiet()) as fleet:
        (device,) = fleet.devices
        assert device.session.fetch(0, made.manifest.n_parameters).tobytes() == weights.tobytes()
        device.close()
        assert tmf.board_status(device.line).learning == before
        assert tmf.board_predict(device.line, client.inputs[0].ravel()).tobytes() == scores.tobytes()


def test_firmware_that_records_has_no_options_of_running_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    (tmp_path / "sensor.cpp").write_text("class Sensor {};\n")
    made: list[Design] = []
    monkeypatch.setattr(asked_board, "record", lambda *_, design, **__: made.append(design))
    tmf.record("native:1?replay=x", tmp_path, experiment=tmf.load(tmp_path / "e.toml"), progress=False)
    assert made[0].experiment.data == DataSpec(normalise="none")
    assert spec.parse(spec.dump(made[0].experiment), "written").data == DataSpec(normalise="none")
