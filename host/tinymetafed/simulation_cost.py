"""How fast the simulation trains on this machine, beside textbook kernels compiled for it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tinymetafed_codegen import graph
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import Experiment

from . import runner
from .kernel_cost import TEXTBOOK, TEXTBOOK_OPS, made_up
from .learn import downlink
from .learn.strategy import TinyMetaFed
from .learn.weights import initial
from .runner import Observer
from .simulator import BOARD, Batch, Simulator, Unit, build, units

REPEATS = 50  # the fastest counts: whatever else the machine does only makes it slower
SECONDS = 0.002  # that one of them takes at least: less than a busy machine lets a process run at a time


def simulation(experiment: Experiment, source: str, unit: str | None, threads: int, observer: Observer) -> dict[str, Any]:
    """Microseconds per client and training step of a round, its samples put into the lanes, all lanes and threads full.

    ``unit`` names a vector unit of this machine (None: the one that simulations use). ``single_us``: the same with one
    client after the other, ``textbook_us``: with textbook kernels, None where they lack an op. Raises FirmwareError, SpecError.
    """
    observer.stage("compiling the simulation")
    chosen = units()[unit] if unit else next(iter(units().values()))
    manifest = runner.manifest_of(experiment, source, BOARD)
    library = build(experiment, source, chosen)
    lanes = _measure(experiment, Simulator(library, manifest, chosen.lanes, threads))
    single = _measure(experiment, Simulator(library, manifest, 1, 1))
    textbook = None
    lacking = {call.op.kind for call in graph.build(experiment.model, source).forward} - TEXTBOOK_OPS
    if lacking:
        observer.event(f"no textbook version of {', '.join(sorted(lacking))} to compare with")
    else:
        observer.stage("compiling textbook kernels")
        plain = build(experiment, source, Unit(chosen.name, 1, chosen.flags), TEXTBOOK)
        textbook = _measure(experiment, Simulator(plain, manifest, 1, 1))
    return {
        "us_per_client_step": round(lanes, 4),
        "lanes": chosen.lanes,
        "isa": chosen.name,
        "threads": threads,
        "single_us": round(single, 4),
        "textbook_us": None if textbook is None else round(textbook, 4),
        "ratio": None if textbook is None else round(textbook / lanes, 2),
    }


def _measure(experiment: Experiment, simulator: Simulator) -> float:
    """Wall-clock microseconds per client-step."""
    strategy = TinyMetaFed(experiment, simulator.manifest)
    start = initial(simulator.manifest, experiment.run.seed, experiment.model.init)
    received = downlink.decode(strategy.download(start), strategy.n_global)
    phases = strategy.training()
    steps = sum(phase.count * phase.passes for phase in phases)
    clients, best = simulator.lanes * simulator.threads, 0.0
    while best < SECONDS:
        clients *= 2
        samples = [_samples(simulator, clients, phase.count) for phase in phases]
        tests = Batch(np.empty((clients, 0), np.float32), np.empty((clients, 0), np.float32), 1.0)
        best = float("inf")
        for _ in range(REPEATS):
            began = time.perf_counter()
            simulator.adapt(received, phases, samples, tests)
            best = min(best, time.perf_counter() - began)
    return best * 1e6 / (clients * steps)


def _samples(simulator: Simulator, clients: int, count: int) -> Batch:
    """Samples as the device has them: its own, or grey levels made up here."""
    if simulator.manifest["source"] != "streamed":
        return simulator.samples(1, range(clients), 0, SampleSet.SUPPORT, count)
    rows = made_up(simulator.manifest, count)
    inputs = np.stack([row.inputs for row in rows])
    targets = np.stack([row.targets for row in rows])
    return Batch(np.repeat(inputs[None], clients, 0), np.repeat(targets[None], clients, 0), rows[0].scale)
