"""Speed of the simulation on this machine, compared with textbook kernels and JAX."""

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
from ..runs.setup import measured_design
from ..simulation.batches import Batch
from ..simulation.compilation import BOARD, compile_kernels
from ..simulation.kernels import Kernels, TrainingClients
from ..simulation.vector_units import VectorUnit, choose
from . import BenchError, jax_round, synthetic_samples
from .kernel_cost import TEXTBOOK, TEXTBOOK_OPS

REPEATS = 100  # the fastest one counts, because other load only makes it slower
SECONDS = 0.002  # least duration of one repeat; shorter than the time slice of a process on a busy machine


@dataclass(frozen=True)
class SimulationCost:
    """Microseconds per client and training step, with all lanes and threads full; loading samples into lanes is included.

    ``isa``: the vector unit. ``one_thread_us``: on one thread. ``speedup``: of all threads over one, in elapsed time;
    ``speedup_idle``: in processor time, which does not depend on other load; both None for one thread. ``single_us``: one
    client at a time. ``textbook_us``: one client at a time with textbook kernels; ``ratio``: how many times as long that
    takes. ``jax_us``: with JAX. They are None if an op is missing or JAX is not installed.
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
    """Measures simulated rounds.

    Args:
        experiment: The experiment.
        source: Its name in errors.
        unit: Name of a vector unit of this machine; None for the one that simulations use.
        threads: Threads to simulate on.
        observer: Is told of progress.

    Returns:
        The times.

    Raises:
        Error: BuildError, SpecError or BenchError.
    """
    observer.stage("compiling the simulation")
    chosen = choose(unit)
    designed = measured_design(experiment, source, BOARD)
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
        for trial in trials.values():  # in turn, so that other load affects all of them alike
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
    """Microseconds per client and step in JAX, on as many threads as it uses by default; None if JAX cannot train it."""
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
    """Repeated rounds of ``clients`` clients per thread; by default so many that a round takes at least SECONDS.

    ``best``: microseconds per client and step of the fastest round so far; ``best_cpu``: the same in processor time of all
    threads together.
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
        """The initial weights of every client, by tensor, in their shapes."""
        manifest, model = self.kernels.manifest, self._model
        start = local_start(manifest, model.local_start, model.local_start_scale)
        for tensor in manifest.global_tensors:
            start[tensor.name] = self.received[tensor.place].reshape(tensor.shape)
        return start

    def once(self) -> float:
        """Runs one round and returns its duration in seconds."""
        began, worked = time.perf_counter(), time.process_time()
        self.kernels.adapt(self.received, self.recipe, self.samples, self.taking_part, self._tests)
        took, work = time.perf_counter() - began, time.process_time() - worked
        self.best = min(self.best, took * 1e6 / self.steps)
        self.best_cpu = min(self.best_cpu, work * 1e6 / self.steps)
        return took


def _samples(kernels: Kernels, clients: int, count: int) -> Batch:
    """Samples for all clients: those that devices make themselves, or synthetic ones if they are streamed."""
    if not kernels.manifest.streamed:
        return kernels.samples(1, range(clients), 0, SampleSet.SUPPORT, count)
    rows = synthetic_samples(kernels.manifest, count)
    inputs = np.stack([row.inputs for row in rows]) >> 3  # small inputs, so that no model diverges
    targets = np.stack([row.targets for row in rows])
    if kernels.manifest.class_target:
        targets = np.arange(count, dtype=np.float32)[:, None] % kernels.manifest.output_size
    return Batch(np.repeat(inputs[None], clients, 0), np.repeat(targets[None], clients, 0), rows[0].scale)
