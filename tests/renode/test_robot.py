"""Runs the robot files of this folder in Renode's own test runner; tests/emulator has the scenarios for every board."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clocks import HUNG_SECONDS
from small_runs import sine

from tinymetafed.devices.running import build_firmware
from tinymetafed.runs.setup import design_of
from tinymetafed.wire.frame import encode
from tinymetafed_codegen.board import board_requirements, boards
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.protocol import Hello

RENODE_TEST = shutil.which("renode-test")
lacking = boards.missing_tools("nrf52840")

pytestmark = [
    pytest.mark.xdist_group("emulator-renode"),
    pytest.mark.skipif(bool(lacking), reason=f"no nRF52840 in Renode here: {board_requirements.remedy(lacking)}"),
    pytest.mark.skipif(RENODE_TEST is None, reason="renode-test, which comes with Renode, is not on the PATH"),
    pytest.mark.skipif(
        importlib.util.find_spec("robot") is None,
        reason="Robot Framework is not installed: pip install -r tests/requirements.txt of Renode's folder; it needs gcc and "
        "python3-dev",
    ),
]


@pytest.mark.usefixtures("built_once")
@pytest.mark.parametrize("robot", sorted(Path(__file__).parent.glob("*.robot")), ids=lambda path: path.stem)
def test_robot(robot: Path, tmp_path: Path) -> None:
    variables = {
        "PROGRAM": build_firmware(design_of(sine(), "test"), "nrf52840").program,
        "FOLDER": find("boards/renode"),
        "HELLO": ",".join(f"0x{byte:02x}" for byte in encode(Hello.type_id, 1, Hello().pack())),
    }
    given = [word for name, value in variables.items() for word in ("--variable", f"{name}:{value}")]
    command = [RENODE_TEST, str(robot), *given, "--results-dir", str(tmp_path)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # renode-test runs its first python3
    done = subprocess.run(
        command, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=HUNG_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
