"""How fast the simulation trains on this machine, beside textbook kernels compiled for it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tinymetafed_codegen import graph
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import Experiment

from .. import runner
from ..learn import downlink
from ..learn.strategies import open_strategy
from ..learn.weights import initial
from ..runner import Observer
from ..simulator import BOARD, Batch, Simulator, Unit, build, units
from . import made_up
from .kernel_cost import TEXTBOOK, TEXTBOOK_OPS

REPEATS = 100  # the fastest counts: whatever else the machine does only makes it slower
SECONDS = 0.002  # that one of them takes at least: less than a busy machine lets a process run at a time


def simulation(experiment: Experiment, source: str, unit: str | None, threads: int, observer: Observer) -> dict[str, Any]:
    """Microseconds per client and training step of a round, its samples put into the lanes, all lanes and threads full.

    ``unit`` names a vector unit of this machine (None: the one that simulations use). ``one_thread_us``: the same on one
    thread, ``speedup`` of the threads over it as the clock saw it, ``speedup_idle`` as the processor time of all threads
    together has it, of which a busy machine takes nothing away; None for one thread. ``single_us``: one client after the
    other, ``textbook_us``: with textbook kernels, None where they lack an op. Raises FirmwareError, SpecError.
    """
    observer.stage("compiling the simulation")
    chosen = units()[unit] if unit else next(iter(units().values()))
    manifest = runner.manifest_of(experiment, source, BOARD)
    library = build(experiment, source, chosen)
    trials = {"lanes": _Trial(experiment, Simulator(library, manifest, chosen.lanes, 1))}
    trials["single"] = _Trial(experiment, Simulator(library, manifest, 1, 1))
    if threads > 1:
        trials["threads"] = _Trial(experiment, Simulator(library, manifest, chosen.lanes, threads), trials["lanes"].clients)
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
    one, all_ = trials["lanes"], trials.get("threads", trials["lanes"])
    textbook = trials[TEXTBOOK].best if TEXTBOOK in trials else None
    return {
        "us_per_client_step": round(all_.best, 4),
        "lanes": chosen.lanes,
        "isa": chosen.name,
        "threads": threads,
        "one_thread_us": round(one.best, 4),
        "speedup": round(one.best / all_.best, 2) if threads > 1 else None,
        "speedup_idle": round(threads * one.best_cpu / all_.best_cpu, 2) if threads > 1 else None,
        "single_us": round(trials["single"].best, 4),
        "textbook_us": None if textbook is None else round(textbook, 4),
        "ratio": None if textbook is None else round(textbook / all_.best, 2),
    }


class _Trial:
    """Rounds of ``clients`` for each thread, as many as take a while unless given.

    ``best``: microseconds per client-step of the fastest round so far; ``best_cpu``: of processor time, all threads together.
    """

    def __init__(self, experiment: Experiment, simulator: Simulator, clients: int | None = None) -> None:
        strategy = open_strategy(experiment, simulator.manifest)
        start = initial(simulator.manifest, experiment.run.seed, experiment.model.init)
        self._received = downlink.decode(strategy.download(start), strategy.n_global)
        self._phases = strategy.training()
        self._simulator = simulator
        self.clients = clients or simulator.lanes
        self._prepare()
        while clients is None and self.once() < SECONDS:
            self.clients *= 2
            self._prepare()

    def _prepare(self) -> None:
        self._all = self.clients * self._simulator.threads
        self._samples = [_samples(self._simulator, self._all, phase.count) for phase in self._phases]
        nothing = np.empty((self._all, 0), np.float32)
        self._tests = Batch(nothing, nothing, 1.0)
        self.best = self.best_cpu = float("inf")

    def once(self) -> float:
        """Seconds that one round took."""
        began, worked = time.perf_counter(), time.process_time()
        self._simulator.adapt(self._received, self._phases, self._samples, self._tests)
        took, work = time.perf_counter() - began, time.process_time() - worked
        per_step = 1e6 / (self._all * sum(phase.count * phase.passes for phase in self._phases))
        self.best, self.best_cpu = min(self.best, took * per_step), min(self.best_cpu, work * per_step)
        return took


def _samples(simulator: Simulator, clients: int, count: int) -> Batch:
    """Samples as the device has them: its own, or grey levels made up here."""
    if simulator.manifest["source"] != "streamed":
        return simulator.samples(1, range(clients), 0, SampleSet.SUPPORT, count)
    rows = made_up(simulator.manifest, count)
    inputs = np.stack([row.inputs for row in rows])
    targets = np.stack([row.targets for row in rows])
    return Batch(np.repeat(inputs[None], clients, 0), np.repeat(targets[None], clients, 0), rows[0].scale)
