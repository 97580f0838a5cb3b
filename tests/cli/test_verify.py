"""The command verify: a run is repeated in a simulation; other weights are an error that names the first round."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tinymetafed import cli
from tinymetafed.federation.participation import Participation
from tinymetafed.runs import verification
from tinymetafed_codegen.locate import find

FEW = ("run.rounds=3", "run.devices_per_round=2", "evaluation.tasks=2", "evaluation.every=0")


def test_a_run_is_repeated_and_a_difference_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(*arguments: str) -> tuple[int | str | None, str]:
        monkeypatch.setattr(sys, "argv", ["tinymetafed", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().out

    run = str(tmp_path / "run")
    command("simulate", str(find("examples/sine.toml")), "--out", run, *(f"--set={setting}" for setting in FEW))
    code, out = command("verify", run)
    assert code == 0 and "the same weights in a simulation of all 3 rounds; sha256" in out
    monkeypatch.setattr(verification, "absences", lambda rounds: {1: frozenset(range(1000))})
    code, out = command("verify", run)
    assert code == 1 and "a simulation has other weights from round 1 on" in out
    code, out = command("verify", run, "--json")
    found = json.loads(out)
    assert code == 1 and found["same"] is False and found["differs"] == 1 and found["rounds"] == 3


def test_nobody_takes_part_where_all_are_absent() -> None:
    skipped = Participation(None, {4: frozenset((1, 2))}).train(None, [1, 2], 4)  # type: ignore[arg-type]  # nobody is asked
    assert [(each.outcome, each.status) for each in skipped] == [(None, "skipped")] * 2
