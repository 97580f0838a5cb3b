"""What commands write: paths as they are, in any encoding, without control characters; signals end a command as Ctrl-C does."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from rich.table import Table
from typer.testing import CliRunner

import tinymetafed
from tinymetafed import __main__ as command
from tinymetafed import cli
from tinymetafed.api import progress
from tinymetafed.devices.link.record import Recorder
from tinymetafed.projects.doctor import Finding

HARMFUL = "\x1b]0;title\x07 \x1b[2J \r over \x9b31m \u202ereversed \udce4"


class Said(io.TextIOWrapper):
    """A stream of one encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    @property
    def text(self) -> str:
        content = self.buffer.getvalue()  # type: ignore[attr-defined]
        return str(content.decode(self.encoding))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object, encoding: str = "utf-8") -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    out, err = Said(encoding), Said(encoding)
    monkeypatch.setattr(sys, "argv", ["tinymetafed", *map(str, arguments)])
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as end:
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", err)
        cli.main()
    assert isinstance(end.value.code, int)
    return end.value.code, out.text, err.text


@pytest.mark.parametrize("name", ["runs [old]", "a[/b]", "[bold]x", ":smile:", "100 [red]%[/red]", "l\u00e4uft"])
def test_a_path_is_printed_as_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    code, out, err = run(monkeypatch, "new", name)
    assert code == 0, err
    assert out.startswith(f"{name}: experiment.toml")
    code, _, err = run(monkeypatch, "new", name)
    assert code == 2 and f"{name}: " in err and "Traceback" not in err
    assert name in run(monkeypatch, "report", tmp_path / name / "absent")[2].replace("\n", "")


def test_tables_stages_and_usage_errors_have_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(title="[red]title")
    table.add_column("[/b]")
    table.add_row("a[/b]", f"x{HARMFUL}")
    tinymetafed.Terminal().print(table)
    lines = progress.Lines()
    for tell in (lines.stage, lines.note, lines.event):
        tell(f"starting [/x] {HARMFUL}")
    said = capsys.readouterr()
    assert all(text in said.out for text in ("[red]title", "[/b]", "a[/b]"))
    assert said.err.count("starting [/x]") == 3
    for text in (said.out, said.err):
        assert "\\x1b" in text and not set(text) & set("\x1b\x07\r\x9b\u202e\udce4")
    assert run(monkeypatch, "train", "x.toml", "--threads", "[/b]")[0] == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_encoding_can_be_written(encoding: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    if encoding == "ascii":
        code, out, _ = run(monkeypatch, "doctor", encoding=encoding)
        assert code == 0 and "Python" in out
    code, out, _ = run(monkeypatch, "--help", encoding=encoding)
    assert code == 0 and "train" in out
    code, out, _ = run(monkeypatch, "new", "\u4e2d\u2013\u00e4", encoding=encoding)
    assert code == 0 and ("\u4e2d" in out if encoding == "utf-8" else "\\u4e2d" in out)


def test_an_address_in_a_narrow_table_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "https://example.org/" + "/".join(f"part{i}" for i in range(20))
    finding = Finding("Emulators", "renode", False, "not found", f"get it from {address}")
    monkeypatch.setattr(tinymetafed, "examine", lambda: [finding])
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run(monkeypatch, "doctor")
    lines = [line.split("\u2502")[-2].strip() for line in out.splitlines() if "\u2502" in line]
    assert address in "".join(lines)


def test_a_recording_cannot_control_the_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "line.record"
    with Recorder(file) as recorder:
        recorder.note("board", ">", b"\x01\x02\0")
    with file.open("a", encoding="utf-8") as recording:
        for direction in (">", HARMFUL):
            recording.write(json.dumps([1, f"x{HARMFUL}", direction, "010200"]) + "\n")
    code, out, _ = run(monkeypatch, "monitor", file)
    assert code == 0 and "\\x1b]0;title" in out and not set(out) & set("\x1b\x07\r\x9b\u202e")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_ends_a_command_as_ctrl_c_does(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}

    def interrupted() -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path):
            try:
                os.kill(os.getpid(), getattr(signal, name))
                pytest.fail("the command goes on")
            finally:
                if name != "SIGINT":  # the terminal and the shell both say that the terminal closes
                    os.kill(os.getpid(), getattr(signal, name))

    monkeypatch.setattr(tinymetafed, "examine", interrupted, raising=False)
    code, _, err = run(monkeypatch, "doctor")
    assert code == 130 and "Interrupted." in err
    assert not list(tmp_path.iterdir())
    assert {each: signal.getsignal(each) for each in before} == before


def test_a_signal_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(tinymetafed, "examine", lambda: os.kill(os.getpid(), signal.SIGHUP) or [], raising=False)
        assert run(monkeypatch, "doctor")[0] == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_shell_completes_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TINYMETAFED_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "tinymetafed sim")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert CliRunner().invoke(cli.application(), [], prog_name="tinymetafed").output.split() == ["simulate"]


def test_ctrl_c_that_a_library_makes_an_error_of_its_own_ends_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """As pydantic does while it builds a model."""

    def interrupted() -> None:
        raise RuntimeError("Error building `literal` serializer:\n  KeyboardInterrupt: ")

    monkeypatch.setattr(tinymetafed, "examine", interrupted, raising=False)
    code, _, err = run(monkeypatch, "doctor")
    assert code == 130 and err == "Interrupted.\n"


def test_ctrl_c_ends_a_command_that_is_still_being_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "tinymetafed.cli":
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        for name in [each for each in sys.modules if each.startswith("tinymetafed.cli")]:
            patched.delitem(sys.modules, name)
        patched.delattr(tinymetafed, "cli")
        patched.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
        with pytest.raises(SystemExit) as end:
            command.main()
    assert end.value.code == 130 and capsys.readouterr().err == "Interrupted.\n"
