"""The examples of sensors: compiled for their boards, and run on stand-ins for the vendors' libraries."""

from __future__ import annotations

from pathlib import Path

import exported
import pytest
from sketches import FLAGS, run, write_library
from test_arduino import HERE, check_syntax
from test_sketch_library import arm_headers

import tinymetafed as tmf
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.toolchain import compiler_flags

EXAMPLES = find("examples/sensors")
EXPERIMENTS = (("activity.toml", "nano33ble", "arm-none-eabi-g++"), ("presence.toml", "esp32dev", "clang++-22"))


@pytest.mark.parametrize(("name", "board", "compiler"), EXPERIMENTS)
def test_they_compile_for_their_boards_as_part_of_a_library(name: str, board: str, compiler: str, tmp_path: Path) -> None:
    found = exported.compilers()
    if compiler not in found:
        pytest.skip(f"{compiler} is not installed")
    library = write_library(tmf.load(EXAMPLES / name), board, tmp_path / board)
    headers = arm_headers() if compiler == "clang++-22" else []
    places = [f"-I{HERE / board}", f"-I{HERE / 'sensors'}"]
    sources = [library / "src" / "tinymetafed" / part for part in ("app/sensor_own.cpp", "core/device.cpp")]
    check_syntax([*found[compiler], *headers], sources, [*compiler_flags(), *places])


def ran(driver: str, board: str, folder: Path) -> list[list[str]]:
    """The words of each line that a driver prints."""
    places = [f"-I{place}" for place in (find("firmware") / "core", EXAMPLES, HERE / "sensors", HERE / board)]
    program = folder / "driver"
    run(["g++", *FLAGS, "-std=c++17", "-O0", *places, str(HERE / "sensors" / driver), "-o", str(program)])
    return [line.split() for line in run([str(program)]).splitlines()]


def test_the_inertial_sensor_gives_every_other_measurement_in_si_units(tmp_path: Path) -> None:
    found = ran("imu.cpp", "nano33ble", tmp_path)
    nothing, row, fault = "0", "1", "3"
    assert [words[0] for words in found] == [*[nothing] * 3, row, *[nothing] * 5, row, *[nothing] * 2, fault, nothing]
    assert found[3][1:] == ["-1", "29.420", "0.000", "9.807", "3.142", "-3.142", "0.000"]


def test_the_room_sensor_gives_two_rows_a_second_and_the_buttons_label(tmp_path: Path) -> None:
    *found, busy = ran("presence.cpp", "esp32dev", tmp_path)
    assert busy == ["busy", "1", "0", "1"], "rows are missing after a pause; the next one comes a period later"
    assert [words[0] for words in found] == ["0", "500", "1000", "1500", "2000", "2500"]
    assert [words[1] for words in found] == ["-1", "-1", "-1", "1", "1", "-1"]
    assert {tuple(words[2:]) for words in found} == {("1.00", "0.50")}
