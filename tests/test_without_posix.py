"""The host needs nothing of POSIX: commands in a process that lacks what Windows lacks, firmware by a compiler for Windows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import needs_board, sine

import tinymetafed as tmf
from tinymetafed.devices.device_urls import parse
from tinymetafed.devices.launch import require
from tinymetafed.devices.link.link_errors import LaunchError
from tinymetafed_codegen import emit
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.board.board_requirements import remedy
from tinymetafed_codegen.design import design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.toolchain import compiler_flags

SHORT = ("--set", "run.rounds=3", "--set", "evaluation.tasks=2", "--set", "evaluation.every=0", "--json")
WINDOWS = "x86_64-w64-mingw32-g++-posix"


def run(*arguments: str, cwd: Path) -> str:
    program = Path(__file__).parent / "like_windows.py"
    done = subprocess.run([sys.executable, str(program), *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_board("native")
def test_a_run_on_native_boards_has_the_weights_of_a_simulation(tmp_path: Path) -> None:
    file = str(find("examples/sine.toml"))
    trained = json.loads(run("train", file, "-d", "native:2", *SHORT, "--out", "trained", cwd=tmp_path))
    assert trained["devices"][0]["url"].startswith("native#") and trained["devices"][0]["rounds"] > 0
    simulated = json.loads(run("simulate", file, *SHORT, "--out", "simulated", cwd=tmp_path))
    assert simulated["weights_sha256"] == trained["weights_sha256"]
    experiment = tmf.load(file, set={"run.rounds": 3, "evaluation.tasks": 2, "evaluation.every": 0})
    here = tmf.simulate(experiment, out=tmp_path / "here", progress=False)
    assert here.weights_sha256 == trained["weights_sha256"]
    run("report", "trained", cwd=tmp_path)
    run("export", "trained", "-o", "weights.npz", cwd=tmp_path)
    assert (tmp_path / "weights.npz").stat().st_size > 0


def test_devices_that_need_a_pseudo_terminal_are_refused_there(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = parse(["native:1?line=tcp", "native:1?line=pty"])
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(LaunchError, match=r"'native:1\?line=pty': needs pseudo-terminals, which Windows does not have"):
        require(specs)


@pytest.mark.parametrize(("system", "says"), [("linux", "apt install g"), ("darwin", "xcode-select"), ("win32", "MinGW-w64")])
def test_what_is_missing_is_installed_as_on_each_system(system: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert says in remedy(boards.load("native").requirements)


def test_the_native_firmware_compiles_for_windows(tmp_path: Path) -> None:
    if shutil.which(WINDOWS) is None:
        pytest.skip(f"{WINDOWS} is not installed (Debian's package g++-mingw-w64-x86-64-posix)")
    board = boards.load("native")
    made = design(sine("run.security=authenticated", "board.measures=true"), board, "test")
    emit.write(made, tmp_path, "pytest")
    firmware = find("firmware")
    files = [*firmware.glob("core/*.cpp"), *firmware.glob("port/native/*.cpp"), firmware / "app" / "main.cpp"]
    files.append(firmware / "app" / f"source_{made.manifest.sample_source}.cpp")
    folders = [f"-I{folder}" for folder in (tmp_path, firmware / "core", firmware / "app")]
    command = [WINDOWS, "-fsyntax-only", *compiler_flags(), *folders, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
