"""The state of a run: from its store, and with what it says it is doing; damaged runs are named beside the others."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from run_values import DEVICE
from watched_runs import BAD_NAME, grow, make_run, status

import tinymetafed
from tinymetafed.federation.standing import BoardDeltas
from tinymetafed.learn.metric import Metric
from tinymetafed.pages import run_state, run_watch
from tinymetafed.pages.run_state import Phase, RunState, at_work
from tinymetafed.pages.run_watch import RunWatch
from tinymetafed.runs.run_status import write_status


def test_a_stopped_run_has_its_figures_and_says_how_to_continue(tmp_path: Path) -> None:
    (state,) = tinymetafed.run_states(make_run(tmp_path / "a"))
    assert (state.name, state.phase, state.rounds, state.planned) == ("a", Phase.STOPPED, 4, 9)
    assert state.problem == f"continue it with: tinymetafed train --resume {tmp_path / 'a'}"
    assert (state.metric, state.before, state.after, state.scored_after) == (Metric.MSE, 4.5, 1.0, 4)
    assert (state.bytes_down, state.bytes_up, state.retries, state.seconds) == (16_000, 4_000, 4, 8.0)
    assert state.bytes_dense == 2 * 4 * 1120 * 8  # down and up, float32, weights, client rounds
    assert state.of_dense == "28 % of dense float32"
    assert [(point.round, point.after) for point in state.curve] == [(2, 2.0), (4, 1.0)]
    assert [(line.url, line.rounds, line.state) for line in state.boards] == [(DEVICE.url, 8, None)]


def test_energy_is_that_of_a_client_round_times_their_number_and_the_nano_comes_first(tmp_path: Path) -> None:
    (state,) = tinymetafed.run_states(make_run(tmp_path / "a"))
    found = run_watch.look(tmp_path / "a").estimate
    assert found is not None
    nano = found.boards["nano33ble"]
    assert state.energy[0].board == nano.title and len(state.energy) == len(found.boards)
    assert state.energy[0].joules == (8 * nano.joules[0], 8 * nano.joules[1])
    assert nano.title in state.energy_text and " J " in state.energy_text


def test_a_training_run_says_what_its_boards_do(tmp_path: Path) -> None:
    write_status(make_run(tmp_path / "a"), status())
    (state,) = tinymetafed.run_states(tmp_path)
    assert state.phase is Phase.TRAINING and state.problem == "" and state.step == "meta-training, 4 of 9"
    assert [(line.url, line.rounds, line.doing) for line in state.boards] == [
        (DEVICE.url, 8, "client 7"),
        ("native#2", 0, "native#2: no answer"),
        (BAD_NAME, 0, "it sent 2 invalid updates"),
    ]
    assert state.outliers == (f"{BAD_NAME}: not used: it sent 2 invalid updates",)


def test_a_run_that_has_no_store_yet_is_starting(tmp_path: Path) -> None:
    write_status(tmp_path, status(stage="building firmware for mps2", done=0, total=0))
    (state,) = tinymetafed.run_states(tmp_path)
    assert state.phase is Phase.STARTING and state.step == "building firmware for mps2" and state.score == "–"


def test_a_file_of_a_killed_run_is_not_believed(tmp_path: Path) -> None:
    write_status(make_run(tmp_path), status(written=1.0))
    (state,) = tinymetafed.run_states(tmp_path)
    assert state.phase is Phase.STOPPED and state.status is None
    assert "--resume" in state.problem and "killed" in state.problem


def test_a_damaged_run_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    make_run(tmp_path / "whole")
    file = make_run(tmp_path / "sweep" / "runs" / "damaged") / "run.db"
    content = bytearray(file.read_bytes())
    content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
    file.write_bytes(content)
    (tmp_path / "notes").mkdir()
    damaged, whole = tinymetafed.run_states(tmp_path)
    assert damaged.phase is Phase.UNREADABLE and "damaged" in damaged.problem and str(file) in damaged.problem
    assert whole.phase is Phase.STOPPED and whole.rounds == 4


def test_a_store_is_read_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b")
    read: list[str] = []
    genuine = run_watch.read_run
    monkeypatch.setattr(run_watch, "read_run", lambda path: (read.append(path.name), genuine(path))[1])
    watch = RunWatch(tmp_path)
    for _ in range(3):
        watch.states()
    write_status(tmp_path / "a", status())
    assert watch.states()["a"].phase is Phase.TRAINING
    assert read == ["a", "b"]
    grow(tmp_path / "b")
    assert watch.states()["b"].rounds == 5 and read == ["a", "b", "b"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"aside": "its deltas point in another direction"}, "set aside: its deltas point in another direction"),
        ({"norm_median": 9.0}, "its deltas are typically 9 times as long as the median"),
        ({"norm_median": 9.0, "rounds": 2}, ""),  # too few to say so
    ],
)
def test_boards_that_stand_out_are_named(changes: dict[str, object], said: str) -> None:
    usual = [BoardDeltas(f"0{board}", 20, 1.0, 1.5, 0.8, 0, 0) for board in range(3)]
    suspect = replace(usual[0], **changes)  # type: ignore[arg-type]
    assert run_state._unusual(suspect, [suspect, *usual]) == said
    assert run_state._unusual(suspect, [suspect]) == (said if suspect.aside else "")


def test_a_run_that_cannot_be_read_stays_so_whatever_it_says() -> None:
    broken = RunState("a", "a", Phase.UNREADABLE, problem="damaged")
    said = status()
    assert at_work(broken, said, said.written) == broken


def test_a_folder_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(tinymetafed.UsageError, match="not a folder"):
        tinymetafed.run_states(tmp_path / "absent")
    assert tinymetafed.run_states(tmp_path) == []
