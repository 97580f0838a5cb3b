"""Sensors of native boards over the wire: recordings that read back as they were, and everything that can be wrong, by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from clocks import wait_until
from small_runs import Quiet, sine

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.devices import device_urls, recording
from tinymetafed.devices.device import Device
from tinymetafed.devices.recording import Limits, record
from tinymetafed.devices.running import running
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.learn.tasks.own_data.reading import read_folder
from tinymetafed.learn.weights import initial
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.optional_messages.sensor_messages import SensorState
from tinymetafed_codegen.protocol import Program, Recipe

EXPERIMENT = """
[task]
kind = "folder"
path = "own"
features = ["a", "b"]
label = "what"
time = "t"
time_unit = "us"
rate = 12.8
window = 4
stride = 3

[model]
input = [8]
loss = "softmax_cross_entropy"
layers = [{ op = "dense", units = 4 }, { op = "dense", units = 3, local = true }]

[board]
sensor = "sensor.cpp"
"""
ODD = (0.0, -0.0, 1e-30, -3.4e38, 0.1, 1 / 3, 16777217.0, 1.17549435e-38, 5e-324, 123456.789)  # numbers that are easily changed

pytestmark = pytest.mark.usefixtures("built_once", "patient")


@pytest.fixture
def experiment(tmp_path: Path) -> tmf.Experiment:
    """The experiment, and recordings of two clients: ``odd`` has numbers of all sizes and a gap, ``long`` 400 rows."""
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    (tmp_path / "sensor.cpp").write_text("class Sensor {};\n")
    step = 1e6 / 12.8
    rows = [f"{i * step + (1e9 if i > 20 else 0)!r},{ODD[i % 10]!r},{i},{i // 8 % 3}" for i in range(40)]
    long = [f"{i * step!r},{i},{-i},{i // 100 % 3}" for i in range(400)]
    for client, lines in (("long", long), ("odd", rows)):
        (tmp_path / "data" / client).mkdir(parents=True)
        (tmp_path / "data" / client / "1.csv").write_text("\n".join(["t,a,b,what", *lines, ""]))
    return tmf.load(tmp_path / "e.toml")


def windows(folder: Path, experiment: tmf.Experiment) -> list[tuple[str, bytes, bytes]]:
    """Name, inputs and labels of each client's windows, as the task reads them."""
    task = experiment.spec.task.own_files
    assert task is not None
    reading = read_folder(folder, task, None, 0, ())
    reading.require()
    return [(client.name, client.inputs.tobytes(), client.targets.tobytes()) for client in reading.clients]


def command(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["tinymetafed", *words])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert isinstance(done.value.code, int)
    return done.value.code


def test_recordings_read_back_as_they_were_and_are_never_written_over(experiment: tmf.Experiment, tmp_path: Path) -> None:
    out = tmp_path / "own"
    (out / "odd").mkdir(parents=True)
    (out / "odd" / "0001.csv").write_text("mine")
    for client in ("long", "odd"):
        url = f"native:1?replay={tmp_path / 'data' / client / '1.csv'}"
        found = tmf.record(url, out, client=client, experiment=experiment, progress=False)
        rows = 400 if client == "long" else 40
        assert (found.rows, found.dropped, found.unlabelled, found.rate_is_off) == (rows, 0, 0, False)
    assert [file.name for file in found.files] == ["0002.csv", "0003.csv"], "one ends at the gap"
    assert (out / "odd" / "0001.csv").read_text() == "mine"
    (out / "odd" / "0001.csv").unlink()
    assert windows(out, experiment) == windows(tmp_path / "data", experiment)
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == ["0001.csv", "0002.csv", "0003.csv"]


def test_rows_labels_and_clients_of_the_command(
    experiment: tmf.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, out = f"native:1?replay={tmp_path / 'data'}", str(tmp_path / "out")
    words = ["record", url, "-o", out, "--experiment", experiment.source, "--rows", "37", "--label", "wave"]
    assert command(*words, "--json", monkeypatch=monkeypatch) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["ended"], found["expected_rate"]) == (37, "as asked", 12.8)
    (file,) = map(Path, found["files"])
    assert file.parent.name.startswith("native-"), "the board's name and id"
    assert {line.rpartition(",")[2] for line in file.read_text().splitlines()[1:]} == {"wave"}
    assert command(*words, "--client", "anna", monkeypatch=monkeypatch) == 0
    assert "37 in 1 file(s)" in capsys.readouterr().out
    for name in ("a/b", "", ".hidden", "a,b"):
        assert command(*words, "--client", name, monkeypatch=monkeypatch) == 2
        assert "expected a name" in capsys.readouterr().err


class At(Quiet):
    """An observer that does something after so many rows."""

    def __init__(self, rows: int, action: Callable[[], None]) -> None:
        self.left, self.action, self.said = rows, action, list[str]()

    def advance(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.action()

    def event(self, text: str) -> None:
        self.said.append(text)


def interrupt() -> None:
    raise KeyboardInterrupt


def whole_rows(folder: Path) -> int:
    """The number of rows of a recording's one file, all of which are whole."""
    (file,) = folder.iterdir()
    text = file.read_text()
    assert text.endswith("\n") and {line.count(",") for line in text.splitlines()} == {3}
    return len(text.splitlines()) - 1


def test_ctrl_c_and_a_lost_board_leave_whole_rows(experiment: tmf.Experiment, tmp_path: Path) -> None:
    design = plain(experiment)
    with running(design, [f"native:1?replay={tmp_path / 'data' / 'long' / '1.csv'}"], Quiet()) as fleet:
        (device,) = fleet.devices
        found = record(device, tmp_path, "stopped", None, Limits(), At(100, interrupt))
        assert found.ended == "interrupted" and 100 <= found.rows == whole_rows(tmp_path / "stopped") < 400

        assert device.process is not None
        lost = At(100, device.process.kill)
        with pytest.raises(tmf.LinkError):
            record(device, tmp_path, "lost", None, Limits(), lost)
        assert 100 <= whole_rows(tmp_path / "lost") < 400
        assert f"recorded {whole_rows(tmp_path / 'lost')} whole rows until then" in lost.said[-1]


def loaded(device: Device, design: Design) -> None:
    """Gives a board weights; from then on a replayed sensor is read."""
    session = device.session
    session.configure(Program.ADAPT, Recipe(()))
    weights = initial(design.manifest, 1, "he")[: design.manifest.n_global]
    session.load(1, open_strategy(design.experiment, design.manifest).download(weights))
    session.train(1, Program.ADAPT, 1, 0, 0)


def test_a_missing_sensor_is_named_and_the_board_goes_on_predicting(
    experiment: tmf.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MISSING_SECONDS", 0.1)
    design = plain(experiment)
    with running(design, ["native:1"], Quiet()) as fleet:
        (device,) = fleet.devices
        loaded(device, design)
        device.close()
        port, row = device.line, [0.5] * 8
        scores = tmf.board_predict(port, row)
        status = tmf.board_status(port)
        assert status.sensing is not None and status.sensing.state == "MISSING"
        assert "does not answer" in status.sensing.problem and status.sensing.label is None
        with pytest.raises(tmf.LinkError, match="the sensor does not answer; check its wiring"):
            tmf.record(port, tmp_path / "none", progress=False)
        assert not (tmp_path / "none").exists()
        with pytest.raises(tmf.LinkError, match="has no sample yet to label: the sensor does not answer"):
            tmf.label_sample(port, 1)
        with pytest.raises(tmf.UsageError, match="label 3: its model has the labels 0 to 2"):
            tmf.label_sample(port, 3)
        assert tmf.board_predict(port, row).tobytes() == scores.tobytes()


def test_labels_are_learned_and_those_that_the_model_does_not_have_refused(experiment: tmf.Experiment, tmp_path: Path) -> None:
    lines = [f"{i * 1e6 / 12.8!r},{i % 3},{i % 5 / 4},{i // 10 if i < 20 else 7}" for i in range(30)]
    (tmp_path / "calm.csv").write_text("\n".join(["t,a,b,what", *lines, ""]))
    design = plain(experiment)
    with running(design, [f"native:1?replay={tmp_path / 'calm.csv'}"], Quiet()) as fleet:
        (device,) = fleet.devices
        device.close()
        with pytest.raises(tmf.LinkError, match="has no sample yet to label: only 0 rows have come so far"):
            tmf.label_sample(device.line, 1)
    with running(design, [f"native:1?replay={tmp_path / 'calm.csv'}"], Quiet()) as fleet:
        (device,) = fleet.devices
        loaded(device, design)
        wait_until(lambda: device.session.sensor().state == SensorState.ENDED)
        report = device.session.sensor()
        assert report is not None and report.refused == 10
        assert (report.samples, report.learned) == (9, 7), "the last two windows have no row with a label of the model"
        device.close()
        with pytest.raises(tmf.UsageError, match=r"has learned, but its firmware has no store to keep it; set board\.store"):
            tmf.label_sample(device.line, 2, keep=True)
        status = tmf.board_status(device.line)
        assert status.learning is not None and status.learning.learned == report.learned + 1


def test_firmware_without_a_sensor_is_named() -> None:
    with tmf.started(tmf.Experiment(sine(), "sine"), ["native:1"], progress=False) as ports:
        (port,) = ports.values()
        assert tmf.board_status(port).sensing is None
        with pytest.raises(tmf.UsageError, match=r"its firmware has no sensor; set board\.sensor"):
            tmf.record(port, "nowhere", progress=False)
        with pytest.raises(tmf.UsageError, match="its firmware has no sensor, so it has no sample to label"):
            tmf.label_sample(port, 1)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("native:1?replay={0}/nothing", "no such file or folder; replay= names a recording"),
        ("native:1?replay={0}/e.toml", "e.toml"),
        ("native:1?replay={0}/narrow.csv", "narrow.csv"),
        ("renode:1?replay={0}/data", "board 'nrf52840' cannot read recordings in renode"),
        ("native:1?replay=", "expected store=DIR after ?"),
        ("native:1?replays={0}", "expected store=DIR after ?"),
        ("native:1?replay={0}/data&replay={0}/data", "replay= is given twice"),
        ("native:1?store={0}/a&replay={0}/data&store={0}/a", "store= is given twice"),
        ("/dev/ttyACM7?replay={0}/data", "replay= is for boards that are started now"),
        ("native:2?replay={0}/data", "one board is recorded at a time"),
    ],
)
def test_wrong_recordings_are_refused(experiment: tmf.Experiment, tmp_path: Path, url: str, why: str) -> None:
    (tmp_path / "narrow.csv").write_text("t,a,what\n1,2,0\n2,3,0\n")
    with pytest.raises(tmf.Error, match=why.replace("?", r"\?")):
        tmf.record(url.format(tmp_path), tmp_path / "out", experiment=experiment, progress=False)
    assert not (tmp_path / "out").exists()


def test_each_board_replays_one_client(experiment: tmf.Experiment, tmp_path: Path) -> None:
    design = plain(experiment)
    with running(design, [f"native:2?replay={tmp_path / 'data'}"], Quiet()) as fleet:
        found = [record(device, tmp_path, device.url, None, Limits(rows=2), Quiet()).files[0] for device in fleet.devices]
    assert [file.read_text().splitlines()[2] for file in found] == ["78125.0,1.0,-1.0,0", "78125.0,-0.0,1.0,0"]
    too_few = r"recordings of 2 client\(s\) for 3 boards"
    with pytest.raises(tmf.LaunchError, match=too_few), running(design, [f"native:3?replay={tmp_path / 'data'}"], Quiet()):
        pass


def test_only_firmware_with_a_sensor_replays(tmp_path: Path) -> None:
    with (
        pytest.raises(tmf.LaunchError, match=r"its firmware has no sensor to replay; set board\.sensor"),
        running(design_of(sine(), "sine"), [f"native:1?replay={tmp_path}"], Quiet()),
    ):
        pass
    with pytest.raises(tmf.UsageError, match="starts a process, which needs firmware; name its experiment"):
        tmf.record(f"native:1?replay={tmp_path}", tmp_path, progress=False)


def test_urls_name_store_and_replay_in_any_order(tmp_path: Path) -> None:
    both = [f"store={tmp_path / 's'}", f"replay={tmp_path / 'r & x'}"]
    for words in (both, both[::-1]):
        (spec,) = device_urls.parse([f"native:2?{'&'.join(words)}"], boards.INSTALLED)
        assert (spec.store, spec.replay, spec.count) == (tmp_path / "s", tmp_path / "r & x", 2)


def plain(experiment: tmf.Experiment) -> Design:
    """The design without normalisation."""
    return design_of(experiment_as_is(experiment).spec, experiment.source)


def experiment_as_is(experiment: tmf.Experiment) -> tmf.Experiment:
    """The experiment without normalisation, as for recording."""
    return tmf.load(experiment.source, {"data.normalise": "none"})
