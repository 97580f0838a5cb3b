"""`pio test`: the firmware's unit tests pass on every board that can run here, and failures are reported."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clocks import HUNG_SECONDS

from tinymetafed_codegen.board import boards
from tinymetafed_codegen.locate import find, root

TESTS = Path(__file__).parent / "firmware"
WRITTEN = sum(len(re.findall(r"^TEST\(", path.read_text(), re.MULTILINE)) for path in TESTS.glob("*.cpp"))
OFFLINE = re.findall(r"^\[env:(\w+)\]\nextends = offline$", find("boards/environments.ini").read_text(), re.MULTILINE)

# Replaces the project's tests: one test that fails, and one that ends the firmware.
PLANTED = """
#include "check.hpp"
TEST("this holds") { CHECK(true); }
TEST("this does not") { CHECK(1 + 1 == 3); }
TEST("the next one runs all the same") { CHECK(true); }
TEST("this ends it") { *static_cast<volatile int*>(nullptr) = 1; }
"""

pytestmark = pytest.mark.xdist_group("pio-test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build folder of all tests in this file, so that common files are compiled once."""
    return tmp_path_factory.mktemp("pio-test")


def pio_test(board: str, folder: Path, **environment: str) -> tuple[int, str, list[dict[str, Any]]]:
    """Exit code, output and test cases of `pio test -e BOARD` in build folders below ``folder``."""
    found = folder / "found.json"
    command = [sys.executable, "-m", "platformio", "test", "-d", str(root()), "-e", board, "--json-output-path", str(found)]
    own = {f"PLATFORMIO_{name}_DIR": str(folder / name.lower()) for name in ("CORE", "WORKSPACE")}
    quiet = {"PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no", "PLATFORMIO_DISABLE_UPGRADE_CHECK": "true"}
    done = subprocess.run(
        command, env=os.environ | own | quiet | environment, capture_output=True, text=True, timeout=HUNG_SECONDS, check=False
    )
    suites = json.loads(found.read_text())["test_suites"] if found.exists() else []
    cases = [case for suite in suites if suite["env_name"] == board for case in suite.get("test_cases", [])]
    return done.returncode, done.stdout + done.stderr, cases


def needs(board: str) -> None:
    if lacking := boards.missing_tools(board):
        pytest.skip(f"{board}: {lacking[0].name} is not installed")


@pytest.mark.parametrize("board", OFFLINE)
def test_the_firmwares_unit_tests_pass(board: str, folder: Path) -> None:
    needs(board)
    code, said, cases = pio_test(board, folder)
    assert code == 0, said
    assert [case["status"] for case in cases] == ["PASSED"] * WRITTEN


@pytest.mark.parametrize("board", ["native", "mps2"])
def test_failed_tests_show_their_place_and_a_stopped_firmware_its_last_output(board: str, folder: Path, tmp_path: Path) -> None:
    needs(board)
    for name in ("check.hpp", "main.cpp", "test_custom_runner.py"):
        shutil.copy(TESTS / name, tmp_path)
    (tmp_path / "planted.cpp").write_text(PLANTED)
    code, said, cases = pio_test(board, folder, PLATFORMIO_TEST_DIR=str(tmp_path))
    assert code != 0
    assert [case["status"] for case in cases] == ["PASSED", "FAILED", "PASSED", "ERRORED"], said
    assert "planted.cpp:4: 1 + 1 == 3" in said
    assert re.search(rf"{board}: the firmware stopped, exit code -?\d+, after 'the next one runs all the same'", said), said
    assert boards.load(board).emulator is None or "firmware stopped: fault" in said


def test_a_board_without_its_emulator_is_skipped_by_name(folder: Path, tmp_path: Path) -> None:
    code, said, cases = pio_test("mps2", folder, PATH=str(tmp_path))
    assert code == 0 and [case["status"] for case in cases] == ["SKIPPED"], said
    assert "qemu-system-arm is not installed" in said
