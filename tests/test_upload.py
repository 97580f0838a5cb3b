"""Uploads: a port without the board is refused with a list of all ports; an emulated board says what to do next."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from serial.tools.list_ports_common import ListPortInfo

from tinymetafed_codegen.locate import find

Upload = Callable[..., int]


def port(device: str, vid: int | None, pid: int | None, description: str) -> ListPortInfo:
    info = ListPortInfo(device, skip_link_detection=True)
    info.vid, info.pid, info.description = vid, pid, description
    return info


NANO = port("/dev/ttyACM0", 0x2341, 0x805A, "Nano 33 BLE")
OTHER_NANO = port("/dev/ttyACM1", 0x2341, 0x005A, "Nano in its boot loader")
BRIDGE = port("/dev/ttyUSB0", 0x10C4, 0xEA60, "CP2102")
MAINBOARD = port("/dev/ttyS0", None, None, "n/a")


@pytest.fixture
def upload(monkeypatch: pytest.MonkeyPatch) -> Upload:
    """Returns ``upload(*ports, given=…)``, which runs the script's check before an upload to a Nano and returns its status."""

    def run(*ports: ListPortInfo, given: str = "", protocol: str = "sam-ba") -> int:
        actions: list[Callable[..., int | None]] = []
        facts: dict[str, Any] = {"upload.protocol": "sam-ba", "build.hwids": [["0x2341", "0x005a"], ["0x2341", "0x805a"]]}
        board = SimpleNamespace(id="nano33ble", manifest_path="boards/nano33ble.json", get=facts.get)
        env = SimpleNamespace(
            BoardConfig=lambda: board,
            subst={"$UPLOAD_PROTOCOL": protocol, "$UPLOAD_PORT": given}.__getitem__,
            VerboseAction=lambda action, text: action,
            AddPreAction=lambda target, action: actions.append(action),
        )
        monkeypatch.setattr("serial.tools.list_ports.comports", lambda: list(ports))
        runpy.run_path(str(find("boards/upload.py")), {"Import": lambda name: None, "env": env})
        (action,) = actions
        return action([], [], env) or 0

    return run


def test_the_only_board_is_found(upload: Upload) -> None:
    assert upload(MAINBOARD, NANO, BRIDGE) == 0


@pytest.mark.parametrize("given", ["/dev/ttyACM0", "/dev/ttyACM*"])
def test_the_given_board_is_taken(upload: Upload, given: str) -> None:
    assert upload(NANO, BRIDGE, given=given) == 0


def test_a_port_with_another_board_is_refused(upload: Upload, capsys: pytest.CaptureFixture[str]) -> None:
    assert upload(NANO, BRIDGE, given="/dev/ttyUSB0") == 1
    assert capsys.readouterr().out == (
        "Error: /dev/ttyUSB0: CP2102 (10c4:ea60) is not a known nano33ble; ports that may have one: /dev/ttyACM0; "
        "if it is a nano33ble with other ids, add them to hwids in nano33ble.json\n"
    )


@pytest.mark.parametrize(
    ("ports", "given", "words"),
    [
        (
            [MAINBOARD, BRIDGE],
            "",
            "no nano33ble is attached; no port has one; ports: /dev/ttyS0 (n/a",
        ),
        ([], "", "ports: none; connect it"),
        ([NANO], "/dev/ttyACM7", "/dev/ttyACM7: no such port; ports that may have one: /dev/ttyACM0"),
        ([MAINBOARD], "/dev/ttyS0", "/dev/ttyS0: n/a (no USB ids) is not a known nano33ble"),
        (
            [NANO, OTHER_NANO],
            "",
            "several ports may have a nano33ble: /dev/ttyACM0, /dev/ttyACM1; choose one with --upload-port",
        ),
        ([NANO, BRIDGE], "/dev/ttyUSB*", "no nano33ble is attached"),
    ],
)
def test_errors_list_the_ports(
    upload: Upload, capsys: pytest.CaptureFixture[str], ports: list[ListPortInfo], given: str, words: str
) -> None:
    assert upload(*ports, given=given) == 1
    assert words in capsys.readouterr().out


def test_another_upload_protocol_is_not_checked(upload: Upload) -> None:
    assert upload(protocol="jlink") == 0


START = find("boards/platform/builder/start.py")


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("", "char device redirected to /dev/pts/7 (label serial0)"),  # QEMU
        ("", "pty /dev/pts/7"),  # a native process
        ("/dev/pts/7", "monitor"),  # Renode makes the line that it is told to make
    ],
)
def test_an_emulated_board_says_what_to_do_next(line: str, printed: str) -> None:
    command = [sys.executable, str(START), "my files/sine.toml", line, sys.executable, "-c", f"print({printed!r}); exit(3)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3 and printed in done.stdout
    assert "tinymetafed train 'my files/sine.toml' --device /dev/pts/7" in done.stdout


@pytest.mark.parametrize("board", ["native", "mps2", "rv32", "nrf52840", "esp32isa"])
def test_the_line_of_every_emulated_board_is_known_or_printed(board: str) -> None:
    serial = json.loads(find(f"boards/{board}.json").read_text(encoding="utf-8"))["tinymetafed"]["serial"]
    printed = {"pty", "--pty", "pty,id=line,mux=on"}  # the emulator or process chooses a path and prints it
    assert any("{line}" in part for part in serial) or printed & set(serial)
