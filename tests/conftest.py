"""What tests of several folders share: stand-ins from link/ and fuzz/, NumPy reference from kernels/, one build per model."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tinymetafed import firmware, runner
from tinymetafed.firmware import Deviation, Firmware
from tinymetafed_codegen import boards
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.spec import Experiment

sys.path += [str(Path(__file__).parent / folder) for folder in ("link", "kernels", "fuzz", "nrf52840")]

collect_ignore = ["firmware"]  # unit tests in C++, which `pio test` runs

# PlatformIO notes what it is asked in a folder of the checkout, which two processes of these tests would make at once.
os.environ |= {"PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no", "PLATFORMIO_DISABLE_UPGRADE_CHECK": "true"}
(Path(__file__).parents[1] / ".pio" / "core").mkdir(parents=True, exist_ok=True)

# Whoever starts the tests in the background may have Ctrl-C ignored, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# These open lines by name and look for lost ones: two processes of them would take each other's pseudo-terminals.
_BY_NAME = ("tests/link/", "tests/test_fleet.py", "tests/test_cli.py", "tests/test_runner.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(_BY_NAME):
            item.add_marker(pytest.mark.xdist_group("lines"))


_built: dict[tuple[str, str, Deviation], Firmware] = {}


@pytest.fixture
def built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model and board is built once in this process: asking PlatformIO again whether all is new takes seconds."""
    build = runner.build

    def remembered(
        experiment: Experiment, source: str, board: str, deviation: Deviation = firmware.AS_THE_BOARD_SAYS
    ) -> Firmware:
        key = (runner.manifest_of(experiment, source, board)["model_hash"], board, deviation)
        if key not in _built:
            _built[key] = build(experiment, source, board, deviation)
        return _built[key]

    monkeypatch.setattr(runner, "build", remembered)


@pytest.fixture
def own_boards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of boards/ to spoil; everything in this process reads boards from there."""
    folder = tmp_path / "boards"
    shutil.copytree(find("boards"), folder)
    monkeypatch.setattr(boards, "find", lambda name: folder if name == "boards" else find(name))
    return folder
