"""Names of classes, clients, files and devices that look like markup are printed as they are."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from rich.text import Text
from typer.main import get_command

import tinymetafed as tmf
from tinymetafed import cli

ODD = ("[/b]", "[red]stop", ":smile:")


def run(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["tinymetafed", *words])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert isinstance(done.value.code, int)
    return done.value.code


def test_classes_of_a_board(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sensing = tmf.Sensing("OK", "", 9, 0.0, 1, 0, 0, 0, 0.5, 3)
    status = tmf.BoardStatus("dev[/]", "native", "00", "11", 1024, "IDLE", 0, None, ODD, sensing=sensing)
    monkeypatch.setattr(tmf, "board_status", lambda _, insecure: status)
    monkeypatch.setattr(tmf, "board_classes", lambda _, insecure: ODD)
    monkeypatch.setattr(tmf, "board_predict", lambda *_, insecure: np.eye(3, dtype=np.float32))
    assert run("status", "port", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    assert ", ".join(ODD) in said and "[/b], confidence" in said
    without = dataclasses.replace(status, sensing=dataclasses.replace(sensing, label=None))
    monkeypatch.setattr(tmf, "board_status", lambda _, insecure: without)
    assert run("status", "port", monkeypatch=monkeypatch) == 0
    assert "none: the board has had no weights since its start, or they have diverged" in " ".join(
        capsys.readouterr().out.split()
    )
    assert run("predict", "port", "--features", "1", monkeypatch=monkeypatch) == 0
    assert all(name in said for name in ODD)


def test_data_with_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "data [x]"
    folder.mkdir()
    for client in ("[anna]", "ben"):
        lines = [f"{i},{-i},{ODD[i % 3]}" for i in range(60)]
        (folder / f"{client}.csv").write_text("\n".join(["[/bold],:smile:x,what", *lines, ""]))
    assert run("check", str(folder), monkeypatch=monkeypatch) in (0, 1)
    said = capsys.readouterr().out
    assert all(name in said for name in (*ODD, "[anna]", "[/bold]", ":smile:x"))


def test_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("simulate", "--[/a]", monkeypatch=monkeypatch) == 2
    assert "[/a]" in capsys.readouterr().err
    assert run("simulate", "[/no].toml", monkeypatch=monkeypatch) != 0
    assert "[/no].toml" in capsys.readouterr().err


def helps(command: click.Command) -> Iterator[str]:
    """The help of a command, its options and its commands, as their authors wrote it."""
    yield from filter(None, (getattr(each, "help", None) for each in (command, *command.params)))
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from helps(each)


def test_helps_show_the_sections_that_they_name() -> None:
    """A section such as [augment] is no markup: markup is left out of what is printed."""
    texts = list(helps(get_command(cli.application())))
    assert len(texts) > 200 and any("\\[augment]" in text for text in texts)
    for text in texts:
        assert Text.from_markup(text).plain == text.replace("\\[", "[")
