"""The commands top and live, and --live of commands that train: any width, any encoding, one JSON value, errors in words."""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from commands import Command
from small_runs import SINE
from test_docs import ROOT, commands, read
from watched_runs import BAD_NAME, make_run, status

from tinymetafed import cli
from tinymetafed.pages.page_server import LivePage
from tinymetafed.runs.run_status import write_status


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs: one trains, one has stopped, one is damaged."""
    write_status(make_run(tmp_path / "runs" / "a"), status())
    make_run(tmp_path / "runs" / "b")
    (tmp_path / "runs" / "damaged").mkdir()
    (tmp_path / "runs" / "damaged" / "run.db").write_text("no store")
    return tmp_path / "runs"


@pytest.mark.parametrize("width", [80, 60])
def test_top_fits_the_terminal(command: Command, runs: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for folder in (runs, runs / "a"):
        said = command("top", folder, "--once")
        assert said.code == 0 and max(map(len, said.out.splitlines())) <= width


def test_top_shows_what_each_run_does_and_names_the_damaged_one(command: Command, runs: Path) -> None:
    said = " ".join(command("top", runs, "--once").out.split())
    assert re.search(r"a +training +4 of 9 +1 ", said) and re.search(r"b +stopped +4 of 9", said)
    assert re.search("damaged +unreadable", said) and "run.db: " in said and "--resume" in said


def test_top_of_one_run_shows_its_boards_scores_bytes_and_events(command: Command, runs: Path) -> None:
    said = command("top", runs / "a").out  # no terminal: once
    assert "meta-training, 4 of 9" in said and "2: 2.000, 4: 1.000" in said and "28 % of dense float32" in said
    assert re.search("native#2 +away +native#2: no answer", said) and re.search(r"energy +.* J \(Arduino Nano 33 BLE\)", said)
    assert f"{BAD_NAME} lost" in said and f"{BAD_NAME}: not used: " in said


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_top_writes_any_encoding(runs: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["--once"], []):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
        monkeypatch.setattr(sys, "argv", ["tinymetafed", "top", str(runs / "a"), *arguments])
        with monkeypatch.context() as patched, pytest.raises(SystemExit) as end:
            patched.setattr(sys, "stdout", out)
            cli.main()
        assert not end.value.code and "meta-training, 4 of 9" in out.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def test_top_prints_json(command: Command, runs: Path) -> None:
    a, b, damaged = json.loads(command("top", runs, "--json").out)
    assert a["phase"] == "training" and a["status"]["boards"][1]["presence"] == "away" and a["boards"][0]["rounds"] == 8
    assert b["phase"] == "stopped" and b["status"] is None and b["bytes_down"] == 16_000
    assert damaged["phase"] == "unreadable" and "run.db" in damaged["problem"]


def test_live_says_where_the_page_is_and_what_other_addresses_mean(
    command: Command, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LivePage, "wait", lambda page: None)
    said = command("live", runs)
    assert said.code == 0 and "3 runs" in said.err and re.search(r"Live page: http://127\.0\.0\.1:\d+/", said.err)
    assert "password" not in said.err
    said = command("live", runs, "--at", "0.0.0.0")
    assert said.code == 0 and "without a password and unencrypted" in said.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("live", "absent"), "absent: not a folder"),
        (("top", "absent"), "absent: not a folder"),
        (("live", ".", "--at", "here:there"), "here:there: no address to serve at"),
        (("train", SINE, "--live-at", "99999"), "99999: no address to serve at"),
    ],
)
def test_mistakes_are_named(command: Command, arguments: tuple[object, ...], text: str) -> None:
    said = command(*arguments)
    assert said.code == 2 and text in said.err.replace("\n", " ")


def test_a_command_that_trains_serves_its_page(command: Command) -> None:
    said = command("simulate", SINE, "--set", "run.rounds=3", "--set", "evaluation.tasks=2", "--live", "--json")
    assert said.code == 0 and "Live page: http://127.0.0.1:" in said.err
    assert json.loads(said.out)["rounds"] == 3


def test_the_commands_of_the_page_work(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LivePage, "wait", lambda page: None)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    asked = commands(read(ROOT / "docs" / "live.md"))
    assert {each.split()[1] for each in asked} == {"train", "live", "top"}
    for each in asked:
        _, name, *arguments = shlex.split(each.replace("0.0.0.0:8765", "0.0.0.0"))  # the port may be taken
        short = ["--out", f"runs/sine{len(list(tmp_path.glob('runs/*'))) or ''}", "--set", "run.rounds=3"]
        said = command(name, *arguments, *([*short, "--set", "evaluation.tasks=2"] if name == "train" else []))
        assert said.code == 0, said.err
        assert "Live page: http://" in said.err or name == "top"
