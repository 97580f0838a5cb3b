"""The simulation gives the updates, weights and scores of devices, with any number of lanes and threads."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clocks import wait_until
from small_runs import DATA, OMNIGLOT, SINE, Quiet, halting, needs_data, omniglot, sine

from tinymetafed.bench import simulation_cost
from tinymetafed.federation.clients import TrainingFailed
from tinymetafed.learn.codecs import downlink
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.tasks import Samples
from tinymetafed.learn.weights import initial
from tinymetafed.runs import rest_of_run, store, training
from tinymetafed.runs.run_data import RunData, StoreError
from tinymetafed.runs.setup import Setup, design_of, set_up
from tinymetafed.runs.store import read_run
from tinymetafed.simulation import simulated_clients, vector_units
from tinymetafed.simulation.batches import Batch
from tinymetafed.simulation.client_rounds import ClientRound, TrainingClients
from tinymetafed.simulation.kernels import Kernels, open_kernels
from tinymetafed.wire.messages import fixed_on_wire
from tinymetafed_codegen import protocol
from tinymetafed_codegen.calls import Call
from tinymetafed_codegen.protocol import SampleSet, Status, Variant
from tinymetafed_codegen.spec import Experiment, SpecError, parse
from tinymetafed_codegen.toolchain import BuildError

pytestmark = pytest.mark.usefixtures("built_once")
SHORT = ("run.rounds=12", "evaluation.every=6", "evaluation.every_tasks=3", "evaluation.tasks=11")


def both(setup: Setup, folder: Path, url: str) -> tuple[RunData, RunData]:
    """Runs an experiment on devices and in the simulation."""
    training.train(setup, [url], ["native:1"], folder / "devices", Quiet())
    training.simulate(setup, 2, folder / "simulated", Quiet())
    devices, simulated = read_run(folder / "devices"), read_run(folder / "simulated")
    same_bytes(devices, simulated)
    return devices, simulated


def same_bytes(devices: RunData, simulated: RunData) -> None:
    """Asserts that a line carries what the simulation counts, and what configures each board once.

    A 0 in the CRC of an update changes its length by a byte.
    """
    ours, theirs = simulated.result, devices.result
    assert ours is not None and theirs is not None and theirs.retries == 0
    boards, mac = len(theirs.devices), devices.manifest.mac_bytes
    updates = sum(len(entry.contributions) for entry in devices.rounds)
    assert theirs.bytes_down - ours.bytes_down == boards * fixed_on_wire(protocol.Configure, mac)
    assert abs(theirs.bytes_up - ours.bytes_up - boards * fixed_on_wire(protocol.ConfigureAnswer, mac)) <= 2 * updates
    assert ours.bytes_samples == pytest.approx(theirs.bytes_samples, rel=0.001)


def same(devices: RunData, simulated: RunData) -> None:
    """Asserts that two runs are equal in everything that does not depend on where clients train."""

    def updates(run: RunData) -> list[Any]:
        return [
            (entry.weights_sha256, entry.alpha, [(part.client, part.digest) for part in entry.contributions])
            for entry in run.rounds
        ]

    assert updates(simulated) == updates(devices)
    assert simulated.weights.tobytes() == devices.weights.tobytes()
    ours, theirs = simulated.result, devices.result
    assert ours is not None and theirs is not None
    for key in ("meta_test", "d_curve", "example", "bytes_up_dense", "collapsed", "rounds", "seed"):
        assert getattr(ours, key) == getattr(theirs, key), key
    for key in ("bytes_down", "bytes_up", "bytes_samples"):
        assert getattr(ours, key) == pytest.approx(getattr(theirs, key), rel=0.01), key
    evaluations = [[e.after for e in run.evaluations] for run in (devices, simulated)]
    assert evaluations[0] == evaluations[1]


# Layers of which activations are packed as float16 and computed again.
DEEP = (
    "model.activations=f16",
    "board.memory=least",
    "model.layers=["
    '{op="dense",units=40,activation="relu"},{op="dense",units=40,activation="tanh"},{op="dense",units=40,activation="relu"},'
    '{op="dense",units=40,activation="relu"},{op="dense",units=1,local=true}]',
)


@pytest.mark.parametrize(
    ("uplink", "down", "url", "clients", "more"),
    [
        ("i8", "f16", "native:1", 1, ()),
        ("i8", "f16", "native:4", 9, ()),
        ("f32", "i8", "native:1", 3, ()),
        ("f16", "f32", "native:1", 2, DEEP),
    ],
)
def test_sine_is_the_same_on_devices(
    uplink: str, down: str, url: str, clients: int, more: tuple[str, ...], tmp_path: Path
) -> None:
    of = (f"strategy.uplink={uplink}", f"strategy.downlink={down}", f"run.devices_per_round={clients}")
    experiment = sine(*SHORT, *of, *more)
    same(*both(set_up(experiment, str(SINE), None), tmp_path, url))


def test_layers_of_the_model_that_stores_less_are_packed_and_computed_again() -> None:
    net = design_of(sine(*DEEP), str(SINE)).graph
    made = {call.op.kind for call in net.backward[Variant.FULL] if isinstance(call, Call) and call.again}
    assert made >= {"dense", "unpack_f16"}


@pytest.mark.parametrize("selection", ["global", "layer", "random"])
@pytest.mark.parametrize("uplink", ["f32", "f16", "i8"])
def test_every_selection_is_the_same_on_devices(selection: str, uplink: str, tmp_path: Path) -> None:
    chosen = (f"strategy.selection={selection}", f"strategy.uplink={uplink}")
    experiment = sine(*chosen, "run.rounds=2", "run.devices_per_round=3", "evaluation.every=0", "evaluation.tasks=2")
    same(*both(set_up(experiment, str(SINE), None), tmp_path, "native:1"))


@needs_data
def test_omniglot_is_the_same_on_devices(tmp_path: Path) -> None:
    experiment = omniglot(*SHORT, "run.rounds=3", "evaluation.every=0", "run.devices_per_round=2", "evaluation.tasks=3")
    same(*both(set_up(experiment, str(OMNIGLOT), DATA), tmp_path, "native:2"))


def test_phases_that_train_different_numbers_of_one_set_are_the_same_on_devices(tmp_path: Path) -> None:
    (tmp_path / "uneven.py").write_text(
        "from tinymetafed.learn.strategies.tinymetafed import TinyMetaFed\n"
        "from tinymetafed_codegen.protocol import SampleSet, Variant\n\n\n"
        "class Uneven(TinyMetaFed):\n"
        "    def training(self):\n"
        "        return tuple(self.phase(Variant.GLOBAL, SampleSet.QUERY, 1, 0.01, count) for count in (3, 11, 5))\n"
    )
    own = (f"strategy.kind={tmp_path / 'uneven.py'}:Uneven", "run.devices_per_round=2", *SHORT)
    same(*both(set_up(sine(*own), str(SINE), None), tmp_path, "native:1"))


# --- Lanes and threads ---


def round_of(experiment: Experiment, simulation: Kernels, clients: int) -> tuple[list[Sparse | Status], Any, Any]:
    """Updates of the given clients, and their outputs before and after training."""
    strategy = set_up(experiment, str(SINE), None).strategy
    weights = initial(simulation.manifest, 3, experiment.model.init)
    received = downlink.decode(strategy.download(weights), strategy.n_global)
    recipe = strategy.training_recipe()
    samples = [simulation.samples(3, range(clients), 5, phase.sample_set, phase.count) for phase in recipe.phases]
    taking_part = TrainingClients(3, range(clients), 5)
    updates, _ = simulation.train_round(ClientRound(received, recipe, samples, taking_part))
    test = simulation.samples(3, range(clients), 0, SampleSet.ADAPT, 7)
    faults, before, after = simulation.adapt(
        ClientRound(received, recipe, samples, TrainingClients(3, range(clients), 0)), test
    )
    assert set(faults) == {Status.OK} and (before != after).any()
    return updates, before, after


def equal(one: tuple[list[Sparse | Status], Any, Any], other: tuple[list[Sparse | Status], Any, Any]) -> None:
    for a, b in zip(one[0], other[0], strict=True):
        assert isinstance(a, Sparse) and isinstance(b, Sparse)
        assert a.indices.tobytes() == b.indices.tobytes() and a.values.tobytes() == b.values.tobytes()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one[1:], other[1:], strict=True))
    assert len({update.values.tobytes() for update in one[0] if isinstance(update, Sparse)}) == len(one[0])  # all differ


def test_every_vector_unit_gives_the_bits_of_the_scalar_one() -> None:
    clients = 18  # with 8 lanes, two groups and two clients one after the other; with 4, four groups and half a one
    reference = round_of(sine(), open_kernels(design_of(sine(), str(SINE)), 1, "scalar"), clients)
    for unit in vector_units.vector_units():
        if unit != "scalar":
            equal(reference, round_of(sine(), open_kernels(design_of(sine(), str(SINE)), 1, unit), clients))


def test_threads_change_no_bit() -> None:
    equal(*(round_of(sine(), open_kernels(design_of(sine(), str(SINE)), threads), 37) for threads in (1, 3)))


def test_a_client_trains_alike_alone_and_among_others() -> None:
    simulation = open_kernels(design_of(sine(), str(SINE)), 1)
    (alone,), before, after = round_of(sine(), simulation, 1)
    many = round_of(sine(), simulation, 8)
    first = many[0][0]
    assert isinstance(alone, Sparse) and isinstance(first, Sparse) and alone.values.tobytes() == first.values.tobytes()
    assert before[0].tobytes() == many[1][0].tobytes() and after[0].tobytes() == many[2][0].tobytes()


def test_a_nan_of_one_client_stays_in_its_lane() -> None:
    simulation = open_kernels(design_of(sine(), str(SINE)), 1)
    strategy = set_up(sine(), str(SINE), None).strategy
    received = downlink.decode(strategy.download(initial(simulation.manifest, 1, "glorot")), strategy.n_global)
    recipe = strategy.training_recipe()
    samples = [simulation.samples(1, range(5), 0, phase.sample_set, phase.count) for phase in recipe.phases]
    taking_part = TrainingClients(1, range(5), 0)
    whole, _ = simulation.train_round(ClientRound(received, recipe, samples, taking_part))
    samples[0].targets[2, 3] = np.nan
    spoilt, _ = simulation.train_round(ClientRound(received, recipe, samples, taking_part))
    assert spoilt[2] == Status.NOT_FINITE
    for i in (0, 1, 3, 4):
        one, other = whole[i], spoilt[i]
        assert isinstance(one, Sparse) and isinstance(other, Sparse) and one.values.tobytes() == other.values.tobytes()


def test_missing_rows_are_padded_with_zeros() -> None:
    rows = [Samples(np.ones((n, 3), np.float32), np.ones((n, 1), np.float32)) for n in (2, 1)]
    batch = Batch.of(rows)
    assert batch.inputs.tolist() == [[[1, 1, 1], [1, 1, 1]], [[1, 1, 1], [0, 0, 0]]]
    assert batch.targets.tolist() == [[[1], [1]], [[1], [0]]] and batch.scale == 1.0


# --- Interrupted runs, and errors ---


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from tinymetafed import cli; cli.main()", *map(str, arguments)]


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    kind, go = halting(tmp_path, 20)
    keys = (*SHORT, "run.rounds=600", "run.devices_per_round=2", f"strategy.kind={kind}")
    settings = [word for key in keys for word in ("--set", key)]
    killed = tmp_path / "killed"
    process = subprocess.Popen(command("simulate", SINE, "--out", killed, *settings), stderr=subprocess.DEVNULL)
    wait_until(lambda: process.poll() is not None or ((killed / "run.db").exists() and read_run(killed).trained > 20))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert read_run(killed).trained == 21
    go.touch()
    with pytest.raises(StoreError, match=r"begun as a simulation; continue it with tinymetafed simulate --resume"):
        training.resume(killed, Quiet())
    finished = subprocess.run(command("simulate", "--resume", killed, "--json"), capture_output=True, text=True, check=True)
    whole = tmp_path / "whole"
    training.simulate(set_up(store.read_run(killed).experiment(), str(SINE), None), 1, whole, Quiet())
    assert json.loads(finished.stdout)["sessions"] == 2
    same(read_run(whole), read_run(killed))


def test_a_run_may_move_from_devices_into_the_simulation_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = set_up(sine(*SHORT), str(SINE), None)
    devices, _ = both(setup, tmp_path, "native:1")
    genuine = rest_of_run.RestOfRun._write

    def stop_at(last: int) -> None:
        def write(self: rest_of_run.RestOfRun, done: rest_of_run.Round) -> None:
            genuine(self, done)
            if done.index == last:
                raise KeyboardInterrupt

        monkeypatch.setattr(rest_of_run.RestOfRun, "_write", write)

    moved = tmp_path / "moved"
    stop_at(3)
    with pytest.raises(KeyboardInterrupt):
        training.train(setup, ["native:1"], ["native:1"], moved, Quiet())
    stop_at(8)
    with pytest.raises(KeyboardInterrupt):
        training.resume_simulated(moved, 1, Quiet())
    training.resume(moved, Quiet(), urls=["native:1"])
    same(devices, read_run(moved))
    assert [device.rounds for device in read_run(moved).devices if device.url == simulated_clients.URL] == [5]


def test_training_that_diverges_fails_as_on_a_device(tmp_path: Path) -> None:
    experiment = sine("strategy.output_clamp=0", "strategy.global_learning_rate=10", "run.devices_per_round=2")
    setup = set_up(experiment, str(SINE), None)
    with pytest.raises(TrainingFailed, match=r"client \d+: training failed in round 0: NOT_FINITE") as simulated:
        training.simulate(setup, 1, tmp_path / "simulated", Quiet())
    with pytest.raises(TrainingFailed) as on_device:
        training.train(setup, ["native:1"], ["native:1"], tmp_path / "devices", Quiet())
    assert simulated.value.status == on_device.value.status


@pytest.mark.parametrize(
    ("machine", "facts", "expected"),
    [
        (
            "x86_64",
            "flags\t\t: fpu sse sse2 avx avx2 avx512f avx512dq avx512bw avx512vl",
            ["avx512vl", "avx2", "avx512", "sse2", "scalar"],
        ),
        ("x86_64", "flags\t\t: fpu sse sse2 avx avx2 avx512f", ["avx2", "sse2", "scalar"]),
        ("x86_64", None, ["sse2", "scalar"]),
        ("aarch64", "Features\t: fp asimd crc32", ["neon", "scalar"]),
        ("riscv64", "isa\t\t: rv64imafdc", ["scalar"]),
    ],
)
def test_the_processor_at_hand_says_which_vector_units_there_are(
    machine: str, facts: str | None, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if facts is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{facts}\nbugs\t\t:\n")
    monkeypatch.setattr(vector_units, "CPU_FACTS", tmp_path / "cpuinfo")
    monkeypatch.setattr(vector_units.platform, "machine", lambda: machine)
    assert list(vector_units.vector_units()) == expected


def test_a_processor_without_a_vector_unit_trains_one_client_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = round_of(sine(), open_kernels(design_of(sine(), str(SINE)), 1), 3)
    monkeypatch.setattr(vector_units, "_ALWAYS", {})
    monkeypatch.setattr(vector_units, "CPU_FACTS", Path("/nowhere"))
    simulation = open_kernels(design_of(sine(), str(SINE)), 1)
    assert simulation.lanes == 1
    equal(reference, round_of(sine(), simulation, 3))


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match=r"missing g\+\+.*apt"):
        open_kernels(design_of(sine(), str(SINE)), 1)


def test_boards_that_are_clients_cannot_be_simulated(tmp_path: Path) -> None:
    (tmp_path / "source.cpp").write_text("on_device make")
    task = {"kind": "folder", "path": str(tmp_path), "source": str(tmp_path / "source.cpp"), "client_per_board": True}
    model = {"input": [1], "loss": "mse", "layers": [{"op": "dense", "units": 1}]}
    with pytest.raises(SpecError, match=r"task\.client_per_board = true.*--set run\.clients=N"):
        open_kernels(design_of(parse({"task": task, "model": model}, "test"), "test"), 1)


def test_the_benchmark_measures_lanes_threads_one_client_and_textbook_kernels() -> None:
    figures = simulation_cost.simulation(sine(), str(SINE), None, 2, Quiet())
    assert figures.lanes == vector_units.vector_units()[figures.isa].lanes and figures.threads == 2
    # Which of the times is the shortest depends on the load of the machine.
    assert min(figures.us_per_client_step, figures.one_thread_us, figures.single_us, figures.textbook_us) > 0
    assert figures.speedup == pytest.approx(figures.one_thread_us / figures.us_per_client_step, rel=0.02)
    assert figures.ratio == pytest.approx(figures.textbook_us / figures.us_per_client_step, rel=0.02)
    assert figures.speedup_idle > 0
