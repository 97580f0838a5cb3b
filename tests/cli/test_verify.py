"""The command verify: a run is repeated in a simulation; other weights are an error that names the first round."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import SINE, sine

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.federation.participation import Participation
from tinymetafed.runs import verification
from tinymetafed.runs.setup import set_up
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


@pytest.mark.parametrize(
    "settings",
    [
        ("strategy.schedule=linear", "strategy.average_last=0.5"),
        ("strategy.schedule=constant", "strategy.error_feedback=true", "strategy.top_p=20", "run.clients=2"),
    ],
)
def test_an_extended_run_is_repeated_with_the_rounds_and_the_state_of_each_session(
    tmp_path: Path, settings: Sequence[str]
) -> None:
    run = tmp_path / "run"
    tmf.simulate(tmf.load(find("examples/sine.toml"), [*FEW, *settings]), out=run, progress=False)
    for total in (5, 6):
        extended = tmf.resume(run, rounds=total, progress=False)
    found = extended.verify(threads=1, progress=False)
    assert found.same and found.rounds == 6 and found.simulated_sha256 == found.weights_sha256


@pytest.mark.parametrize(
    ("begun_on", "url", "store", "kept"),
    [
        (("native:2?store=here",), "native#1", "true", True),
        (("native:2",), "native#1", "true", False),
        (("native:2?store=here",), "native#1", "false", False),
        (("native:2?store=here",), "simulation", "true", False),
        ((), "native#1", "true", False),
        (("/dev/ttyACM0",), "/dev/ttyACM0", "true", True),
    ],
)
def test_state_is_kept_over_a_session_in_the_stores_of_boards_alone(
    begun_on: tuple[str, ...], url: str, store: str, kept: bool, tmp_path: Path
) -> None:
    setup = set_up(sine(*FEW, f"board.store={store}"), "sine", None)
    run = tmf.simulate(tmf.load(SINE, FEW), out=tmp_path / "run", progress=False).data
    begun = replace(run, header=replace(run.header, asked=replace(run.header.asked, devices=begun_on)))
    session = replace(run.sessions[0], devices=(replace(run.sessions[0].devices[0], url=url),))
    assert verification._have_stores(setup, begun, session) is kept


def test_nobody_takes_part_where_all_are_absent() -> None:
    skipped = Participation(None, {4: frozenset((1, 2))}).train(None, [1, 2], 4)  # type: ignore[arg-type]  # nobody is asked
    assert [(each.outcome, each.status) for each in skipped] == [(None, "skipped")] * 2
