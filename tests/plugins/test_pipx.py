"""`pipx install` of the wheel: the command works from there, with all that it needs from PyPI."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from installed_wheel import WheelVenv


def test_pipx_installs_a_command_that_trains(tmp_path: Path, wheel_venv: WheelVenv) -> None:
    (wheel,) = wheel_venv.folder.parent.glob("*.whl")
    venv.create(tmp_path / "tools", with_pip=True)
    python = tmp_path / "tools" / "bin" / "python"
    got = subprocess.run([python, "-m", "pip", "install", "-q", "pipx>=1.7,<2"], capture_output=True, text=True, check=False)
    if got.returncode != 0:
        pytest.skip(f"pipx cannot be installed here: {got.stderr[-300:]}")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TINYMETAFED", "XDG"))}
    places = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()

    def run(*words: object) -> str:
        asked = [str(word) for word in words]
        done = subprocess.run(asked, cwd=tmp_path, env=kept | places, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(python, "-m", "pipx", "install", "--python", sys.executable, wheel)
    command = tmp_path / "bin" / "tinymetafed"
    assert run(command, "--version").strip() in wheel.name
    run(command, "new", "mine")
    run(command, "simulate", "mine/experiment.toml", "--set", "run.rounds=2", "--set", "evaluation.tasks=2", "--out", "run")
    assert (tmp_path / "run" / "report.html").is_file()
