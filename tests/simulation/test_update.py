"""The simulation's updates are those that devices send: entries, messages and bytes of every format, and their sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from small_runs import SINE, sine

from tinymetafed.learn import aggregate, prng
from tinymetafed.learn.codecs import delta as codec
from tinymetafed.learn.codecs import downlink
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.strategies.interface import choose_clients
from tinymetafed.learn.weights import Floats, initial
from tinymetafed.runs.setup import Setup, set_up
from tinymetafed.simulation.batches import Batch
from tinymetafed.simulation.client_rounds import ClientRound, TrainingClients
from tinymetafed.simulation.kernels import Kernels, SentMessages, open_kernels
from tinymetafed.wire.frame import encode
from tinymetafed.wire.messages import tail_capacity
from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import Dtype, Recipe, Selection, Status, Stream

CLIENTS = 11  # a group of lanes and a part of one
ROUND = 5


@pytest.fixture(scope="module")
def setup() -> Setup:
    return set_up(sine(), str(SINE), None)


@pytest.fixture(scope="module")
def kernels(setup: Setup) -> Kernels:
    return open_kernels(setup.design, 2)


def trained(
    kernels: Kernels, setup: Setup, recipe: Recipe, weights: Floats, residuals: Floats | None = None
) -> tuple[list[Sparse], SentMessages]:
    samples, taking_part = given(kernels, recipe, residuals)
    updates, sent = kernels.train_round(ClientRound(weights, recipe, samples, taking_part))
    assert all(isinstance(update, Sparse) for update in updates)
    return [update for update in updates if isinstance(update, Sparse)], sent


def given(kernels: Kernels, recipe: Recipe, residuals: Floats | None = None) -> tuple[list[Batch], TrainingClients]:
    samples = [kernels.samples(3, range(CLIENTS), ROUND, phase.sample_set, phase.count) for phase in recipe.phases]
    return samples, TrainingClients(3, range(CLIENTS), ROUND, residuals=residuals)


def received(setup: Setup) -> Floats:
    weights = initial(setup.design.manifest, 3, setup.experiment.model.init)
    return downlink.decode(setup.strategy.download(weights), weights.size)


def selector(selection: Selection, client: int, layers: list[int]) -> Callable[[Floats, int], codec.Indices]:
    return {
        Selection.GLOBAL: codec.select_top,
        Selection.LAYER: lambda delta, k: codec.select_by_layer(delta, k, layers),
        Selection.RANDOM: lambda delta, k: codec.select_random(delta, k, 3, client, ROUND),
    }[selection]


@pytest.mark.parametrize("selection", list(Selection))
@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.F16, Dtype.I8])
@pytest.mark.parametrize("k", [2, 9, 56, 300, 560, 900, 1119, 1120])
def test_every_update_has_the_entries_messages_and_bytes_that_a_device_sends(
    kernels: Kernels, setup: Setup, selection: Selection, dtype: Dtype, k: int
) -> None:
    manifest, weights = setup.design.manifest, received(setup)
    whole = replace(setup.strategy.training_recipe(), top_k=manifest.n_global, uplink=Dtype.F32)
    # Residuals spread the changes over many orders of magnitude, so that gaps of all lengths and ties occur.
    spread = np.random.default_rng(k).standard_normal((CLIENTS, manifest.n_global)).astype(np.float32) ** 9
    spread = spread.clip(-60000, 60000)  # float16 ends at 65504
    spread[:, ::3] = np.float32(0.5)
    spread[3] = 0
    deltas, _ = trained(kernels, setup, whole, weights, spread.copy())
    residuals = spread.copy()
    asked = replace(whole, top_k=k, uplink=dtype, selection=selection)
    updates, sent = trained(kernels, setup, asked, weights, residuals)
    messages = frames = 0
    for client, (full, update) in enumerate(zip(deltas, updates, strict=True)):
        dense = full.dense(manifest.n_global)
        select = selector(selection, client, list(manifest.layer_ends))
        chunks = codec.encode(dense, k, dtype, tail_capacity(protocol.Delta, manifest.receive_window), token=1, select=select)
        expected = codec.decode(chunks, n=manifest.n_global, k=k, token=1, dtype=dtype)
        assert update.indices.tobytes() == expected.indices.tobytes()
        assert update.values.tobytes() == expected.values.tobytes()
        assert residuals[client].tobytes() == (dense - expected.dense(manifest.n_global)).tobytes()
        messages += len(chunks)
        frames += sum(len(encode(1, 1, replace(chunk, token=0).pack())) for chunk in chunks)
    assert (sent.messages, sent.message_bytes) == (messages, frames)


def test_the_sum_of_calls_is_the_mean_of_all_updates(kernels: Kernels, setup: Setup) -> None:
    weights, recipe = received(setup), setup.strategy.training_recipe()
    updates, sent = trained(kernels, setup, recipe, weights)
    total = np.zeros_like(weights)
    samples, taking_part = given(kernels, recipe)
    statuses, counted = kernels.add_round(total, ClientRound(weights, recipe, samples, taking_part))
    assert statuses == [Status.OK] * CLIENTS and counted == sent
    assert (total / np.float32(CLIENTS)).tobytes() == aggregate.mean(updates, weights.size).tobytes()
    kernels.add_round(total, ClientRound(weights, recipe, samples, taking_part))
    assert (total / np.float32(2 * CLIENTS)).tobytes() == aggregate.mean(updates * 2, weights.size).tobytes()


@pytest.mark.parametrize(("count", "of"), [(1, 1), (1, 1000), (7, 9), (60, 64), (64, 64)])
def test_clients_are_the_first_different_ones_of_single_draws(count: int, of: int) -> None:
    for round_ in (0, 1, 4, 511, 512, (1 << 32) - 1):
        chosen: list[int] = []
        index = 0
        while len(chosen) < count:
            word = int(prng.draw(2, 0, round_, Stream.CLIENT_CHOICE, [index])[0][0])
            index += 1
            if (client := word * of >> 32) not in chosen:
                chosen.append(client)
        assert choose_clients(2, round_, count, of) == chosen
