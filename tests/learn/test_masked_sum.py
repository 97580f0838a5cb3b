"""Secure aggregation on the host: integers, their mean, the refusals of experiments, and what a user's strategy gets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import SINE, Quiet, manifest, sine

from tinymetafed.learn import masked_sum
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.strategies import StrategyError
from tinymetafed.runs import training
from tinymetafed.runs.setup import set_up
from tinymetafed.runs.store import read_run
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design
from tinymetafed_codegen.options import secure_sum as integers
from tinymetafed_codegen.options.secure_sum import SecureSumFacts
from tinymetafed_codegen.spec import SpecError

SECURE = ["privacy.secure_aggregation=true", "strategy.selection=random", "run.devices_per_round=3"]


def facts(*keys: str) -> SecureSumFacts:
    found = integers.facts(sine(*SECURE, *keys), 1120)
    assert found is not None
    return found


@pytest.mark.parametrize("devices", [3, 4, 7, 16, 64])
@pytest.mark.parametrize("change", [1e-3, 0.25, 0.3333, 1.0, 100.0])
def test_integers_are_as_fine_as_16_bits_allow(devices: int, change: float) -> None:
    found = facts(f"run.devices_per_round={devices}", f"privacy.largest_change={change}")
    assert found.levels * devices < 2**15 <= (found.levels + 1) * devices
    assert found.largest >= change > found.largest / 2


def test_changes_are_cut_and_rounded_to_even() -> None:
    found = SecureSumFacts(seats=3, levels=10_922, exponent=-4)
    values = np.array([0, 1.5, 2.5, -2.5, 1e9, -1e9, 3e38, -3e38, 10_922.6], np.float32) / 16
    values[6:8] *= 16  # so that the number of steps is infinite
    expected = [0, 2, 2, -2, 10_922, -10_922, 10_922, -10_922, 10_922]
    assert masked_sum.integers(values, found).astype(np.int16).tolist() == expected


@given(data=st.data(), clients=st.integers(3, 64))
def test_the_mean_is_that_of_the_changes_with_and_without_masks(data: st.DataObject, clients: int) -> None:
    found = facts(f"run.devices_per_round={clients}")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    whole = rng.integers(-found.levels, found.levels + 1, (clients, 5))
    whole[:, 0], whole[:, 1] = found.levels, -found.levels
    masks = rng.integers(0, 2**16, (clients, 5))
    masks[-1] = -masks[:-1].sum(axis=0)
    expected = (whole.sum(axis=0) * found.step).astype(np.float32) / np.float32(clients)
    for sent in (whole, whole + masks):
        updates = [Sparse(np.arange(5), (row % 2**16).astype(np.float32)) for row in sent]
        mean = masked_sum.mean(data.draw(st.permutations(updates)), found)
        assert mean.values.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["strategy.selection=global"], "needs strategy.selection = 'random', not 'global'"),
        (["strategy.selection=layer"], "needs strategy.selection = 'random', not 'layer'"),
        (["run.devices_per_round=2"], "needs 3 to 64 devices in each round, not run.devices_per_round = 2"),
        (["run.devices_per_round=65"], "needs 3 to 64 devices in each round, not run.devices_per_round = 65"),
        (["strategy.error_feedback=true"], "needs strategy.error_feedback = false"),
        (["strategy.defence=bound"], "needs strategy.defence = 'none', not 'bound'"),
        (["strategy.audit=0.1"], "needs strategy.audit = 0, not 0.1"),
        (["strategy.kind=tinyol"], "strategy.kind = 'tinyol' has none"),
        (["privacy.largest_change=0"], "'privacy.largest_change' = 0"),
        (["privacy.secure=true"], "unknown key 'privacy.secure'"),
    ],
)
def test_an_experiment_that_cannot_hide_an_update_is_refused_by_its_key(keys: Sequence[str], words: str) -> None:
    with pytest.raises(SpecError) as refusal:
        sine(*SECURE, *keys)
    assert words in str(refusal.value)


def test_the_sum_of_private_updates_fits() -> None:
    private = ["privacy.clip=0.5", "privacy.noise=0.5", "run.devices_per_round=17"]
    assert facts(*private, "strategy.uplink=i8").levels == 127
    with pytest.raises(
        SpecError, match=r"17 private updates with integers up to 2047 does not fit 16 bits; set strategy\.uplink"
    ):
        facts(*private, "strategy.uplink=f16")


def test_a_board_without_randomness_is_refused() -> None:
    board = boards.load("mps2").__class__(**{**vars(boards.load("mps2")), "entropy": None})
    with pytest.raises(SpecError, match=r"board 'mps2' has no source of random numbers .* add 'entropy' to"):
        design(sine(*SECURE), board, "test")


def test_a_run_on_too_few_boards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"a board of its own for each client .* = 3, and there are 2 boards; give --device for 3"
    ):
        training.train(set_up(sine(*SECURE), str(SINE), None), ["native:2"], ["native:1"], tmp_path / "run", Quiet())


def test_other_firmware_is_another_model() -> None:
    experiments = [
        sine(*SECURE[1:]),
        sine(*SECURE),
        sine(*SECURE, "privacy.largest_change=1.0"),
        sine(*SECURE[:2], "run.devices_per_round=4"),
    ]
    assert len({manifest(experiment).model_hash for experiment in experiments}) == 4


OWN = """
from tinymetafed.learn.strategies import TinyMetaFed


class Own(TinyMetaFed):
    def clients(self, round_, of):
        return list(range({chosen}))

    def update(self, weights, deltas, round_):
        assert len(deltas) == 1, "more than the mean"
        return super().update(weights, deltas, round_)
"""


def test_a_users_strategy_gets_the_mean_alone(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.format(chosen=3))
    keys = [f"strategy.kind={tmp_path / 'own.py'}:Own", "run.rounds=2", "run.clients=5", "evaluation.tasks=1"]
    training.simulate(set_up(sine(*SECURE, *keys), str(SINE), None), 1, tmp_path / "run", Quiet())
    assert len({entry.weights_sha256 for entry in read_run(tmp_path / "run").rounds}) == 2
    (tmp_path / "own.py").write_text(OWN.format(chosen=2))
    with pytest.raises(StrategyError, match=r"chose 2 clients, and privacy\.secure_aggregation = true needs 3 to 3"):
        training.simulate(set_up(sine(*SECURE, *keys), str(SINE), None), 1, tmp_path / "few", Quiet())
