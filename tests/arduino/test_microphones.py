"""The microphones of examples/sensors: they compile for their chips, and give each sample once, or tell of lost ones."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tinymetafed_codegen import emit, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.toolchain import compiler_flags

HERE = Path(__file__).parent
MICROPHONES = {"nano33ble_microphone.cpp": "nano33ble", "esp32dev_microphone.cpp": "esp32dev"}


def arguments(sensor: str, folder: Path, rate: int = 16000) -> list[str]:
    """Generates the firmware's headers for the board of a microphone; returns the compiler's arguments."""
    changes = (f"task.sound.rate={rate}", f"board.sensor={find('examples/sensors') / sensor}")
    experiment = spec.load(find("examples/sensors/keywords.toml"), changes)
    emit.write(design(experiment, boards.load(MICROPHONES[sensor]), "test"), folder, "pytest")
    firmware = find("firmware")
    folders = (folder, firmware / "core", firmware / "app", HERE / MICROPHONES[sensor])
    return [*compiler_flags(), *(f"-I{path}" for path in folders)]


@pytest.mark.parametrize("sensor", MICROPHONES)
def test_it_compiles_for_a_chip(sensor: str, tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("arm-none-eabi-g++ is not installed")
    command = ["arm-none-eabi-g++", *boards.load("nano33ble").machine_flags, "-fsyntax-only", *arguments(sensor, tmp_path)]
    done = subprocess.run([*command, find("firmware/app/sensor_own.cpp")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("sensor", "rate", "last"),
    [
        ("nano33ble_microphone.cpp", 16000, 299),
        ("nano33ble_microphone.cpp", 8000, 298.5),
        ("esp32dev_microphone.cpp", 16000, 299),
    ],
)
def test_each_sample_is_a_row_and_lost_ones_are_a_gap(sensor: str, rate: int, last: float, tmp_path: Path) -> None:
    program = tmp_path / "microphone"
    i2s = ["-DI2S"] if sensor.startswith("esp32dev") else []
    command = ["g++", *arguments(sensor, tmp_path, rate), *i2s, HERE / "microphone.cpp", "-o", program]
    subprocess.run(command, check=True)
    rows = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    step = 16000 // rate
    first = [str(float(-300 + i * step + (step - 1) / 2)) for i in range(600 // step)]
    assert [str(float(row)) for row in rows[: len(first)]] == first and float(first[-1]) == last
    assert rows[len(first)] == "gap"  # then the samples since the loss; last the recording that begins anew
    assert [float(row) for row in rows[len(first) + 1 :][-4 // step :]] == [float(each) for each in first[: 4 // step]]
    assert rows.count("gap") == 1
