"""Runs that train in one call get the bits that each gets alone, and none waits for a run that has ended."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from small_runs import SINE, sine

from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.weights import initial
from tinymetafed.runs.setup import Setup, set_up
from tinymetafed.simulation.client_rounds import ClientRound, TrainingClients
from tinymetafed.simulation.kernels import Kernels, TrainedRound, open_kernels
from tinymetafed.simulation.lock_step import LockStep
from tinymetafed_codegen.protocol import Dtype, Recipe

KEEPING = ("strategy.error_feedback=true", "model.local_start=kept", "evaluation.tasks=1", "run.clients=9")
CLIENTS = ((5,), (7, 2, 5), (1, 8))  # of three runs; together they fill no whole number of vectors


@pytest.fixture(scope="module")
def setup() -> Setup:
    return set_up(sine(*KEEPING), str(SINE), None)


@pytest.fixture(scope="module")
def kernels(setup: Setup) -> Kernels:
    return open_kernels(setup.design, 1)


def rounds(setup: Setup, kernels: Kernels, recipe: Recipe) -> list[ClientRound]:
    """One round of each run, with weights, seed, round and kept state of its own."""
    made = []
    for seed, clients in enumerate(CLIENTS):
        random = np.random.default_rng(seed)
        weights = initial(kernels.manifest, seed, setup.experiment.model.init)
        local, kept = (
            random.standard_normal((len(clients), size)).astype(np.float32) / 8
            for size in (kernels.manifest.n_parameters - kernels.manifest.n_global, kernels.manifest.n_global)
        )
        samples = [kernels.samples(seed, clients, 3 + seed, phase.sample_set, phase.count) for phase in recipe.phases]
        made.append(ClientRound(weights, recipe, samples, TrainingClients(seed, clients, 3 + seed, local, kept)))
    return made


def bits(trained: TrainedRound, asked: ClientRound) -> list[bytes | int]:
    """Everything that a round gives: deltas, traffic, and the state that its clients keep."""
    outcomes, sent = trained
    assert all(isinstance(each, Sparse) for each in outcomes)
    arrays = [array for each in outcomes if isinstance(each, Sparse) for array in (each.indices, each.values)]
    arrays += [array for array in (asked.clients.local_weights, asked.clients.residuals) if array is not None]
    return [*(array.tobytes() for array in arrays), sent.messages, sent.message_bytes]


@pytest.mark.parametrize("uplink", [Dtype.I8, Dtype.F32])
def test_rounds_of_several_runs_in_one_call_are_those_of_single_calls(setup: Setup, kernels: Kernels, uplink: Dtype) -> None:
    recipe = replace(setup.strategy.training_recipe(), uplink=uplink)
    together, alone = rounds(setup, kernels, recipe), rounds(setup, kernels, recipe)
    expected = [bits(kernels.train_round(asked), asked) for asked in alone]
    assert [bits(*pair) for pair in zip(kernels.train_rounds(together), together, strict=True)] == expected
    assert len({each[0] for each in expected}) == len(CLIENTS)  # no two runs are alike


def test_rounds_that_one_call_cannot_train_are_refused(setup: Setup, kernels: Kernels) -> None:
    recipe = setup.strategy.training_recipe()
    first, second, _ = rounds(setup, kernels, recipe)
    with pytest.raises(ValueError, match="equal recipes"):
        kernels.train_rounds([first, replace(second, streamed=True)])
    levels = [replace(batch, inputs=batch.inputs.astype(np.uint8)) for batch in second.samples]
    with pytest.raises(ValueError, match="one dtype"):
        kernels.train_rounds([first, replace(second, samples=levels)])


def test_each_run_of_a_lock_step_gets_its_bits_even_if_others_end_or_fail(setup: Setup, kernels: Kernels) -> None:
    recipe = setup.strategy.training_recipe()
    given, alone = rounds(setup, kernels, recipe), rounds(setup, kernels, recipe)
    expected = [[bits(kernels.train_round(asked), asked) for _ in range(3)] for asked in alone]
    lock_step = LockStep(kernels, len(given) + 2)

    def run(asked: ClientRound, count: int) -> list[list[bytes | int]]:
        with lock_step.member() as shared:
            return [bits(shared.train_round(asked), asked) for _ in range(count)]

    def fail() -> None:
        with lock_step.member():
            raise RuntimeError("before its first round")

    def refused(asked: ClientRound) -> None:
        with lock_step.member() as shared:
            shared.train_round(asked)

    other = replace(setup.strategy.training_recipe(), top_k=7)  # trained in a call of its own
    with ThreadPoolExecutor(len(given) + 2) as threads:
        counts = (3, 1, 2)
        running = [threads.submit(run, asked, count) for asked, count in zip(given, counts, strict=True)]
        failing = threads.submit(fail)
        wrong = threads.submit(refused, replace(rounds(setup, kernels, other)[0], samples=[]))
        assert [each.result() for each in running] == [all_[:count] for all_, count in zip(expected, counts, strict=True)]
        with pytest.raises(RuntimeError, match="before its first round"):
            failing.result()
        with pytest.raises(ValueError, match="zip"):
            wrong.result()
