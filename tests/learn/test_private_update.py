"""Private updates: noise, rounding and bound of the simulation against this file's own, their facts, refusals, accounting."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from small_runs import sine

from tinymetafed.learn import prng
from tinymetafed.learn.codecs import delta
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.runs.setup import design_of
from tinymetafed.simulation.client_rounds import ClientRound, TrainingClients
from tinymetafed.simulation.kernels import Kernels, open_kernels
from tinymetafed_codegen import spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design
from tinymetafed_codegen.options import private_update
from tinymetafed_codegen.options.private_update import PrivateUpdateFacts
from tinymetafed_codegen.protocol import Recipe, Status
from tinymetafed_codegen.spec import Experiment, SpecError

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
        outcomes, _ = kernels.train_round(ClientRound(weights, recipe, samples, TrainingClients(1, CLIENTS, ROUND)))
        assert not any(isinstance(outcome, Status) for outcome in outcomes)
        return [outcome for outcome in outcomes if isinstance(outcome, Sparse)]


@pytest.fixture(scope="module")
def done() -> Round:
    return Round(private())


def noise(client: int, indices: Integers, facts: PrivateUpdateFacts) -> Integers:
    """The noise of the entries, from hashlib and the table."""
    found, table = [], facts.thresholds()
    for i in indices.tolist():
        counter = np.array([1, client, ROUND, i // 4], "<u4").tobytes()
        block = hashlib.blake2s(np.array([SEED, *[0] * 7], "<u4").tobytes() + counter).digest()
        word = int.from_bytes(block[i % 4 * 8 : i % 4 * 8 + 8], "little")
        magnitude = sum(word >> 1 >= threshold for threshold in table)
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


def test_secret_noise_differs_from_run_to_run() -> None:
    secret = Round(sine(*KEYS))
    again = secret._run(secret.kernels, secret.recipe)
    for one, other in zip(secret.sent, again, strict=True):
        assert np.array_equal(one.indices, other.indices)
        assert np.count_nonzero(one.values != other.values) > 400  # of 560; equal by chance, and rounding is the same
        drift = (one.values - other.values) / secret.facts.step / (math.sqrt(2) * secret.facts.sigma)
        assert 0.8 < np.std(drift) < 1.2


@pytest.mark.parametrize("uplink", ["i8", "f16", "f32"])
@pytest.mark.parametrize(("clip", "noise", "devices"), [(0.25, 0.5, 20), (1.0, 3.0, 1), (3e-3, 14.2, 1000), (7.0, 0.05, 3)])
def test_the_table_of_the_noise_is_a_discrete_gaussian(uplink: str, clip: float, noise: float, devices: int) -> None:
    facts = facts_of(
        sine(
            "strategy.selection=random",
            f"privacy.clip={clip}",
            f"privacy.noise={noise}",
            f"run.devices_per_round={devices}",
            f"strategy.uplink={uplink}",
        )
    )
    table = facts.thresholds()
    assert len(table) == facts.tail and table == sorted(table) and table[-1] <= 2**63
    probabilities = np.array([(b - a) / 2**63 for a, b in pairwise([0, *table, 2**63])])
    magnitudes = np.arange(facts.tail + 1)
    weights = np.where(magnitudes == 0, 1, 2) * np.exp(-(magnitudes**2) / (2 * facts.sigma**2))
    np.testing.assert_allclose(probabilities, weights / weights.sum(), rtol=1e-9, atol=2.0**-60)
    assert facts.distance < facts.tail * 2.0**-63 + math.erfc(private_update.TAIL / math.sqrt(2))
    assert (magnitudes**2 * probabilities).sum() == pytest.approx(facts.sigma**2, rel=1e-9)
    # All devices together add noise * clip to an entry of the sum; what counts is a little less, as rounding widens the norm.
    assert facts.sigma * facts.step * math.sqrt(devices) == pytest.approx(noise * clip)
    assert 0.1 * noise < facts.multiplier(devices) < noise
    levels = np.arange(-facts.largest - facts.tail, facts.largest + facts.tail + 1)
    assert facts.largest > 0 and levels[-1] <= np.iinfo(np.int8 if uplink == "i8" else np.int16).max
    carried = (levels * facts.step).astype(np.float16 if uplink == "f16" else np.float32)
    assert np.array_equal(carried.astype(np.float64) / facts.step, levels)  # every dtype carries the integers exactly


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (["strategy.selection=global"], "strategy.selection = 'random'"),
        (["strategy.selection=layer"], "strategy.selection = 'random'"),
        (["strategy.error_feedback=true"], "strategy.error_feedback = false"),
        (["strategy.kind=tinyol"], "strategy.kind = 'tinyol'"),
        (["data.normalise=standard"], "data.normalise = 'standard'"),
        (["privacy.clip=0"], "privacy.clip"),
        (["privacy.noise=-1"], "privacy.noise"),
        (["privacy.delta=1"], "privacy.delta"),
        (["strategy.uplink=f16", "privacy.clip=1e-6", "privacy.noise=0.1"], "strategy.uplink = 'f16'"),
    ],
)
def test_what_is_not_private_is_refused_by_key(keys: list[str], named: str) -> None:
    with pytest.raises(SpecError, match=re.escape(named)):
        facts_of(sine(*KEYS, *keys))


@pytest.mark.parametrize(("given", "lacking"), [("clip", "noise"), ("noise", "clip")])
def test_clip_and_noise_are_given_together(given: str, lacking: str) -> None:
    with pytest.raises(SpecError, match=f"privacy.{given} without privacy.{lacking}"):
        sine("strategy.selection=random", f"privacy.{given}=1.0")
    with pytest.raises(SpecError, match=r"privacy\.public_seed works only with"):
        sine("privacy.public_seed=1")
    with pytest.raises(SpecError, match=r"privacy\.largest_change works only with privacy\.secure_aggregation"):
        sine("privacy.largest_change=0.1")


def test_a_board_without_entropy_is_refused_unless_its_noise_is_public() -> None:
    dull = replace(boards.load("mps2"), entropy=None)
    with pytest.raises(SpecError, match="'mps2' has no source of random numbers"):
        design(sine(*KEYS), dull, "test")
    assert design(private(), dull, "test").model_hash != design(sine(*KEYS), boards.load("mps2"), "test").model_hash


@pytest.mark.parametrize(
    "key", ["privacy.clip=0.3", "privacy.noise=0.6", "run.devices_per_round=21", "privacy.public_seed=12", "strategy.top_p=49"]
)
def test_firmware_with_other_privacy_is_another_model(key: str) -> None:
    assert design_of(private(), "test").model_hash != design_of(private(key), "test").model_hash


@pytest.mark.parametrize(("devices", "turns"), [(20, 50), (300, 3), (1000, 1)])
def test_clients_take_turns(devices: int, turns: int) -> None:
    experiment = private(f"run.devices_per_round={devices}")
    strategy = open_strategy(experiment, design_of(experiment, "test").manifest)
    orders = [[strategy.clients(round_, 1000) for round_ in range(first, first + turns)] for first in (0, turns)]
    for rounds in orders:
        drawn = [client for chosen in rounds for client in chosen]
        assert len(set(drawn)) == len(drawn) == turns * devices and set(drawn) <= set(range(1000))
    assert orders[0] != orders[1]
