"""Networks that ignore their input: a warning while a run trains, an error at its end, however often one looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import run_values
from small_runs import SINE, manifest

import tinymetafed as tmf
from tinymetafed.learn.weights import initial
from tinymetafed.runs import store
from tinymetafed_codegen import spec

_LOSES_ITS_WEIGHTS = """
import numpy as np

from tinymetafed.learn.strategies import TinyMetaFed


class Loses(TinyMetaFed):
    \"\"\"Weights are 0 from round 100 on, and from round {until} on as they were before.\"\"\"

    def update(self, weights, deltas, round_):
        moved = super().update(weights, deltas, round_)
        if round_ == 99:
            np.save("{folder}/kept.npy", moved)
        if round_ >= {until}:
            return np.load("{folder}/kept.npy")
        return np.zeros_like(moved) if round_ >= 100 else moved
"""


class Warnings:
    """Keeps the events of a run."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, progress: tmf.ProgressEvent) -> None:
        self.texts += [progress.event] if progress.event else []


def end(experiment: tmf.Experiment, folder: Path, said: Warnings) -> str:
    """Simulates an experiment; the text of its collapse, "" for none."""
    try:
        tmf.simulate(experiment, out=folder, progress=said)
    except tmf.Collapsed as collapse:
        return str(collapse)
    return ""


@pytest.mark.parametrize("every", [0, 7, 50])
def test_training_that_has_hardly_begun_goes_on(tmp_path: Path, every: int) -> None:
    settings = {"run.rounds": 100, "strategy.alpha_max": 1.0, "strategy.global_learning_rate": 0.5, "evaluation.tasks": 20}
    said = Warnings()
    collapse = end(tmf.load(SINE, settings | {"evaluation.every": every}), tmp_path / "run", said)
    assert "training collapsed: after 100 rounds" in collapse and "raise strategy.global_learning_rate" in collapse
    assert tmf.open_run(tmp_path / "run").finished
    assert len(said.texts) == bool(every)  # once, not after every evaluation
    for text in said.texts:
        assert text.startswith(f"after {every} rounds") and text.endswith("; training goes on")
        assert "raise strategy.global_learning_rate" in text and "lower strategy.global_learning_rate" in text


@pytest.mark.parametrize(("until", "collapses"), [(150, False), (1000, True)])
def test_a_run_lives_however_often_one_looks(tmp_path: Path, until: int, collapses: bool) -> None:
    file = tmp_path / "loses.py"
    file.write_text(_LOSES_ITS_WEIGHTS.format(until=until, folder=tmp_path))
    settings = {"strategy.kind": f"{file}:Loses", "strategy.alpha_max": 0.8, "run.rounds": 160, "evaluation.tasks": 30}
    weights = []
    for every in (0, 20, 50):
        said = Warnings()
        collapse = end(tmf.load(SINE, settings | {"evaluation.every": every}), tmp_path / f"every{every}", said)
        assert bool(collapse) is collapses
        weights.append(tmf.open_run(tmp_path / f"every{every}").weights_sha256)
        if every == 20:
            assert any("the score fell since round 100; lower" in text and "raise" not in text for text in said.texts)
            assert not collapses or "the score fell since round 100; lower strategy.global_learning_rate" in collapse
    assert len(set(weights)) == 1


def test_a_run_that_was_stopped_as_collapsed_by_an_earlier_version_is_continued(tmp_path: Path) -> None:
    begun = spec.load(SINE, ["run.rounds=30", "evaluation.tasks=20", "evaluation.every=10"])
    weights = initial(manifest(begun), begun.run.seed, begun.model.init)
    with store.create(tmp_path / "stopped", begun, manifest(begun), weights, run_values.ASKED) as run:
        run.append(run_values.evaluation(0, 4.5, constant=9, collapsed=True))
    whole = tmf.simulate(tmf.Experiment(begun, "sine.toml"), out=tmp_path / "whole", progress=False)
    continued = tmf.resume(tmp_path / "stopped", simulated=True, progress=False)
    assert continued.finished and continued.weights_sha256 == whole.weights_sha256
    assert np.isfinite(continued.history.after[-1])
