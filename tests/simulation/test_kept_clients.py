"""Clients that keep state between rounds need a board each, and a continued run reports the loss of that state."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import SINE, Quiet, sine

from tinymetafed.runs import rest_of_run, training
from tinymetafed.runs.setup import set_up
from tinymetafed_codegen.spec import SpecError

KEEPING = ("strategy.error_feedback=true", "model.local_start=kept", "evaluation.tasks=1")


class RecordingObserver(Quiet):
    """An observer that records events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def event(self, text: str) -> None:
        self.events.append(text)


def test_too_few_boards_are_refused_before_anything_is_built(tmp_path: Path) -> None:
    setup = set_up(sine(*KEEPING), str(SINE), None)
    with pytest.raises(SpecError, match=r"local_start = 'kept' and strategy\.error_feedback.*= 1000 and there are 3 boards"):
        training.train(setup, ["native:1", "native:2"], ["native:1"], tmp_path / "run", Quiet())
    assert not (tmp_path / "run").exists()


def test_local_weights_are_kept_only_where_layers_are_local(tmp_path: Path) -> None:
    assert set_up(sine("model.local_start=kept"), str(SINE), None).strategy.kept
    assert not set_up(sine("model.local_start=kept", "strategy.kind=reptile"), str(SINE), None).strategy.kept


def test_a_run_that_goes_on_says_that_nothing_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = set_up(sine(*KEEPING, "run.clients=2", "run.rounds=6"), str(SINE), None)
    whole = training.simulate(setup, 1, tmp_path / "whole", Quiet())
    genuine = rest_of_run.RestOfRun._write

    def stop(self: rest_of_run.RestOfRun, done: rest_of_run.Round) -> None:
        genuine(self, done)
        if done.index == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(rest_of_run.RestOfRun, "_write", stop)
    with pytest.raises(KeyboardInterrupt):
        training.simulate(setup, 1, tmp_path / "run", Quiet())
    monkeypatch.setattr(rest_of_run.RestOfRun, "_write", genuine)
    observer = RecordingObserver()
    continued = training.resume_simulated(tmp_path / "run", 1, observer)
    (said,) = observer.events
    assert "model.local_start = 'kept', strategy.error_feedback" in said and "stopped after 4 rounds" in said
    assert continued.weights_sha256 != whole.weights_sha256
