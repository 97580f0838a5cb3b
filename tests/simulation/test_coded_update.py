"""Updates with coded values: the simulation's entries and bytes are those of the host's own encoder, and those of devices."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_runs import SINE, Quiet, sine

from tinymetafed.learn.codecs import coded_delta, downlink
from tinymetafed.learn.codecs import delta as codec
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.weights import initial
from tinymetafed.runs import training
from tinymetafed.runs.setup import set_up
from tinymetafed.runs.store import read_run
from tinymetafed.simulation.client_rounds import ClientRound, TrainingClients
from tinymetafed.simulation.kernels import open_kernels
from tinymetafed.wire.frame import encode
from tinymetafed.wire.messages import tail_capacity
from tinymetafed_codegen.optional_messages.coded_messages import CodedDelta, ValueCoding
from tinymetafed_codegen.protocol import Dtype, Selection

pytestmark = pytest.mark.usefixtures("built_once")
CLIENTS, ROUND = 5, 5
CODED = "strategy.uplink_coding=rice"


def test_every_update_has_the_entries_messages_and_bytes_of_the_hosts_encoder() -> None:
    setup = set_up(sine(CODED), str(SINE), None)
    kernels, manifest = open_kernels(setup.design, 1), setup.design.manifest
    n, capacity = manifest.n_global, tail_capacity(CodedDelta, manifest.receive_window)
    weights = initial(manifest, 3, setup.experiment.model.init)
    received = downlink.decode(setup.strategy.download(weights), n)
    whole = replace(setup.strategy.training_recipe(), top_k=n, uplink=Dtype.F32)
    samples = [kernels.samples(3, range(CLIENTS), ROUND, phase.sample_set, phase.count) for phase in whole.phases]
    selectors = {
        Selection.GLOBAL: lambda _: codec.select_top,
        Selection.LAYER: lambda _: partial(codec.select_by_layer, layer_ends=manifest.layer_ends),
        Selection.RANDOM: lambda client: partial(codec.select_random, seed=3, client=client, round=ROUND),
    }
    seen = set()
    for power in (1, 9):  # residuals spread the changes over many orders of magnitude, so that large gaps and values occur
        spread = np.random.default_rng(power).standard_normal((CLIENTS, n)).astype(np.float32) ** power
        spread = spread.clip(-60000, 60000)
        spread[:, ::3], spread[3] = np.float32(0.5), 0
        taking_part = TrainingClients(3, range(CLIENTS), ROUND, residuals=spread.copy())
        deltas, _ = kernels.train_round(ClientRound(received, whole, samples, taking_part))
        for k, dtype, selection in [
            *((k, Dtype.I8, selection) for k in (2, 56, 560, 1120) for selection in Selection),
            (560, Dtype.F16, Selection.GLOBAL),
            (300, Dtype.F32, Selection.RANDOM),
        ]:
            asked = replace(whole, top_k=k, uplink=dtype, selection=selection)
            taking_part = TrainingClients(3, range(CLIENTS), ROUND, residuals=spread.copy())
            updates, sent = kernels.train_round(ClientRound(received, asked, samples, taking_part))
            messages = frames = 0
            for client, (full, update) in enumerate(zip(deltas, updates, strict=True)):
                assert isinstance(full, Sparse) and isinstance(update, Sparse)
                chunks = coded_delta.encode(full.dense(n), k, dtype, capacity, select=selectors[selection](client))
                expected = coded_delta.decode(chunks, n=n, k=k, dtype=dtype)
                assert update.indices.tobytes() == expected.indices.tobytes()
                assert update.values.tobytes() == expected.values.tobytes()
                messages += len(chunks)
                frames += sum(len(encode(1, 1, chunk.pack())) for chunk in chunks)
                seen |= {chunk.values for chunk in chunks}
            assert (sent.messages, sent.message_bytes) == (messages, frames), (power, k, dtype, selection)
    assert {ValueCoding.PACKED, ValueCoding.RICE_0, ValueCoding.RICE_5, ValueCoding.APART_1} <= seen


def test_a_run_has_the_weights_and_bytes_of_devices_and_the_weights_of_packed_values(tmp_path: Path) -> None:
    short = ("run.rounds=3", "run.devices_per_round=3", "strategy.defence=trimmed", "strategy.audit=0.4")
    short += ("evaluation.every=0", "evaluation.tasks=2")
    setup = set_up(sine(*short, CODED), str(SINE), None)
    training.train(setup, ["native:2"], ["native:2"], tmp_path / "devices", Quiet())
    training.simulate(setup, 1, tmp_path / "simulated", Quiet())
    training.simulate(set_up(sine(*short), str(SINE), None), 1, tmp_path / "packed", Quiet())
    devices, simulated, packed = (read_run(tmp_path / name) for name in ("devices", "simulated", "packed"))
    assert devices.weights.tobytes() == simulated.weights.tobytes() == packed.weights.tobytes()
    digests = [[part.digest for entry in run.rounds for part in entry.contributions] for run in (devices, simulated, packed)]
    assert digests[0] == digests[1] == digests[2] and len(digests[0]) == 9
    sent = [run.result.bytes_up for run in (simulated, packed) if run.result is not None]
    assert sent[0] < 0.9 * sent[1]
