"""Meta-training learns: unseen clients adapt far better from the trained weights than from the initial ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_runs import DATA, OMNIGLOT, SINE, Quiet, needs_data, omniglot, sine

from tinymetafed.federation import meta_test as evaluate
from tinymetafed.federation import rounds as server
from tinymetafed.learn.weights import Floats, initial
from tinymetafed.runs import training
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed.simulation.kernels import open_kernels
from tinymetafed.simulation.simulated_clients import SimulatedClients
from tinymetafed_codegen import spec
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.spec import Experiment

DIGITS, PRESENCE = (find(f"examples/{name}.toml") for name in ("digits", "presence"))


class Trained:
    """An experiment simulated to its end; other tests show that devices give the same bits."""

    def __init__(self, experiment: Experiment, source: Path, data: Path | None = None) -> None:
        self._setup = set_up(experiment, str(source), data)
        self._clients = SimulatedClients(
            open_kernels(design_of(experiment, str(source)), 2), self._setup.strategy, self._setup.task
        )
        self.first = self.last = initial(self._setup.design.manifest, experiment.run.seed, experiment.model.init)
        for done in server.rounds(self._setup.strategy, self._setup.task, self._clients, self.first):
            self.last = done.weights

    def after(self, weights: Floats, tasks: int, count: int | None = None) -> float:
        """Mean score of unseen clients after adaptation from the trained weights."""
        return float(np.mean(self._test(weights, tasks, count).after))

    def before(self, weights: Floats, tasks: int) -> float:
        """Mean score of unseen clients before adaptation."""
        return float(np.mean(self._test(weights, tasks).before))

    def _test(self, weights: Floats, tasks: int, count: int | None = None) -> evaluate.MetaTest:
        return evaluate.meta_test(self._clients, self._setup.strategy, self._setup.task, weights, tasks, count)


def test_sine_at_p50_learns_in_a_thousand_rounds() -> None:
    runs = [Trained(sine(f"run.seed={seed}", "run.rounds=1000"), SINE) for seed in (1, 2, 3, 4, 5)]
    assert np.mean([run.after(run.last, 200) for run in runs]) <= 0.65
    assert np.mean([run.after(run.first, 200) for run in runs]) >= 3.5


def test_one_gradient_per_device_learns_far_less(tmp_path: Path) -> None:
    setup = set_up(sine("strategy.kind=fedsgd", "strategy.top_p=100", "run.rounds=1000"), str(SINE), None)
    scores = training.simulate(setup, 1, tmp_path / "run", Quiet()).meta_test
    assert 1.5 <= scores.after <= 3.5


@needs_data
def test_omniglot_learns_in_three_hundred_rounds() -> None:
    # The learning rate falls to 0 in a fifth of the usual rounds, so it starts higher.
    run = Trained(omniglot("run.rounds=300", "strategy.alpha_max=1.0"), OMNIGLOT, DATA)
    assert run.after(run.last, 50) >= max(0.86, run.after(run.first, 50) + 0.08)


@pytest.mark.skipif(not (DATA / "fsdd_recordings.zip").is_file(), reason=f"no fsdd_recordings.zip in {DATA}")
def test_digits_of_unseen_speakers_are_told_apart_after_two_hundred_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run = Trained(spec.load(DIGITS, ["run.rounds=200"]), DIGITS, DATA)
    assert run.after(run.last, 50, 8 * 4) >= 0.94
    assert run.after(run.last, 50, 1 * 4) >= max(0.8, run.after(run.first, 50, 1 * 4) + 0.1)


def test_presence_in_unseen_rooms_is_learned_in_three_hundred_rounds() -> None:
    run = Trained(spec.load(PRESENCE, ["run.rounds=300"]), PRESENCE)
    assert run.before(run.last, 100) <= 0.7
    assert run.after(run.last, 100) >= 0.84
