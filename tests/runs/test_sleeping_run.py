"""Eight boards, three of which sleep in turn: rounds end with the others, say who was late, and can be repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from clocks import HUNG_SECONDS
from small_runs import Quiet

import tinymetafed as tmf
from tinymetafed.bench.cables import Cable, Cables
from tinymetafed.devices import roster
from tinymetafed.devices.device import Device
from tinymetafed.devices.device_urls import parse
from tinymetafed.devices.launch import launch
from tinymetafed.devices.running import build_firmware
from tinymetafed.learn.weights import sha256
from tinymetafed.runs import report, store, training, verification
from tinymetafed.runs.setup import Setup, design_of, set_up
from tinymetafed_codegen import spec

BOARDS, SLEEPERS, ROUNDS = 8, (5, 6, 7), 9
EXPERIMENT = f"""
[task]
kind = "folder"
path = "data"
held_out = ["c2"]
adapt = 6
source = "source.cpp"
client_per_board = true
[model]
input = [3]
loss = "softmax_cross_entropy"
layers = [ {{ op = "dense", units = 4, activation = "relu" }}, {{ op = "dense", units = 3, local = true }} ]
[run]
rounds = {ROUNDS}
devices_per_round = {BOARDS}
quorum = 0.75  # 6 of 8: those that are awake, so that it does not matter how fast this machine is
deadline = "50ms"
[evaluation]
tasks = 2
every = 0
"""
SOURCE = """
#include "model.hpp"
#include "prng.hpp"
#include "source.hpp"

namespace tmf::source {

bool on_device() { return true; }

void make(const Key& key, float* input, float* target) {
  const uint32_t label = key.index % model::kClassCount;
  for (uint32_t i = 0; i < model::kInputSize; ++i) {
    const uint32_t index = model::kInputSize * key.index + i;
    const uint32_t word = draw(key.seed, key.client, key.draw, static_cast<protocol::Stream>(key.set), index).first;
    input[i] = (i == label ? 1.0f : 0.0f) + 0.2f * uniform(word);
  }
  target[0] = static_cast<float>(label);
}

}  // namespace tmf::source
"""


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """An experiment whose boards make their own samples, and whose rounds have a deadline."""
    (tmp_path / "data").mkdir()
    for client in range(3):
        labels = np.arange(36) % 3
        inputs = np.eye(3)[labels] + 0.2 * np.random.default_rng(client).random((36, 3))
        rows = [
            ",".join([*(f"{value:.4f}" for value in row), f"class{label}"]) for row, label in zip(inputs, labels, strict=True)
        ]
        (tmp_path / "data" / f"c{client}.csv").write_text("\n".join(rows))
    (tmp_path / "source.cpp").write_text(SOURCE)
    (tmp_path / "experiment.toml").write_text(EXPERIMENT)
    return set_up(spec.load(tmp_path / "experiment.toml"), str(tmp_path / "experiment.toml"), None)


def asleep(round_: int) -> set[int]:
    """Each sleeper is awake in every third round, and one of them in each."""
    return {sleeper for sleeper in SLEEPERS if (round_ + sleeper) % 3}


class Night(Quiet):
    """Boards whose ports and memory are gone while they sleep; as an observer it decides after each round who sleeps next."""

    def __init__(self, devices: Sequence[Device], cables: Sequence[Cable], names: Sequence[Path]) -> None:
        self.events: list[str] = []
        self.ends_after = ROUNDS
        self._devices, self._cables, self._names = devices, cables, names
        self._training, self.round = False, 0

    def event(self, text: str) -> None:
        self.events.append(text)

    def stage(self, text: str, total: int = 0) -> None:
        self._training = text == "meta-training"
        if self._training:
            self._fall(asleep(self.round))

    def advance(self) -> None:
        if self._training:
            self.round += 1
            self._fall(asleep(self.round))
            if self.round == self.ends_after:
                raise KeyboardInterrupt

    def wake_all(self) -> None:
        self._fall(set())

    def _fall(self, sleeping: set[int]) -> None:
        for n in SLEEPERS:
            cable, name = self._cables[n], self._names[n]
            if n in sleeping and cable.path:
                name.unlink()
                cable.unplug()
            elif n not in sleeping and not cable.path:
                _boot(self._devices[n], cable)
                name.symlink_to(cable.plug_in())


def _boot(device: Device, cable: Cable) -> None:
    """Starts a board that keeps nothing but its id."""
    cable.disconnect()
    assert device.process is not None
    device.process.kill()
    device.process.wait()
    device.rejoin(HUNG_SECONDS)
    device.close()
    cable.connect(device.line)


@pytest.fixture
def night(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    """Eight native boards behind pseudo-terminals that stand for USB cables."""
    monkeypatch.setattr(roster, "SCAN_SECONDS", 0.02)
    program = build_firmware(design_of(setup.experiment, setup.source), "native").program
    with Cables() as cables, launch(parse([f"native:{BOARDS}"]), lambda board: program) as devices:
        plugs, names = [cables.add() for _ in devices], [tmp_path / f"ttyACM{n}" for n in range(BOARDS)]
        for device, cable, name in zip(devices, plugs, names, strict=True):
            device.close()
            cable.connect(device.line)
            name.symlink_to(cable.plug_in())
        yield Night(devices, plugs, names)


def train(setup: Setup, out: Path, night: Night, names: Sequence[str]) -> None:
    training.train(setup, names, ["native:1"], out, night)


@pytest.mark.usefixtures("built_once")
def test_rounds_end_without_who_sleeps_and_a_simulation_of_the_same_participation_has_the_same_weights(
    setup: Setup, tmp_path: Path, night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(tmp_path / f"ttyACM{n}") for n in range(BOARDS)]
    night.ends_after = 4
    with pytest.raises(KeyboardInterrupt):
        train(setup, tmp_path / "run", night, names)
    assert store.read_run(tmp_path / "run").trained == 4
    night.wake_all()
    night.ends_after = ROUNDS + 1
    result = training.resume(tmp_path / "run", night)

    run = store.read_run(tmp_path / "run")
    for entry in run.rounds:
        assert {(late.client, late.device) for late in entry.late or ()} == {(n, names[n]) for n in asleep(entry.round)}
        assert {part.client for part in entry.contributions if part.status == "skipped"} == asleep(entry.round)
        assert entry.seconds >= 0.05, "until the deadline"
    back = [(entry.round, each) for entry in run.rounds for each in entry.returned or ()]
    assert len(back) >= len(SLEEPERS) and all(each.round < at and each.seconds > 0 for at, each in back)

    assert result.closed_early == ROUNDS and result.skipped == 2 * ROUNDS
    assert [(board.device, board.rounds) for board in result.late_boards or ()] == [
        (names[n], ROUNDS * 2 // 3) for n in SLEEPERS
    ]
    assert all(board.longest is not None and board.longest > 0 for board in result.late_boards or ())
    assert not any("not used any more" in event or "lost after" in event for event in night.events)
    said = [event for event in night.events if event.startswith("round 0 ended with 6 of 8 clients; late: ")]
    assert len(said) == 1 and all(names[n] in said[0] for n in asleep(0))

    page = report.write(run).read_text()
    assert "Boards that were late" in page and f"{ROUNDS} rounds ended without some of their clients" in page
    opened = tmf.open_run(run.path)
    assert opened.history.late.tolist() == [2] * ROUNDS

    found = opened.verify(threads=1, progress=False)
    assert found.same and found.left_out == 2 * ROUNDS
    assert found.simulated_sha256 == found.weights_sha256 == sha256(run.weights) == result.weights_sha256

    monkeypatch.setattr(verification, "absences", lambda rounds: {})
    other = opened.verify(threads=1, progress=False)
    assert not other.same and other.differs == 0, "with all eight boards the weights are others"
