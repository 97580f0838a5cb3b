"""The page of the first ten minutes: its commands, in their order and as they stand there, lead to a library."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from test_docs import ROOT, commands, read
from typer.testing import CliRunner

from tinymetafed.cli import application
from tinymetafed.runs.store import read_run

PAGE = ROOT / "docs" / "start.md"
ELSEWHERE = ("make setup", ". .venv/bin/activate", "tinymetafed doctor")  # other tests run them


def test_the_commands_of_the_first_ten_minutes_lead_to_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = commands(read(PAGE))
    assert tuple(asked[: len(ELSEWHERE)]) == ELSEWHERE
    folder = tmp_path
    for command in asked[len(ELSEWHERE) :]:
        program, *arguments = shlex.split(command)
        monkeypatch.chdir(folder)
        if program == "cd":
            folder = folder / arguments[0]
            continue
        assert program == "tinymetafed"
        done = CliRunner().invoke(application(), arguments)
        assert done.exit_code == 0, f"{command}\n{done.output}"
    results = [read_run(folder / run).result for run in ("simulated", "trained")]
    assert all(results) and len({result.weights_sha256 for result in results if result}) == 1
    assert (folder / "simulated" / "report.html").stat().st_size > 10_000 and (folder / "comparison.html").is_file()
    assert (folder / "Gestures" / "library.properties").is_file()
