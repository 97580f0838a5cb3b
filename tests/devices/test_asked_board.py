"""A running board is asked for its status and for predictions, over its line, by the API and the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clocks import HUNG_SECONDS
from small_runs import sine

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import open_transport
from tinymetafed.devices.running import build_firmware
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.learn.weights import initial
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen.protocol import Program

DESIGN = design_of(sine(), "sine")


@pytest.fixture
def line(built_once: None) -> Iterator[str]:
    """The pseudo-terminal of a process that runs the sine firmware."""
    program = build_firmware(DESIGN, "native").program
    words = [str(program), "--pty", "--exit-with-stdin", "--id", "0123456789abcdef"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        yield process.stdout.readline().removeprefix("pty ").strip()
        process.stdin.close()
        process.wait(HUNG_SECONDS)


def command(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["tinymetafed", *words])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert isinstance(done.value.code, int)
    return done.value.code


def test_a_board_is_asked(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fresh = tmf.board_status(line)
    assert (fresh.board, fresh.unique_id, fresh.state, fresh.learning) == ("native", "0123456789abcdef", "IDLE", None)
    with pytest.raises(tmf.LinkError, match="no weights since its start; train on it, or let it adapt"):
        tmf.board_predict(line, [0.5])

    strategy = open_strategy(DESIGN.experiment, DESIGN.manifest)
    x = np.array([[0.5], [-1.25]], np.float32)
    with open_transport(line) as transport:
        session = Session(transport)
        session.hello()
        session.configure(Program.TRAIN, strategy.training_recipe())
        session.load(1 << 20, strategy.download(initial(DESIGN.manifest, 1, "glorot")[: strategy.n_global]))
        wanted = session.predict(x, 1)
    assert tmf.board_predict(line, x).tobytes() == wanted.tobytes()
    assert tmf.board_status(line).state == "LOADED", "asking changes nothing"

    (tmp_path / "rows.csv").write_text("0.5\n-1.25\n")
    assert command("predict", line, "--csv", str(tmp_path / "rows.csv"), "--json", monkeypatch=monkeypatch) == 0
    assert np.array(json.loads(capsys.readouterr().out), np.float32).tobytes() == wanted.tobytes()
    assert command("predict", line, "--features", "0.5", monkeypatch=monkeypatch) == 0
    assert f"{wanted[0, 0]:.6g}" in capsys.readouterr().out
    assert command("status", line, "--json", monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["model_hash"] == DESIGN.manifest.model_hash
    assert command("status", line, monkeypatch=monkeypatch) == 0
    assert "nothing by itself" in capsys.readouterr().out
    for words, why in (
        (("--features", "0.5,1,2"), "its model takes 1 features, a sample here has 3"),
        (("--features", "nan"), "a feature is NaN or infinite"),
        (("--features", "a,b"), "expected numbers with commas"),
        (("--features", "1", "--features", "1,2"), "sample 2 has 2 features, the first has 1"),
        ((), "nothing to predict"),
    ):
        assert command("predict", line, *words, monkeypatch=monkeypatch) == 2
        assert why in " ".join(capsys.readouterr().err.split())


def test_processes_are_no_running_board() -> None:
    with pytest.raises(tmf.UsageError, match="'native:1': would start processes"):
        tmf.board_status("native:1")
