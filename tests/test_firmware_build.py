"""Firmware builds: offline, of changed files only, separate for each experiment, and with errors that name the remedy."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clocks import HUNG_SECONDS
from small_runs import sine

from tinymetafed.devices import firmware
from tinymetafed.devices.running import build_firmware
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen import emit
from tinymetafed_codegen.board import board_key, board_requirements, boards
from tinymetafed_codegen.locate import find, root
from tinymetafed_codegen.toolchain import BOARD_KEY_VARIABLE

SINE = find("examples/sine.toml")


@pytest.fixture
def build_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for builds with an empty core directory of PlatformIO in it."""
    monkeypatch.setenv("TINYMETAFED_BUILD_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture(params=["native", "mps2", "esp32isa"])  # the host's compiler, another one with a linker script, and LLVM
def board(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if lacking := [tool for tool in boards.missing_tools(name) if tool.to_build]:
        pytest.skip(f"{lacking[0].name} is not installed: {board_requirements.remedy(lacking)}")
    return name


def test_builds_without_a_network_and_then_only_what_changed(
    board: str, build_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")  # no server listens there
    experiment = tmp_path / "experiment.toml"
    experiment.write_text(SINE.read_text())
    built = firmware.build(experiment, boards.load(board), key="k")
    assert built.program.is_relative_to(build_folder)
    assert built.manifest.board == board
    assert built.flash_bytes > 0 and 0 < built.ram_bytes < boards.load(board).ram_bytes
    objects = {path: path.stat().st_mtime_ns for path in build_folder.rglob("*.o")}
    linked = built.program.stat().st_mtime_ns
    assert firmware.build(experiment, boards.load(board), key="k") == built
    assert objects and objects == {path: path.stat().st_mtime_ns for path in build_folder.rglob("*.o")}
    assert built.program.stat().st_mtime_ns == linked
    # A changed generated file is compiled again.
    experiment.write_text(SINE.read_text().replace("units = 32", "units = 16"))
    after = firmware.build(experiment, boards.load(board), key="k")
    assert after.manifest.model_hash != built.manifest.model_hash
    assert after.ram_bytes < built.ram_bytes


def test_models_share_object_files(build_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = ("strategy.downlink=f16",), ("strategy.downlink=f32", "strategy.uplink=i4")  # with more generated headers
    design, other = (design_of(sine(*keys), "test") for keys in changes)
    assert set(emit.headers(other, "test")) > set(emit.headers(design, "test"))
    first = build_firmware(design, "native")
    kept = first.program.read_bytes()
    stored = objects_in(build_folder / "objects")
    second = build_firmware(other, "native")
    assert second.program != first.program
    assert first.program.read_bytes() == kept
    made = objects_in(second.program.parent)
    assert made["crc32.o"] in stored.values() and made["learner.o"] not in stored.values()
    assert list(objects_in(build_folder / "objects").values()).count(made["crc32.o"]) == 1, "it was compiled again"
    measuring = build_firmware(design_of(sine("board.measures=true"), "test"), "native")  # measures.cpp asks for a header
    assert objects_in(measuring.program.parent)["measures.o"] != made["measures.o"]
    monkeypatch.setenv("TINYMETAFED_BUILD_DIR", str(build_folder / "alone"))  # without the object files of the first
    assert build_firmware(other, "native").program.read_bytes() == second.program.read_bytes()


def objects_in(folder: Path) -> dict[str, bytes]:
    """The files below a folder by name."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_experiments_keep_their_own_programs_and_show_no_key(
    build_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(SINE.read_text().replace("units = 32", "units = 16").replace("[run]", '[run]\nsecurity = "authenticated"'))
    first = firmware.build(SINE, boards.load("native"), key="a")
    kept = first.program.read_bytes()
    header = tmp_path / "kitchen.hpp"
    header.write_text(board_key.header("kitchen", "aa", bytes(range(1, 33))))
    monkeypatch.setenv(BOARD_KEY_VARIABLE, str(header))
    second = firmware.build(other, boards.load("native"), key="b")
    assert second.program != first.program
    assert first.program.read_bytes() == kept
    # The key is compiled in: only the owner may read what has it.
    with_key = [path for path in build_folder.rglob("*") if path.is_file() and bytes(range(1, 33)) in path.read_bytes()]
    assert second.program in with_key and {path.suffix for path in with_key} > {".o"}
    assert not any(path.stat().st_mode & 0o077 for path in with_key)
    assert not any(path.is_relative_to(build_folder / "objects") for path in with_key)


def test_builds_of_one_key_at_the_same_time_wait_for_each_other(build_folder: Path) -> None:
    script = (
        "import sys, pathlib; from tinymetafed.devices import firmware; from tinymetafed_codegen.board import boards;"
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
        return {path: path.stat().st_mtime_ns for path in files if path.is_file() and "__pycache__" not in path.parts}

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
    assert ("qemu-system-arm" in done.stderr) == bool(target)  # an emulator is not needed to build
    assert "Compiling" not in done.stdout


def test_a_real_board_is_flashed_and_not_started(build_folder: Path) -> None:
    with pytest.raises(firmware.BuildError, match=r"firmware for nano33ble: .*`pio run -e nano33ble -t upload`"):
        firmware.build(SINE, boards.load("nano33ble"), key="k")


# The packages of real boards, which PlatformIO downloads


def pio_without_network(board: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`pio run -e BOARD` with the packages in ``folder`` alone: the proxies that it may use are not there."""
    proxies = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    own = {f"PLATFORMIO_{name}_DIR": str(folder / name.lower()) for name in ("CORE", "WORKSPACE")}
    return subprocess.run(
        [sys.executable, "-m", "platformio", "run", "--project-dir", str(root()), "--environment", board],
        env=os.environ | proxies | {name.upper(): proxy for name, proxy in proxies.items()} | own,
        capture_output=True,
        text=True,
        timeout=HUNG_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    ("board", "packages"),
    [
        ("nano33ble", ["platformio/nordicnrf52 @ 10.11.0", "framework-arduino-mbed", "toolchain-gccarmnoneeabi"]),
        ("esp32dev", ["platformio/espressif32 @ 6.13.0", "framework-arduinoespressif32", "toolchain-xtensa-esp32"]),
    ],
)
def test_a_real_board_without_a_network_says_what_is_missing_and_from_where(
    board: str, packages: list[str], tmp_path: Path
) -> None:
    done = pio_without_network(board, tmp_path)
    assert done.returncode != 0
    (said,) = [line for line in done.stderr.splitlines() if line]
    assert said.startswith("PackagesMissing: missing ") and all(package in said for package in packages)
    assert "does not reach registry.platformio.org; connect it" in said and f"copy {tmp_path / 'core'} from a machine" in said


def test_a_vendors_platform_is_used_as_it_is_once_it_is_there(tmp_path: Path) -> None:
    """A stand-in for the vendor's platform and its packages, in PlatformIO's folder as after a download."""
    core = tmp_path / "core"
    platform = core / "platforms" / "nordicnrf52"
    (platform / "builder").mkdir(parents=True)
    (platform / "builder" / "main.py").write_text(
        "from SCons.Script import DefaultEnvironment\n"
        "env = DefaultEnvironment()\n"
        "print('BUILDS', env.BoardConfig().id, 'BY', env.PioPlatform().get_dir())\n"
    )
    needs = {"toolchain-gccarmnoneeabi": "1.90201.191206", "framework-arduino-mbed": "4.5.0", "tool-scons": "*"}
    facts = {
        "description": "x",
        "license": "MIT",
        "packages": {n: {"owner": "platformio", "version": v} for n, v in needs.items()},
    }
    installed(platform, "platform", "nordicnrf52", "10.11.0", "platform.json", facts)
    done = pio_without_network("nano33ble", tmp_path)
    said = done.stderr.strip()
    assert done.returncode != 0 and said.startswith("PackagesMissing: missing ") and "\n" not in said
    assert "platformio/toolchain-gccarmnoneeabi @ 1.90201.191206" in said and "framework-arduino-mbed @ 4.5.0" in said
    assert "nordicnrf52" not in said
    for name, version in needs.items():
        if name != "tool-scons":
            installed(core / "packages" / name, "tool", name, version, "package.json", {"system": "*"})
    shutil.copytree(root() / "boards" / "tool-scons", core / "packages" / "tool-scons")
    done = pio_without_network("nano33ble", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"BUILDS nano33ble BY {platform}" in done.stdout


def installed(folder: Path, kind: str, name: str, version: str, manifest: str, facts: dict[str, object]) -> None:
    """Makes a package of PlatformIO's registry as it is after its installation."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / manifest).write_text(json.dumps({"name": name, "version": version} | facts))
    spec = {"owner": "platformio", "id": None, "name": name, "requirements": None, "uri": None}
    (folder / ".piopm").write_text(json.dumps({"type": kind, "name": name, "version": version, "spec": spec}))


def test_a_build_with_given_files_does_not_wait_for_the_experiments_checks_to_be_imported() -> None:
    (line,) = re.findall(r"(?m)^from tinymetafed_codegen import .*$", find("boards/generate.py").read_text())
    script = f"{line}\nimport sys; print([name for name in sys.modules if name in ('pydantic', 'jinja2', 'numpy')])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"
