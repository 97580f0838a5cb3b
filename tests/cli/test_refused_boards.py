"""Boards and board files that cannot be used are named with a remedy."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clocks import FakeClock
from commands import SHORT, Command
from fake_device import FakeBoard, FakeLine, Fault
from small_runs import SINE, manifest, sine

from tinymetafed.devices import launch, running, serial_port
from tinymetafed.devices.fleet import Fleet
from tinymetafed.devices.running import build_firmware
from tinymetafed.runs import store
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen.protocol import Dtype


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeBoard]:
    """``fake(…)`` starts a fake board that claims to hold the sine example's firmware; waiting uses a fake clock."""
    clock = FakeClock()
    open_line = serial_port.open_transport
    monkeypatch.setattr(running, "launch", functools.partial(launch.launch, clock=clock))
    monkeypatch.setattr(running, "Fleet", functools.partial(Fleet, clock=clock))

    def start(**faults: Any) -> FakeBoard:
        about = manifest(sine())
        hello = {"window": 1024, "model_hash": bytes.fromhex(about.model_hash)}
        identity = {"weights": about.n_global, "downlink": Dtype[about.downlink], **hello}
        board = FakeBoard(clock=clock, **{**identity, **faults})
        line = FakeLine(board, clock)
        monkeypatch.setattr(
            serial_port, "open_transport", lambda url, **about: line if url == board.url else open_line(url, **about)
        )
        return board

    return start


def test_a_missing_port_is_named(refused: Callable[..., str]) -> None:
    text = refused(1, SINE, "--device", "/dev/ttyNOPE9")
    assert "/dev/ttyNOPE9" in text and "does not exist" in text and "plug the board in" in text


def test_a_busy_port_is_named(refused: Callable[..., str], fake: Callable[..., FakeBoard]) -> None:
    far, near = os.openpty()
    try:
        fcntl.flock(near, fcntl.LOCK_EX | fcntl.LOCK_NB)
        text = refused(1, SINE, "--device", os.ttyname(near))
        assert os.ttyname(near) in text and "is busy" in text and "close the program" in text
    finally:
        os.close(far)
        os.close(near)


def test_firmware_of_another_model_is_refused(refused: Callable[..., str], built_once: None) -> None:
    other = build_firmware(
        design_of(sine('model.layers=[{op="dense",units=3,activation="relu"},{op="dense",units=1}]'), "other"), "native"
    )
    with subprocess.Popen([other.program, "--pty"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().split()[1]
            text = refused(1, SINE, "--device", port)
        finally:
            process.kill()
    assert port in text and "flash" in text
    assert other.manifest.model_hash in text and manifest(sine()).model_hash in text


def test_firmware_of_another_schema_is_refused(refused: Callable[..., str], fake: Callable[..., FakeBoard]) -> None:
    device = fake(schema_hash=b"\x5a" * 8)
    text = refused(1, SINE, "--device", device.url)
    assert device.url in text and "5a" * 8 in text and "flash" in text


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"silent": True}, "no answer to Hello"),
        ({"noise": b"\xa5\x5a\xff"}, "another program is on the board"),
        ({"window": 20}, "receive_window = 20"),
    ],
    ids=["nothing", "garbage", "tiny window"],
)
def test_a_board_that_answers_nothing_or_garbage_is_named(
    refused: Callable[..., str], fake: Callable[..., FakeBoard], behaviour: dict[str, Any], words: str
) -> None:
    device = fake(**behaviour)
    text = refused(1, SINE, "--device", device.url)
    assert device.url in text and words in text


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"faults": [Fault.NONE] * 6 + [Fault.GARBAGE_ONLY] * 10_000}, "no valid answer"),
        ({"faults": [Fault.NONE] * 6, "silent": True}, "no answer"),
        ({"faults": [Fault.NONE] * 6 + [Fault.VANISH]}, "no device is left"),
        ({"steps": 80, "fails_at": 3}, "NOT_FINITE"),
        ({"steps": 80}, "delta chunk at rank 0"),  # the deltas of this fake board are not valid
    ],
    ids=["garbage", "nothing", "vanishes", "fails", "false delta"],
)
def test_a_board_that_fails_in_mid_run_leaves_no_finished_run(
    command: Command, fake: Callable[..., FakeBoard], behaviour: dict[str, Any], words: str
) -> None:
    device = fake(**behaviour)
    said = command("train", SINE, *SHORT, "--device", device.url, "--out", "run", "--json")
    assert said.code == 1 and words in said.error
    assert ("tinymetafed train --resume run" in said.err) == (words != "NOT_FINITE")
    run = store.read_run(Path("run"))
    assert run.result is None and run.trained == 0


def test_an_invalid_board_file_is_reported_and_other_boards_still_work(command: Command, own_boards: Path) -> None:
    (own_boards / "broken.json").write_text('{"name": "x"}')
    said = command("simulate", SINE, *SHORT[:-2], "--out", "run", "--json")
    assert said.code == 0 and set(json.loads(said.out)["estimate"]["boards"]) == {"esp32dev", "nano33ble"}
    first, *_ = said.err.splitlines()
    assert first.startswith(f"Warning: {own_boards / 'broken.json'}: not a usable board file: line 1, 'tinymetafed' is missing")
    assert said.err.count("broken.json") == 1
    for device in ("native:1@broken", "/dev/ttyNONE@broken", "broken"):
        refused = command("train", SINE, *SHORT, "--device", device, "--out", "other")
        assert refused.code == 2 and "broken.json: not a usable board file" in refused.error
    assert not Path("other").exists()


def test_a_board_without_environment_is_refused_before_anything_is_built(command: Command, own_boards: Path) -> None:
    shutil.copy(own_boards / "native.json", own_boards / "lonely.json")
    said = command("train", SINE, *SHORT, "-d", "native:1", "-d", "native:1@lonely", "--out", "run")
    assert said.code == 1 and f"{own_boards / 'environments.ini'} has no [env:lonely]; write [env:lonely]" in said.error
    assert "building" not in said.err and not Path("run").exists()
