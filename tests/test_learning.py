"""Meta-training really learns: an unseen client ends far better from the trained initialisation than from the first one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_runs import DATA, OMNIGLOT, SINE, Quiet, needs_data, omniglot, sine

from tinymetafed import evaluate, runner, server
from tinymetafed.device import DeviceClients
from tinymetafed.learn.weights import Floats, initial
from tinymetafed.simulate import SimulatedClients
from tinymetafed.simulator import open_simulator
from tinymetafed_codegen import spec
from tinymetafed_codegen.locate import find

DIGITS, PRESENCE = (find(f"examples/{name}.toml") for name in ("digits", "presence"))


@pytest.mark.usefixtures("built_once")
def test_sine_at_p50_learns_in_a_thousand_rounds() -> None:
    trained, untrained = [], []
    with runner.running(sine(), str(SINE), ["native:1"], Quiet()) as fleet:
        for seed in (1, 2, 3, 4, 5):
            setup = runner.set_up(sine(f"run.seed={seed}", "run.rounds=1000"), str(SINE), None)
            clients = DeviceClients(fleet, setup.strategy, setup.task)
            first = weights = initial(setup.manifest, seed, setup.experiment.model.init)
            for done in server.rounds(setup.strategy, setup.task, clients, weights):
                weights = done.weights
            untrained.append(np.mean(evaluate.meta_test(clients, setup.strategy, setup.task, first, 200).after))
            trained.append(np.mean(evaluate.meta_test(clients, setup.strategy, setup.task, weights, 200).after))
    assert np.mean(trained) <= 0.65
    assert np.mean(untrained) >= 3.5


@pytest.mark.usefixtures("built_once")
def test_one_gradient_per_device_learns_far_less(tmp_path: Path) -> None:
    setup = runner.set_up(sine("strategy.kind=fedsgd", "strategy.top_p=100", "run.rounds=1000"), str(SINE), None)
    scores = runner.simulate(setup, 1, tmp_path / "run", Quiet())["meta_test"]
    assert 1.5 <= scores["after"] <= 3.5


@needs_data
@pytest.mark.usefixtures("built_once")
def test_omniglot_learns_in_three_hundred_rounds() -> None:
    # A schedule that falls to 0 in a fifth of the usual rounds has to start higher.
    setup = runner.set_up(omniglot("run.rounds=300", "strategy.alpha_max=1.0"), str(OMNIGLOT), DATA)
    first = weights = initial(setup.manifest, 1, setup.experiment.model.init)
    with runner.running(setup.experiment, str(OMNIGLOT), ["native:1"], Quiet()) as fleet:
        clients = DeviceClients(fleet, setup.strategy, setup.task)
        for done in server.rounds(setup.strategy, setup.task, clients, weights):
            weights = done.weights
        before = np.mean(evaluate.meta_test(clients, setup.strategy, setup.task, first, 50).after)
        after = np.mean(evaluate.meta_test(clients, setup.strategy, setup.task, weights, 50).after)
    assert after >= 0.86
    assert after >= before + 0.08


@pytest.mark.usefixtures("built_once")
@pytest.mark.skipif(not (DATA / "fsdd_recordings.zip").is_file(), reason=f"no fsdd_recordings.zip in {DATA}")
def test_digits_of_unseen_speakers_are_told_apart_after_two_hundred_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    setup = runner.set_up(spec.load(DIGITS, ["run.rounds=200"]), str(DIGITS), DATA)
    clients = SimulatedClients(open_simulator(setup.experiment, str(DIGITS), 2), setup.strategy, setup.task)
    first = weights = initial(setup.manifest, 1, setup.experiment.model.init)
    for done in server.rounds(setup.strategy, setup.task, clients, weights):
        weights = done.weights

    def accuracy(weights: Floats, shots: int) -> float:
        test = evaluate.meta_test(clients, setup.strategy, setup.task, weights, 50, shots * setup.task.output_size)
        return float(np.mean(test.after))

    assert accuracy(weights, 8) >= 0.94
    assert accuracy(weights, 1) >= max(0.8, accuracy(first, 1) + 0.1)


@pytest.mark.usefixtures("built_once")
def test_presence_in_unseen_rooms_is_learned_in_three_hundred_rounds() -> None:
    setup = runner.set_up(spec.load(PRESENCE, ["run.rounds=300"]), str(PRESENCE), None)
    clients = SimulatedClients(open_simulator(setup.experiment, str(PRESENCE), 2), setup.strategy, setup.task)
    weights = initial(setup.manifest, 1, setup.experiment.model.init)
    for done in server.rounds(setup.strategy, setup.task, clients, weights):
        weights = done.weights
    test = evaluate.meta_test(clients, setup.strategy, setup.task, weights, 100)
    assert np.mean(test.before) <= 0.7
    assert np.mean(test.after) >= 0.84
