"""Firmware builds: offline from nothing, only what changed, never over another experiment's, with errors that help."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from clocks import HUNG_SECONDS

from tinymetafed.devices import firmware
from tinymetafed_codegen import boards
from tinymetafed_codegen.locate import find, root

SINE = find("examples/sine.toml")


@pytest.fixture
def build_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for builds; PlatformIO's core directory lies in it and is empty too."""
    monkeypatch.setenv("TINYMETAFED_BUILD_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture(params=[name for name in boards.names() if not boards.load(name).real])
def board(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if lacking := [tool for tool in boards.missing_tools(name) if tool.to_build]:
        pytest.skip(f"{lacking[0].name} is not installed: {boards.remedy(lacking)}")
    return name


def test_builds_without_a_network_and_then_only_what_changed(
    board: str, build_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")  # nobody listens there
    built = firmware.build(SINE, boards.load(board), key="k")
    assert built.program.is_relative_to(build_folder)
    assert built.manifest.board == board
    assert built.flash_bytes > 0 and 0 < built.ram_bytes < boards.load(board).ram_bytes
    objects = {path: path.stat().st_mtime_ns for path in build_folder.rglob("*.o")}
    linked = built.program.stat().st_mtime_ns
    assert firmware.build(SINE, boards.load(board), key="k") == built
    assert objects and objects == {path: path.stat().st_mtime_ns for path in build_folder.rglob("*.o")}
    assert built.program.stat().st_mtime_ns == linked


def test_a_changed_generated_file_is_compiled_again(board: str, build_folder: Path, tmp_path: Path) -> None:
    experiment = tmp_path / "experiment.toml"
    experiment.write_text(SINE.read_text())
    before = firmware.build(experiment, boards.load(board), key="k")
    experiment.write_text(SINE.read_text().replace("units = 32", "units = 16"))
    after = firmware.build(experiment, boards.load(board), key="k")
    assert after.manifest.model_hash != before.manifest.model_hash
    assert after.ram_bytes < before.ram_bytes


def test_two_experiments_keep_their_own_programs(build_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(SINE.read_text().replace("units = 32", "units = 16"))
    first = firmware.build(SINE, boards.load("native"), key="a")
    kept = first.program.read_bytes()
    second = firmware.build(other, boards.load("native"), key="b")
    assert second.program != first.program
    assert first.program.read_bytes() == kept


def test_builds_of_one_key_at_the_same_time_wait_for_each_other(build_folder: Path) -> None:
    script = (
        "import sys, pathlib; from tinymetafed.devices import firmware; from tinymetafed_codegen import boards;"
        "print(firmware.build(pathlib.Path(sys.argv[1]), boards.load('native'), key='k').flash_bytes)"
    )
    command = [sys.executable, "-c", script, str(SINE)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    together = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(2)]
    said = [process.communicate()[0] for process in together]
    assert [process.returncode for process in together] == [0, 0]
    assert said[0] == said[1]


def test_the_sources_are_never_written(build_folder: Path) -> None:
    def snapshot() -> dict[Path, int]:
        places = [root() / "boards", root() / "firmware", root() / "platformio.ini"]
        files = [path for place in places for path in (place.rglob("*") if place.is_dir() else [place])]
        return {path: path.stat().st_mtime_ns for path in files if "__pycache__" not in path.parts}

    before = snapshot()
    firmware.build(SINE, boards.load("native"), key="k")
    assert snapshot() == before


def test_an_experiment_that_cannot_be_built_says_why(build_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text(SINE.read_text().replace("units = 32", "unitz = 32"))
    with pytest.raises(firmware.BuildError, match="unitz"):
        firmware.build(broken, boards.load("native"), key="k")


def test_a_missing_toolchain_is_named_with_its_package(
    build_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {tool.name for tool in boards.missing_tools("mps2")} >= {"arm-none-eabi-g++", "qemu-system-arm"}
    with pytest.raises(firmware.BuildError, match=r"arm-none-eabi-g\+\+.*apt install gcc-arm-none-eabi"):
        firmware.build(SINE, boards.load("mps2"), key="k")


@pytest.mark.parametrize("target", [[], ["-t", "upload"]])
def test_pio_run_says_what_is_missing_before_it_compiles(target: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "platformio", "run", "--project-dir", str(root()), "--environment", "mps2", *target]
    own = {f"PLATFORMIO_{name}_DIR": str(tmp_path / name.lower()) for name in ("CORE", "WORKSPACE")}
    done = subprocess.run(
        command,
        env=os.environ | own | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HUNG_SECONDS,
        check=False,
    )
    assert done.returncode != 0
    first, *summary = done.stderr.splitlines()
    assert re.fullmatch(r"Error: mps2: missing arm-none-eabi-g\+\+ .*; `sudo apt install gcc-arm-none-eabi .*`", first)
    assert not any("not found" in line or "Traceback" in line for line in summary)
    assert ("qemu-system-arm" in done.stderr) == bool(target)  # what only runs it is not asked for to build it
    assert "Compiling" not in done.stdout


def test_a_real_board_is_flashed_and_not_started(build_folder: Path) -> None:
    with pytest.raises(firmware.BuildError, match=r"firmware for nano33ble: .*`pio run -e nano33ble -t upload`"):
        firmware.build(SINE, boards.load("nano33ble"), key="k")
