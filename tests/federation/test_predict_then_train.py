"""A client that learns from a stream is scored on each sample before it trains on it, in the simulation and on devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_runs import SINE, Quiet, sine

from tinymetafed.federation.predict_then_train import is_online
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.learn.weights import initial
from tinymetafed.runs import report, training
from tinymetafed.runs.setup import Setup, design_of, set_up
from tinymetafed.runs.store import read_run
from tinymetafed_codegen.protocol import SampleSet

TINYOL = ("strategy.kind=tinyol", "strategy.downlink=f16", "evaluation.tasks=3")


def setup(*keys: str) -> Setup:
    return set_up(sine(*TINYOL, *keys), str(SINE), None)


def expected(made: Setup, rate: float) -> list[float]:
    """Squared errors of the first unseen clients by a few lines of NumPy: the last layer, one step per sample."""
    experiment, manifest = made.experiment, made.design.manifest
    weights = initial(manifest, experiment.run.seed, experiment.model.init).astype(np.float16).astype(np.float64)
    named = {tensor.name: weights[tensor.place].reshape(tensor.shape) for tensor in manifest.global_tensors}
    first, second = named["dense1.kernel"], named["dense2.kernel"]
    scores = []
    for client in (1 << 20) + np.arange(3):
        samples = made.task.samples(int(client), 0, SampleSet.ADAPT, 8)
        last, bias, errors = np.where(np.arange(32) % 2, -0.35, 0.35), 0.0, []
        for x, y in zip(samples.inputs, samples.targets[:, 0], strict=True):
            hidden = np.maximum(np.maximum(x @ first, 0) @ second, 0)
            error = hidden @ last + bias - y
            errors.append(error**2)
            step = rate * np.clip(2 * error, -1, 1)
            last, bias = last - step * hidden, bias - step
        scores.append(float(np.mean(errors)))
    return scores


@pytest.mark.usefixtures("built_once", "patient")
def test_each_sample_is_predicted_before_it_is_trained_on_in_the_simulation_and_on_a_device(tmp_path: Path) -> None:
    made = setup("adaptation.local_learning_rate=0.03")
    simulated = training.simulate(made, 1, tmp_path / "simulated", Quiet())
    online = simulated.online
    assert online is not None and online.after == pytest.approx(np.mean(expected(made, 0.03)), rel=1e-4)
    assert online.before == pytest.approx(np.mean(expected(made, 0.0)), rel=1e-4)
    assert simulated.as_json()["online"]["n_tasks"] == 3
    federated = training.train(made, ["native:1"], ["native:1"], tmp_path / "device", Quiet())
    assert federated.online is not None and federated.online.after == pytest.approx(online.after, rel=1e-5)
    report.write(read_run(tmp_path / "simulated"))
    page = (tmp_path / "simulated" / "report.html").read_text()
    assert "on each sample before training on it" in page


def test_only_a_client_that_trains_on_each_sample_once_is_scored_so() -> None:
    def of(*keys: str) -> bool:
        experiment = sine(*keys)
        return is_online(open_strategy(experiment, design_of(experiment, "sine").manifest))

    assert of(*TINYOL) and not of()
    assert of("adaptation.local_passes=0", "adaptation.full_passes=1") and not of(*TINYOL, "adaptation.full_passes=1")
