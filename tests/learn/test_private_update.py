"""Private updates: the simulation's noise, rounding and bound against this file's own; the facts that they rest on; refusals."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest
from small_runs import sine

from tinymetafed.learn import prng
from tinymetafed.learn.codecs import delta
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.runs.setup import design_of
from tinymetafed.simulation.kernels import Kernels, TrainingClients, open_kernels
from tinymetafed_codegen import private_update, spec
from tinymetafed_codegen.private_update import PrivateUpdateFacts
from tinymetafed_codegen.protocol import Recipe, Status
from tinymetafed_codegen.spec import Experiment

Integers = npt.NDArray[np.int64]

SEED = 11
KEYS = ["strategy.selection=random", "run.devices_per_round=20", "privacy.clip=0.25", "privacy.noise=0.5"]
CLIENTS, ROUND = [3, 4, 70, 900], 6


def private(*keys: str) -> Experiment:
    return sine(*KEYS, f"privacy.public_seed={SEED}", *keys)


def facts_of(experiment: Experiment) -> PrivateUpdateFacts:
    found = private_update.facts(experiment, n_global=1120)
    assert found is not None
    return found


class Round:
    """One simulated round of an experiment from its initial weights, and the same round's changes without privacy."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.facts = experiment, facts_of(experiment)
        self.kernels, self.recipe = self._open(experiment)
        self.sent = self._run(self.kernels, self.recipe)
        # All entries as float32, and nothing else changed: what privacy is applied to.
        plain = experiment.model_copy(
            update={
                "privacy": spec.PrivacySpec(),
                "strategy": experiment.strategy.model_copy(update={"uplink": "f32", "top_p": 100.0}),
            }
        )
        self.changes = [each.dense(1120) for each in self._run(*self._open(plain))]

    def _open(self, experiment: Experiment) -> tuple[Kernels, Recipe]:
        made = design_of(experiment, "test")
        return open_kernels(made, 1), open_strategy(experiment, made.manifest).training_recipe()

    def _run(self, kernels: Kernels, recipe: Recipe) -> list[Sparse]:
        weights = np.random.default_rng(5).uniform(-0.3, 0.3, 1120).astype(np.float32)
        samples = [kernels.samples(1, CLIENTS, ROUND, phase.sample_set, phase.count) for phase in recipe.phases]
        outcomes, _ = kernels.train_round(weights, recipe, samples, TrainingClients(1, CLIENTS, ROUND), streamed=False)
        assert not any(isinstance(outcome, Status) for outcome in outcomes)
        return [outcome for outcome in outcomes if isinstance(outcome, Sparse)]


@pytest.fixture(scope="module")
def done() -> Round:
    return Round(private())


def noise(client: int, indices: Integers, facts: PrivateUpdateFacts) -> Integers:
    """The noise of the entries, from hashlib and the table."""
    found = []
    for i in indices.tolist():
        counter = np.array([1, client, ROUND, i // 4], "<u4").tobytes()
        block = hashlib.blake2s(np.array([SEED, *[0] * 7], "<u4").tobytes() + counter).digest()
        word = int.from_bytes(block[i % 4 * 8 : i % 4 * 8 + 8], "little")
        magnitude = sum(word >> 1 >= threshold for threshold in facts.thresholds())
        found.append(-magnitude if word & 1 else magnitude)
    return np.array(found)


def rounded(steps: npt.NDArray[np.float32], client: int, indices: Integers, attempt: int) -> Integers:
    words, _ = prng.threefry((1, client), ROUND, (240 + attempt) << 24 | indices.astype(np.uint32))
    whole = np.trunc(steps)
    share = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    moved: Integers = (whole + np.where(share < np.abs(steps - whole), np.sign(steps), 0)).astype(np.int64)
    return moved


def test_an_update_is_clipped_rounded_and_noised_as_this_file_does_it(done: Round) -> None:
    facts, clipped = done.facts, []
    for client, sent, change in zip(CLIENTS, done.sent, done.changes, strict=True):
        assert np.array_equal(sent.indices, delta.select_random(change, facts.entries, 1, 0, ROUND))
        entries = change[sent.indices]
        norm = float(np.linalg.norm(entries.astype(np.float64)))
        clipped.append(norm > 0.25)
        steps = (entries * np.float32(min(1, 0.25 / norm) / facts.step)).clip(-facts.largest, facts.largest)
        levels = sent.values.astype(np.float64) / facts.step - noise(client, sent.indices, facts)
        assert np.array_equal(levels, np.round(levels))
        attempts = [rounded(steps, client, sent.indices, attempt) for attempt in range(16)]
        kept = next(each for each in attempts if (each**2).sum() <= facts.square)
        # The norm here is float64, on the board float32: a share of a step that is next to its random number may differ.
        assert np.count_nonzero(levels != kept) <= 2
        assert (levels**2).sum() <= facts.square
    assert set(clipped) == {True, False}
