"""What tests of several folders share: stand-ins from devices/ and fuzz/, the reference from kernels/, one build per model."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tinymetafed.devices import firmware
from tinymetafed.devices.firmware import Deviation, Firmware
from tinymetafed_codegen import boards
from tinymetafed_codegen.locate import find

sys.path += [str(Path(__file__).parent / folder) for folder in ("devices", "kernels", "fuzz", "nrf52840")]

collect_ignore = ["firmware"]  # unit tests in C++, which `pio test` runs

# PlatformIO notes what it is asked in a folder of the checkout, which two processes of these tests would make at once.
os.environ |= {"PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no", "PLATFORMIO_DISABLE_UPGRADE_CHECK": "true"}
(Path(__file__).parents[1] / ".pio" / "core").mkdir(parents=True, exist_ok=True)

# Whoever starts the tests in the background may have Ctrl-C ignored, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# These open lines by name and look for lost ones: two processes of them would take each other's pseudo-terminals.
_BY_NAME = ("tests/devices/", "tests/cli/test_cli.py", "tests/runs/test_runner.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(_BY_NAME):
            item.add_marker(pytest.mark.xdist_group("lines"))


_built: dict[tuple[str, str, Deviation], Firmware] = {}


@pytest.fixture
def built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model and board is built once in this process: asking PlatformIO again whether all is new takes seconds."""
    build = firmware.build

    def remembered(experiment: Path, board: str, *, key: str, deviation: Deviation = firmware.AS_THE_BOARD_SAYS) -> Firmware:
        asked = (key, board, deviation)
        if asked not in _built:
            _built[asked] = build(experiment, board, key=key, deviation=deviation)
        return _built[asked]

    monkeypatch.setattr(firmware, "build", remembered)


@pytest.fixture
def own_boards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of boards/ to spoil; everything in this process reads boards from there."""
    folder = tmp_path / "boards"
    shutil.copytree(find("boards"), folder)
    monkeypatch.setattr(boards, "find", lambda name: folder if name == "boards" else find(name))
    return folder
