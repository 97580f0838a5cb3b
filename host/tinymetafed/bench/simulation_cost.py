"""How fast the simulation trains on this machine, beside textbook kernels compiled for it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from tinymetafed_codegen import graph
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import Experiment

from ..federation.observer import Observer
from ..learn.codecs import downlink
from ..learn.strategies import open_strategy
from ..learn.weights import Floats, initial, local_start
from ..runs.setup import design_of
from ..simulation.batches import Batch
from ..simulation.compilation import BOARD, compile_kernels
from ..simulation.kernels import Kernels, TrainingClients
from ..simulation.vector_units import VectorUnit, choose
from . import BenchError, jax_round, made_up
from .kernel_cost import TEXTBOOK, TEXTBOOK_OPS

REPEATS = 100  # the fastest counts: whatever else the machine does only makes it slower
SECONDS = 0.002  # that one of them takes at least: less than a busy machine lets a process run at a time


@dataclass(frozen=True)
class SimulationCost:
    """Microseconds per client and training step of a round, its samples put into the lanes, all lanes and threads full.

    ``isa`` is the vector unit. ``one_thread_us``: on one thread; ``speedup`` of the threads over it as the clock saw it,
    ``speedup_idle`` as the processor time of all threads together has it, of which a busy machine takes nothing away;
    None for one thread. ``single_us``: one client after the other. ``textbook_us``: that with textbook kernels, and
    ``ratio`` how many times as long it takes; ``jax_us``: a round vmapped and compiled by JAX; None where they lack an op or
    are not installed.
    """

    us_per_client_step: float
    lanes: int
    isa: str
    threads: int
    one_thread_us: float
    speedup: float | None
    speedup_idle: float | None
    single_us: float
    textbook_us: float | None
    ratio: float | None
    jax_us: float | None


def simulation(experiment: Experiment, source: str, unit: str | None, threads: int, observer: Observer) -> SimulationCost:
    """Measures a round on a vector unit of this machine (None: the one that simulations use).

    Raises BuildError, SpecError, BenchError.
    """
    observer.stage("compiling the simulation")
    chosen = choose(unit)
    designed = design_of(experiment, source, BOARD)
    manifest = designed.manifest
    if not open_strategy(experiment, manifest).training():
        raise BenchError(f"{source}: with strategy.kind = {experiment.strategy.kind!r} no client trains in a round")
    library = compile_kernels(designed, chosen)
    trials = {"lanes": Trial(experiment, Kernels(library, manifest, chosen.lanes, 1))}
    trials["single"] = Trial(experiment, Kernels(library, manifest, 1, 1))
    if threads > 1:
        trials["threads"] = Trial(experiment, Kernels(library, manifest, chosen.lanes, threads), trials["lanes"].clients)
    lacking = {call.op.kind for call in designed.graph.forward} - TEXTBOOK_OPS
    if lacking:
        observer.event(f"no textbook version of {', '.join(sorted(lacking))} to compare with")
    else:
        observer.stage("compiling textbook kernels")
        plain = compile_kernels(designed, VectorUnit(chosen.name, 1, chosen.flags), TEXTBOOK)
        trials[TEXTBOOK] = Trial(experiment, Kernels(plain, manifest, 1, 1))
    observer.stage("training steps", REPEATS)
    for _ in range(REPEATS):
        for trial in trials.values():  # in turn, so that what else the machine does disturbs all alike
            trial.once()
        observer.advance()
    jax_us = _jax_us(experiment, source, trials["lanes"], observer)
    one, all_ = trials["lanes"], trials.get("threads", trials["lanes"])
    textbook = trials[TEXTBOOK].best if TEXTBOOK in trials else None
    return SimulationCost(
        us_per_client_step=round(all_.best, 4),
        lanes=chosen.lanes,
        isa=chosen.name,
        threads=threads,
        one_thread_us=round(one.best, 4),
        speedup=round(one.best / all_.best, 2) if threads > 1 else None,
        speedup_idle=round(threads * one.best_cpu / all_.best_cpu, 2) if threads > 1 else None,
        single_us=round(trials["single"].best, 4),
        textbook_us=None if textbook is None else round(textbook, 4),
        ratio=None if textbook is None else round(textbook / all_.best, 2),
        jax_us=None if jax_us is None else round(jax_us, 4),
    )


def _jax_us(experiment: Experiment, source: str, trial: Trial, observer: Observer) -> float | None:
    """The clients of a trial in JAX, on the threads that it takes by itself; None where that is not to be had."""
    observer.stage("compiling JAX's round")
    try:
        net = graph.build(experiment.model, source)
        train = jax_round.compile_round(net, trial.start(), trial.recipe.phases, trial.samples)
    except jax_round.JaxError as error:
        observer.event(str(error))
        return None
    observer.stage("JAX's rounds", REPEATS)
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        train()
        best = min(best, time.perf_counter() - began)
        observer.advance()
    return best * 1e6 / trial.steps


class Trial:
    """Rounds of ``clients`` for each thread, as many as take a while unless given.

    ``best``: microseconds per client-step of the fastest round so far; ``best_cpu``: of processor time, all threads together.
    """

    def __init__(self, experiment: Experiment, kernels: Kernels, clients: int | None = None) -> None:
        strategy = open_strategy(experiment, kernels.manifest)
        start = initial(kernels.manifest, experiment.run.seed, experiment.model.init)
        self.received = downlink.decode(strategy.download(start), strategy.n_global)
        self.recipe = strategy.training_recipe()
        self.kernels = kernels
        self._model = experiment.model
        self.clients = clients or kernels.lanes
        self._prepare()
        while clients is None and self.once() < SECONDS:
            self.clients *= 2
            self._prepare()

    def _prepare(self) -> None:
        clients = self.clients * self.kernels.threads
        self.taking_part = TrainingClients(1, range(clients), 0)
        self.steps = clients * self.recipe.steps
        self.samples = [_samples(self.kernels, clients, phase.count) for phase in self.recipe.phases]
        nothing = np.empty((clients, 0), np.float32)
        self._tests = Batch(nothing, nothing)
        self.best = self.best_cpu = float("inf")

    def start(self) -> dict[str, Floats]:
        """The weights that every client begins with, by tensor, in their shapes."""
        manifest, model = self.kernels.manifest, self._model
        start = local_start(manifest, model.local_start, model.local_start_scale)
        for tensor in manifest.global_tensors:
            start[tensor.name] = self.received[tensor.place].reshape(tensor.shape)
        return start

    def once(self) -> float:
        """Seconds that one round took."""
        began, worked = time.perf_counter(), time.process_time()
        self.kernels.adapt(self.received, self.recipe, self.samples, self.taking_part, self._tests)
        took, work = time.perf_counter() - began, time.process_time() - worked
        self.best = min(self.best, took * 1e6 / self.steps)
        self.best_cpu = min(self.best_cpu, work * 1e6 / self.steps)
        return took


def _samples(kernels: Kernels, clients: int, count: int) -> Batch:
    """Samples as the device has them: its own, or grey levels made up here."""
    if not kernels.manifest.streamed:
        return kernels.samples(1, range(clients), 0, SampleSet.SUPPORT, count)
    rows = made_up(kernels.manifest, count)
    inputs = np.stack([row.inputs for row in rows]) >> 3  # dark enough for any model to stay finite
    targets = np.stack([row.targets for row in rows])
    if kernels.manifest.class_target:
        targets = np.arange(count, dtype=np.float32)[:, None] % kernels.manifest.output_size
    return Batch(np.repeat(inputs[None], clients, 0), np.repeat(targets[None], clients, 0), rows[0].scale)
