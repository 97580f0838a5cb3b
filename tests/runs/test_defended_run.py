"""Runs with a defence: resumed and on boards they end in the weights of the simulation; the deltas of boards are reported."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import SINE, Quiet

import tinymetafed as tmf
from tinymetafed.devices import client_program, launch
from tinymetafed.devices.client_program import ClientResult
from tinymetafed.devices.link.session import Session
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.runs import store
from tinymetafed.runs.device_site import OnDevices
from tinymetafed.runs.setup import set_up
from tinymetafed_codegen.spec import load

pytestmark = pytest.mark.usefixtures("built_once")
SHORT = {"run.rounds": 14, "evaluation.tasks": 4, "evaluation.every": 0, "strategy.defence_bound": 1.0}
SEVERAL = SHORT | {"run.devices_per_round": 5}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("simulated")
    return {
        defence: tmf.simulate(
            tmf.load(SINE, SEVERAL | {"strategy.defence": defence}), out=folder / defence, progress=False
        ).weights_sha256
        for defence in ("none", "bound", "trimmed", "krum")
    }


def test_every_defence_changes_the_weights(simulated: dict[str, str]) -> None:
    assert len(set(simulated.values())) == len(simulated)


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    ("urls", "share", "warned"), [(["native:2"], 0.1, True), (["native:3"], 0.1, False), (["native:1"], 0, False)]
)
def test_too_few_boards_to_audit_are_told(urls: list[str], share: float, warned: bool) -> None:
    events: list[str] = []

    class Stopping(Quiet):
        def event(self, text: str) -> None:
            events.append(text)

        def stage(self, text: str, total: int | None = None) -> None:
            raise Stop

    chosen = load(SINE, [f"strategy.audit={share}"])
    with pytest.raises(Stop), OnDevices(urls, ["native:1"]).open(set_up(chosen, "sine", None), Stopping()):
        pass
    assert [text for text in events if "strategy.audit = 0.1" in text and "--device for 3" in text] == (
        events if warned else []
    )
    assert len(events) == warned


@pytest.mark.parametrize("stop", [1, 8])
def test_a_resumed_run_ends_in_the_same_weights(stop: int, simulated: dict[str, str], tmp_path: Path) -> None:
    def interrupt(progress: tmf.ProgressEvent) -> None:
        if progress.stage == "meta-training" and progress.done == stop:
            raise Stop

    chosen = tmf.load(SINE, SEVERAL | {"strategy.defence": "bound"})
    with pytest.raises(Stop):
        tmf.simulate(chosen, out=tmp_path / "run", progress=interrupt)
    assert tmf.resume(tmp_path / "run", progress=False).weights_sha256 == simulated["bound"]


@pytest.fixture(scope="module")
def on_boards(tmp_path_factory: pytest.TempPathFactory) -> tmf.Run:
    chosen = tmf.load(SINE, SEVERAL | {"strategy.defence": "bound", "strategy.audit": 0.5})
    out = tmp_path_factory.mktemp("boards") / "run"
    return tmf.train(chosen, ["native:3"], test_device="native:1", out=out, progress=False)


def test_boards_end_in_the_weights_of_the_simulation(on_boards: tmf.Run, simulated: dict[str, str]) -> None:
    assert on_boards.weights_sha256 == simulated["bound"]


def test_the_result_and_the_page_have_the_deltas_of_each_board(on_boards: tmf.Run) -> None:
    assert on_boards.result is not None
    found = json.loads(json.dumps(on_boards.result.as_json()))["deltas"]
    assert sum(board["rounds"] for board in found) == 14 * 5
    assert {board["board"] for board in found} == {device.unique_id for device in on_boards.result.devices if device.rounds}
    measures = [measure for contributed in store.read_run(on_boards.path).measures() for _, measure in contributed]
    assert sum(board["shortened"] for board in found) == sum(measure.weight < 1 for measure in measures) > 0
    page = on_boards.report().read_text(encoding="utf-8")
    (table,) = re.findall(r"<h2>Deltas by board</h2>.*?</section>", page, re.DOTALL)
    assert "norms and cosines of each board" in table
    for board in found:
        assert board["board"] in table and f"{board['cosine']:+.2f}" in table


def test_a_simulation_has_no_boards_to_report(tmp_path: Path) -> None:
    run = tmf.simulate(tmf.load(SINE, SHORT), out=tmp_path / "run", progress=False)
    assert run.result is not None and "deltas" not in run.result.as_json()
    assert "Deltas by board" not in run.report().read_text(encoding="utf-8")
    assert all(part.measure is None for entry in store.read_run(run.path).rounds for part in entry.contributions)


def first_board_sends(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first board's deltas are the honest ones times a factor."""
    federate = client_program.federate

    def lie(session: Session, *asked: Any) -> ClientResult:
        done = federate(session, *asked)
        if session.name != "native#1":
            return done
        return replace(done, delta=Sparse(done.delta.indices, done.delta.values * np.float32(factor)))

    monkeypatch.setattr(client_program, "federate", lie)


def test_a_board_that_flips_signs_is_excluded_by_audits_and_no_lie_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its deltas are as long as honest ones; only other boards' bits tell."""
    chosen = tmf.load(SINE, SHORT | {"strategy.defence": "bound", "strategy.audit": 0.1})
    honest = tmf.simulate(chosen, out=tmp_path / "honest", progress=False)
    first_board_sends(-1, monkeypatch)
    said: list[str] = []
    run = tmf.train(
        chosen,
        ["native:3"],
        test_device="native:1",
        out=tmp_path / "run",
        progress=lambda progress: said.append(progress.event),
    )
    assert run.weights_sha256 == honest.weights_sha256
    assert any("native#1; not used any more, because other boards contradicted its results" in line for line in said)


def test_a_board_that_stands_out_is_set_aside_for_the_rest_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first_board_sends(100, monkeypatch)
    chosen = tmf.load(SINE, SHORT | {"run.rounds": 24, "strategy.defence": "bound"})
    said: list[str] = []
    options: dict[str, Any] = {"test_device": "native:1", "progress": lambda progress: said.append(progress.event)}
    monkeypatch.setattr(launch, "_process_numbers", itertools.count(1))
    run = tmf.train(chosen, ["native:4"], out=tmp_path / "run", **options)
    word = "native#1: its deltas are typically "
    assert len([line for line in said if line.startswith(word) and "it stands out from the others" in line]) == 1
    assert run.result is not None
    (aside,) = [board for board in run.result.deltas if board.aside]
    assert aside.norm_median > 50 and aside.rounds == aside.left_out < 10
    assert aside.aside in run.report().read_text(encoding="utf-8")
    said.clear()
    monkeypatch.setattr(launch, "_process_numbers", itertools.count(1))  # the boards are there again, with the same ids
    longer = tmf.resume(run.path, rounds=28, devices=["native:4"], **options)
    assert len([line for line in said if line.startswith(word)]) == 1, "a resumed run does not use it either"
    assert longer.result is not None
    assert {board.board: board.rounds for board in longer.result.deltas}[aside.board] == aside.rounds


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["strategy.defence=krum"], "needs 5 clients"),
        (["strategy.defence=trimmed", "run.devices_per_round=2"], "needs 3 clients"),
        (["strategy.defence=krum", "strategy.defence_liars=0.4", "run.devices_per_round=10"], "needs 11 clients"),
        (["strategy.audit=0.1", "strategy.error_feedback=true"], r"strategy\.error_feedback.*leave strategy\.audit out"),
        (["strategy.audit=0.1", "privacy.clip=1.0", "privacy.noise=1.0"], r"privacy\.noise honest boards differ"),
        (["strategy.defence=median"], r"strategy\.defence"),
        (["strategy.defence_liars=0.5"], r"strategy\.defence_liars"),
    ],
)
def test_a_defence_that_cannot_work_is_refused_by_its_key(options: list[str], expected: str) -> None:
    with pytest.raises(tmf.SpecError, match=expected):
        load(SINE, options)
