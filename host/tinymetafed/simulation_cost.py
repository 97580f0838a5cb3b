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
from .learn.strategies import open_strategy
from .learn.weights import initial
from .runner import Observer
from .simulator import BOARD, Batch, Simulator, Unit, Whose, build, units

REPEATS = 100  # the fastest counts: whatever else the machine does only makes it slower
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
    trials = {"lanes": _Trial(experiment, Simulator(library, manifest, chosen.lanes, threads))}
    trials["single"] = _Trial(experiment, Simulator(library, manifest, 1, 1))
    lacking = {call.op.kind for call in graph.build(experiment.model, source).forward} - TEXTBOOK_OPS
    if lacking:
        observer.event(f"no textbook version of {', '.join(sorted(lacking))} to compare with")
    else:
        observer.stage("compiling textbook kernels")
        plain = build(experiment, source, Unit(chosen.name, 1, chosen.flags), TEXTBOOK)
        trials[TEXTBOOK] = _Trial(experiment, Simulator(plain, manifest, 1, 1))
    observer.stage("training steps", REPEATS)
    for _ in range(REPEATS):
        for trial in trials.values():  # in turn, so that what else the machine does disturbs all alike
            trial.once()
        observer.advance()
    best = {name: trial.best for name, trial in trials.items()}
    textbook = best.get(TEXTBOOK)
    return {
        "us_per_client_step": round(best["lanes"], 4),
        "lanes": chosen.lanes,
        "isa": chosen.name,
        "threads": threads,
        "single_us": round(best["single"], 4),
        "textbook_us": None if textbook is None else round(textbook, 4),
        "ratio": None if textbook is None else round(textbook / best["lanes"], 2),
    }


class _Trial:
    """Rounds of as many clients as take a while; ``best``: wall-clock microseconds per client-step of the fastest so far."""

    def __init__(self, experiment: Experiment, simulator: Simulator) -> None:
        strategy = open_strategy(experiment, simulator.manifest)
        start = initial(simulator.manifest, experiment.run.seed, experiment.model.init)
        self._received = downlink.decode(strategy.download(start), strategy.n_global)
        self._phases = strategy.training()
        self._simulator = simulator
        self._clients = simulator.lanes * simulator.threads
        self._prepare()
        while self.once() < SECONDS:
            self._clients *= 2
            self._prepare()

    def _prepare(self) -> None:
        self._samples = [_samples(self._simulator, self._clients, phase.count) for phase in self._phases]
        nothing = np.empty((self._clients, 0), np.float32)
        self._tests = Batch(nothing, nothing, 1.0)
        self.best = float("inf")

    def once(self) -> float:
        """Seconds that one round took."""
        began = time.perf_counter()
        whose = Whose(1, range(self._clients), 0)
        self._simulator.adapt(self._received, self._phases, self._samples, whose, self._tests)
        took = time.perf_counter() - began
        steps = self._clients * sum(phase.count * phase.passes for phase in self._phases)
        self.best = min(self.best, took * 1e6 / steps)
        return took


def _samples(simulator: Simulator, clients: int, count: int) -> Batch:
    """Samples as the device has them: its own, or grey levels made up here."""
    if simulator.manifest["source"] != "streamed":
        return simulator.samples(1, range(clients), 0, SampleSet.SUPPORT, count)
    rows = made_up(simulator.manifest, count)
    inputs = np.stack([row.inputs for row in rows])
    targets = np.stack([row.targets for row in rows])
    return Batch(np.repeat(inputs[None], clients, 0), np.repeat(targets[None], clients, 0), rows[0].scale)
