"""Boards with a store: after resets, line breaks and restarts of the host the weights are those of an undisturbed run."""

from __future__ import annotations

import json
import re
import shlex
import struct
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from rig import CLIENT, SEED, present
from small_runs import Quiet, sine
from typer.testing import CliRunner

import tinymetafed as tmf
from tinymetafed.cli import application
from tinymetafed.devices.board_stores import run_number
from tinymetafed.devices.device import Device
from tinymetafed.devices.device_urls import DeviceUrlError, parse
from tinymetafed.devices.link.link_errors import LaunchError
from tinymetafed.devices.running import running
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.learn.tasks import HELD_OUT
from tinymetafed.learn.weights import initial
from tinymetafed.runs import adapting, training
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed.runs.store import read_run
from tinymetafed_codegen import emit, spec
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.optional_messages.store_messages import StoreState
from tinymetafed_codegen.protocol import Program
from tinymetafed_codegen.spec import Experiment

KEEPING = ("strategy.error_feedback=true", "model.local_start=kept", "strategy.top_p=5", "run.clients=2", "run.rounds=10")
QUICK = ("evaluation.tasks=1", "evaluation.every=0", "adaptation.local_passes=1", "adaptation.full_passes=0")
STORE = "board.store=true"
pytestmark = pytest.mark.usefixtures("built_once")


class Heard(Quiet):
    """An observer that remembers events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def event(self, text: str) -> None:
        self.events.append(text)


@contextmanager
def board(url: str, *overrides: str) -> Iterator[tuple[Experiment, Device, list[str]]]:
    """The sine example's firmware with a store, on one board."""
    experiment, heard = sine(STORE, *overrides), Heard()
    with running(design_of(experiment, "test"), [url], heard) as fleet:
        yield experiment, fleet.devices[0], heard.events


def reset(device: Device) -> None:
    assert device.process is not None
    device.process.kill()
    device.process.wait()
    device.rejoin(30)


def trained(folder: Path, *overrides: str, url: str = "native:2", fault: str = "") -> tmf.Run:
    experiment = tmf.load("examples/sine.toml", [*KEEPING, *QUICK, *overrides])
    return tmf.train(experiment, [url], out=folder, fault=fault, progress=False)


def redone(folder: Path) -> int:
    """Rounds of clients that were done again."""
    return sum(each.status == "redone" for entry in read_run(folder).rounds for each in entry.contributions)


def test_a_board_that_is_reset_in_a_run_ends_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed = trained(tmp_path / "undisturbed").weights_sha256
    assert trained(tmp_path / "store", STORE).weights_sha256 == undisturbed
    assert trained(tmp_path / "reset", STORE, fault="reboot=0.02,seed=5").weights_sha256 == undisturbed
    assert redone(tmp_path / "reset") > 0, "no board was reset in a round"
    assert trained(tmp_path / "cut", STORE, fault="disconnect=0.02,seed=5").weights_sha256 == undisturbed
    assert redone(tmp_path / "cut") > 0, "no line was cut in a round"
    assert trained(tmp_path / "forgotten", fault="reboot=0.02,seed=5").weights_sha256 != undisturbed


def test_a_run_goes_on_with_the_stores_of_its_boards_and_another_run_does_not_use_them(tmp_path: Path) -> None:
    url, constant = f"native:2?store={tmp_path / 'flash'}", "strategy.schedule=constant"
    whole = trained(tmp_path / "whole", constant).weights_sha256
    trained(tmp_path / "run", STORE, constant, "run.rounds=4", url=url)
    assert sorted(path.name for path in (tmp_path / "flash").glob("*.flash")) == ["native-1.flash", "native-2.flash"]
    assert tmf.resume(tmp_path / "run", devices=[url], rounds=10, progress=False).weights_sha256 == whole
    other = trained(tmp_path / "other", constant, "run.seed=2").weights_sha256
    assert trained(tmp_path / "again", STORE, constant, "run.seed=2", url=url).weights_sha256 == other
    assert trained(tmp_path / "from the start", STORE, constant, url=url).weights_sha256 == whole


def test_runs_are_told_apart_and_more_rounds_are_the_same_run() -> None:
    ways = ["run.seed=2", "strategy.top_p=7", "run.devices_per_round=2", "run.clients=9", "task.support=3", "model.init=he"]
    numbers = [run_number(sine(*more)) for more in ([], *([way] for way in ways))] + [run_number(sine(), "other data")]
    assert len(set(numbers)) == len(ways) + 2
    for same in ("run.rounds=7", "task.adapt=3"):
        assert run_number(sine(same)) == numbers[0]


def test_a_run_whose_data_have_moved_is_the_same() -> None:
    folders = ("task.path=/here", "task.path=/there")
    here, there = (spec.load(find("examples/presence.toml"), ["task.kind=folder", folder]) for folder in folders)
    assert here != there and run_number(here, "data") == run_number(there, "data")


def test_two_boards_cannot_write_one_file(tmp_path: Path) -> None:
    url, used = f"native:1?store={tmp_path}", r"native-1\.flash: another board or process uses it.* another folder after store="
    with pytest.raises(LaunchError, match=used):
        tmf.train(tmf.load("examples/sine.toml", [STORE]), [url], test_device=url, out=tmp_path / "run", progress=False)
    made = design_of(sine(STORE), "test")
    with pytest.raises(LaunchError, match=used), running(made, [url, f"native:2?store={tmp_path / '.'}"], Quiet()):
        pass
    with board(url) as (_, device, _):  # the file is free again
        assert device.session.store is not None


@pytest.mark.parametrize("url", present(["native:1", "qemu:1", "qemu:1@rv32", "qemu:1@esp32isa"]))
def test_weights_that_are_kept_predict_after_a_reset(url: str) -> None:
    inputs = np.linspace(-5, 5, 9, dtype=np.float32).reshape(9, 1)
    with board(url) as (experiment, device, events):
        strategy = open_strategy(experiment, design_of(experiment, "test").manifest)
        recipe = strategy.adaptation_recipe(4)
        session = device.session
        assert session.store is not None and session.store.state == StoreState.EMPTY
        n = design_of(experiment, "test").manifest.n_parameters
        for again in range(2):  # the second time, after a reset, the board has weights of its own at first
            session.configure(Program.ADAPT, recipe)
            session.load(1, strategy.download(initial(design_of(experiment, "test").manifest, again, "glorot")))
            session.train(1, Program.ADAPT, SEED, CLIENT, again)
            session.await_done(1, recipe.steps)
            learned, expected = session.fetch(0, n), session.predict(inputs, 1)
            report = session.keep()
            assert (report.state, report.saves, report.weights) == (StoreState.READY, again + 1, 1)
            assert session.keep() == report, "weights that are saved already are written again"
            reset(device)
            session = device.session
            np.testing.assert_array_equal(session.fetch(0, n), learned)
            np.testing.assert_array_equal(session.predict(inputs, 1), expected)
        assert events == []


def slot(model: bytes, version: int = 2) -> bytes:
    """A file whose first slot begins with a valid header."""
    fields = struct.pack("<4sI8sI", b"TMFS", version, model, 1)
    return fields + struct.pack("<I", zlib.crc32(fields))


@pytest.mark.parametrize(
    ("content", "state", "said"),
    [
        (slot(bytes(8)), StoreState.OTHER_MODEL, "its store is of another model"),
        (slot(bytes(8), version=1), StoreState.OTHER_FORMAT, "its store is of another version"),
        (np.random.default_rng(1).bytes(300_000), StoreState.DAMAGED, "its store is damaged"),
        (None, StoreState.MISSING, "it has no storage"),
    ],
    ids=["another model", "another format", "random bytes", "no storage"],
)
def test_a_store_that_cannot_be_used_is_named_and_the_board_goes_on(
    tmp_path: Path, content: bytes | None, state: StoreState, said: str
) -> None:
    file = tmp_path / "native-1.flash"
    if content is None:
        file.mkdir()  # cannot be opened for writing
    else:
        file.write_bytes(content)
    with board(f"native:1?store={tmp_path}") as (experiment, device, events):
        assert device.session.store is not None and device.session.store.state == state
        assert len(events) == 1 and events[0].startswith(f"native#1: {said}")
        strategy = open_strategy(experiment, design_of(experiment, "test").manifest)
        device.session.configure(Program.TRAIN, strategy.training_recipe())
        device.session.load(1, strategy.download(np.zeros(strategy.n_global, np.float32)))
        report = device.session.keep()  # what was there is replaced
        assert report.state == (state if state == StoreState.MISSING else StoreState.READY)
        assert device.session.predict(np.ones((1, 1), np.float32), 1).shape == (1, 1)


FAILING = """
#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

// Takes the place of the C library's pwrite: flash that takes 30 writes.
ssize_t pwrite(int file, const void *from, size_t size, off_t at) {
  static int calls = 0;
  if (size < 4096 && ++calls > 30) { errno = EIO; return -1; }
  return lseek(file, at, SEEK_SET) == at ? write(file, from, size) : -1;
}
"""


def test_worn_flash_is_named_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = trained(tmp_path / "undisturbed", STORE).weights_sha256
    (tmp_path / "failing.c").write_text(FAILING)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "failing.so", tmp_path / "failing.c"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(tmp_path / "failing.so"))
    experiment = sine(STORE, *KEEPING, *QUICK)
    heard = Heard()
    training.train(set_up(experiment, "test", None), ["native:2"], ["native:2"], tmp_path / "worn", heard)
    assert tmf.open_run(tmp_path / "worn").weights_sha256 == undisturbed
    assert sorted(event for event in heard.events) == [
        f"native#{number}: its flash is worn: it no longer takes what the board saves; the board goes on, but a reset loses "
        "it; use another board where that matters"
        for number in (1, 2)
    ]


def test_adapt_keeps_a_client_on_each_board(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", STORE)
    url = f"native:1?store={tmp_path / 'flash'}"
    run.adapt(devices=[url], clients=["3"], keep=True, save=tmp_path / "adapted", progress=False)
    with board(url, *KEEPING, *QUICK) as (experiment, device, _):
        weights = np.load(tmp_path / "adapted" / "3.npz")
        flat = np.concatenate([weights[t.name].ravel() for t in design_of(experiment, "test").manifest.parameters])
        np.testing.assert_array_equal(device.session.fetch(0, len(flat)), flat)
    with pytest.raises(spec.SpecError, match=r"2 clients to keep, but 1 device"):
        run.adapt(devices=["native:1"], clients=["3", "4"], keep=True, progress=False)


def test_a_client_that_diverges_is_not_kept_and_is_named(tmp_path: Path) -> None:
    url, manifest = f"native:1?store={tmp_path / 'flash'}", design_of(sine(STORE), "test").manifest
    good = initial(manifest, 1, "glorot")
    with board(url) as (experiment, device, _):
        strategy = open_strategy(experiment, manifest)
        device.session.configure(Program.TRAIN, strategy.training_recipe())
        device.session.load(1, strategy.download(good))
        before = device.session.keep()
        kept = device.session.fetch(0, 9)
    heard = Heard()
    diverging = set_up(sine(STORE, "adaptation.full_learning_rate=10", "strategy.output_clamp=0"), "test", None)
    adaptation = adapting.adapt(diverging, [url], np.full_like(good, 1e3), [HELD_OUT + 3], heard, keep=True)
    assert adaptation.clients[0].after is None
    (said,) = heard.events
    assert said.startswith(f"native#1: client {HELD_OUT + 3} diverged, its weights are not kept") and "learning_rate" in said
    with board(url) as (_, device, _):
        assert device.session.store == before
        np.testing.assert_array_equal(device.session.fetch(0, 9), kept)


def test_a_board_url_with_a_wrong_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="longer than the 300 bytes"), board(f"native:1?store={tmp_path / ('a/' * 150)}"):
        pass
    with pytest.raises(DeviceUrlError, match=r"expected store=DIR after \?"):
        parse(["native:2?stored=here"])


def test_firmware_without_a_store_has_nothing_of_it(tmp_path: Path) -> None:
    made = design_of(sine(STORE), "test")
    emit.write(made, tmp_path, "test")
    assert {"saved_state.hpp", "store_facts.hpp"} <= {path.name for path in tmp_path.iterdir()}
    emit.write(design_of(sine(), "test"), tmp_path, "test")  # into the same folder: the store's headers go
    assert not {"saved_state.hpp", "store_facts.hpp"} & {path.name for path in tmp_path.iterdir()}
    assert "store" not in json.loads((tmp_path / "manifest.json").read_text())


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(find("examples"))
    (block,) = re.findall(r"(?ms)^```console\n(.*?)^```", find("docs/store.md").read_text(encoding="utf-8"))
    for line in block.splitlines():
        words = shlex.split(line.removeprefix("$ tinymetafed "))
        done = CliRunner().invoke(application(), words)
        assert done.exit_code == 0, done.output
    assert "its 10,000 erases last" in done.stdout
    assert (tmp_path / "flash" / "native-1.flash").is_file()
