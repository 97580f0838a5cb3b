"""Fixtures of the command line's tests: the command in this process, a finished run, and a refused training."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import COMMAND, SHORT, Command, CommandResult
from small_runs import SINE

from tinymetafed import cli


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, built_once: None) -> Command:
    """``command("train", …)`` runs the installed entry point in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["tinymetafed", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        said = capsys.readouterr()
        return CommandResult(code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CommandResult]:
    """A short run of the installed command in a process of its own: its folder and its result."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    arguments = [COMMAND, "train", SINE, "--device", "native:2", "--out", folder, "--json", *SHORT]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=folder.parent)
    return folder, CommandResult(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def run_copy(finished: tuple[Path, CommandResult], tmp_path: Path) -> Path:
    """A copy of a finished run, which a test may damage."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))


@pytest.fixture
def refused(command: Command, tmp_path: Path) -> Callable[..., str]:
    """``refused(code, …)`` trains; asserts the exit code and that no file is left; returns the error's text."""

    def run(code: int, *arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        said = command("train", *arguments, "--test-device", "native:1", "--json", "--out", "run")
        assert said.code == code, said
        assert sorted(tmp_path.rglob("*")) == before
        return said.error

    return run
