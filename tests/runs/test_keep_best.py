"""run.keep = "best": the weights that do best on other held-out clients are kept, tested, exported and adapted."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from small_runs import SINE
from test_adapted import EXPERIMENT, write_data

import tinymetafed as tmf
from tinymetafed.learn.weights import sha256
from tinymetafed.runs import store

_LOSES_ITS_WEIGHTS = """
import numpy as np

from tinymetafed.learn.strategies import TinyMetaFed


class Loses(TinyMetaFed):
    \"\"\"Weights are 0 from round 100 on.\"\"\"

    def update(self, weights, deltas, round_):
        moved = super().update(weights, deltas, round_)
        return np.zeros_like(moved) if round_ >= 100 else moved
"""
KEYS = {"run.rounds": 160, "strategy.alpha_max": 0.8, "evaluation.tasks": 12, "evaluation.every": 20, "run.keep": "best"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("best")
    (made / "loses.py").write_text(_LOSES_ITS_WEIGHTS)
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> tmf.Run:
    settings = KEYS | {"strategy.kind": f"{folder / 'loses.py'}:Loses"}
    return tmf.simulate(tmf.load(SINE, settings), out=folder / "run", progress=False)


def test_the_best_weights_are_tested_and_exported(run: tmf.Run, tmp_path: Path) -> None:
    assert run.rounds == 160 and run.finished and run.result is not None
    scores = {int(at): after for at, after in zip(run.history.evaluated_after[:-1], run.history.after[:-1], strict=True)}
    assert set(scores) == set(range(20, 161, 20))  # the last round's weights are compared too
    best = min(scores, key=lambda at: (scores[at], at))
    assert run.kept_round == run.result.kept_round == best <= 100
    kept = run.data.best
    assert kept is not None and run.weights_sha256 == run.result.weights_sha256 == sha256(kept)
    assert kept.any() and not run.data.weights.any() and not run.result.collapsed
    with np.load(run.export(tmp_path / "w.npz")) as arrays:
        assert int(arrays["rounds"]) == best and arrays["dense1.bias"].any()
    assert f"after {best} rounds" in run.report().read_text(encoding="utf-8")


def test_a_run_that_keeps_improving_keeps_its_last_weights_and_resumes_the_same(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(progress: tmf.ProgressEvent) -> None:
        if progress.stage == "meta-training" and progress.done == 70:
            raise Stop

    experiment = tmf.load(SINE, KEYS)
    plain = tmf.simulate(tmf.load(SINE, KEYS | {"run.keep": "last"}), out=tmp_path / "plain", progress=False)
    clean = tmf.simulate(experiment, out=tmp_path / "clean", progress=False)
    assert np.array_equal(clean.data.weights, plain.data.weights)  # what is kept does not change the training
    with pytest.raises(Stop):
        tmf.simulate(experiment, out=tmp_path / "cut", progress=stop)
    again = tmf.resume(tmp_path / "cut", progress=False)
    assert again.weights_sha256 == clean.weights_sha256 and again.kept_round == clean.kept_round
    assert again.result is not None and clean.result is not None and again.result.meta_test == clean.result.meta_test


def test_weights_are_chosen_by_other_clients_than_those_tested(tmp_path: Path) -> None:
    write_data(tmp_path / "data", ("alice", "bob", "carol", "dave", "erin"))
    (tmp_path / "experiment.toml").write_text(EXPERIMENT.replace('"dave"', '"dave", "erin"'))
    settings = {"run.keep": "best", "evaluation.every": 20, "run.rounds": 40, "evaluation.every_tasks": 2}
    run = tmf.simulate(tmf.load(tmp_path / "experiment.toml", settings), out=tmp_path / "run", progress=False)
    assert run.result is not None and run.result.meta_test.n_clients == 2
    assert {run.result.meta_test.spread.best.task, run.result.meta_test.spread.worst.task} <= {
        f"{name}, split {split}" for name in ("carol", "dave") for split in (1, 2, 3)
    }
    assert [test.n_clients for test in run.data.evaluations] == [1, 1, 2]
    (tmp_path / "experiment.toml").write_text(EXPERIMENT.replace(', "dave"', ""))
    with pytest.raises(tmf.DataError, match=r"run.keep = 'best': there are no validation clients.*set task.validation"):
        tmf.simulate(tmf.load(tmp_path / "experiment.toml", settings), out=tmp_path / "one", progress=False)


def test_without_evaluations_nothing_can_be_compared() -> None:
    with pytest.raises(tmf.SpecError, match=r"run\.keep = 'best' needs evaluation\.every, .*; set evaluation\.every = 8"):
        tmf.load(SINE, KEYS | {"evaluation.every": 0})


def test_damaged_best_weights_are_found(run: tmf.Run, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "run.db").write_bytes((run.path / "run.db").read_bytes())
    for change in ("UPDATE best SET float32 = zeroblob(length(float32))", "UPDATE best SET round = 3", "DROP TABLE best"):
        with closing(sqlite3.connect(tmp_path / "copy" / "run.db", isolation_level=None)) as database:
            database.execute(change)
        with pytest.raises(tmf.StoreError, match="damaged: the best weights are not those after"):
            store.read_run(tmp_path / "copy")
