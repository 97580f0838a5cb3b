"""Speed of the simulation on this machine, compared with textbook kernels, JAX, PyTorch and the processor's limit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinymetafed_codegen import graph
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.memory.work import forward_multiply_accumulates, multiply_accumulates
from tinymetafed_codegen.protocol import Phase, SampleSet, Status
from tinymetafed_codegen.spec import Experiment

from ..federation.observer import Observer
from ..learn import aggregate
from ..learn.codecs import downlink
from ..learn.strategies import open_strategy
from ..learn.strategies.interface import choose_clients
from ..learn.weights import Floats, initial, local_start
from ..runs.setup import measured_design
from ..simulation.batches import Batch
from ..simulation.client_rounds import ClientRound, TrainingClients
from ..simulation.compilation import BOARD, compile_kernels
from ..simulation.kernels import Kernels
from ..simulation.vector_units import VectorUnit, choose
from . import BenchError, peer_rounds, synthetic_samples
from .kernel_cost import TEXTBOOK, TEXTBOOK_OPS
from .peak import Peak, Weights

WARM = 3  # times in a row, as the one before has filled the caches with its own data
REPEATS = 40  # the fastest one counts, because other load only makes it slower
BLOCK = 8  # clients per lane in one call, when many clients are measured
SECONDS = 0.002  # least duration of one repeat; shorter than the time slice of a process on a busy machine


@dataclass(frozen=True)
class ManyClients:
    """A round of ``clients`` clients: choosing them, their samples, training, coding, the sum of their updates.

    ``cpu_seconds``: processor time of all threads. ``seconds_per_million``: processor time of a million clients. ``held_kib``:
    memory of the clients under way, which does not grow with their number. ``bytes_up``: of all updates on the wire.
    """

    clients: int
    cpu_seconds: float
    seconds_per_million: float
    held_kib: int
    bytes_up: int


@dataclass(frozen=True)
class SimulationCost:
    """Microseconds per client and training step, with all lanes and threads full; loading samples into lanes is included.

    ``isa``: the vector unit. ``one_thread_us``: on one thread. ``speedup``: of all threads over one, in elapsed time;
    ``speedup_idle``: in processor time, which does not depend on other load; both None for one thread. ``single_us``: one
    client at a time. ``round_us``: a client's whole round on one thread, training and coding of its update, in processor
    time, with BLOCK clients of each lane in a call, as rounds of many are computed; ``coding_percent``: the coding's share.
    ``textbook_us``: one client at a time with textbook kernels; ``ratio``: how many times as long that takes; both None if an
    op is missing. ``cpu_us``: as ``one_thread_us``, in processor time. ``peers``: processor time in libraries that are
    installed and have the model's ops, by name, all clients in one call on one thread. ``peak_percent``: multiply-adds of the
    trained steps as a share of the most that this core does without fused ones. ``many``: a round of many clients, if it was
    asked for. ``weights_percent``: for a network that uses each weight once in a pass, the time of a loop with these products
    alone as a share of ``cpu_us``; None for others.
    """

    us_per_client_step: float
    lanes: int
    isa: str
    threads: int
    one_thread_us: float
    speedup: float | None
    speedup_idle: float | None
    single_us: float
    round_us: float
    coding_percent: float
    textbook_us: float | None
    ratio: float | None
    cpu_us: float
    peers: dict[str, float]
    peak_percent: float
    many: ManyClients | None = None
    weights_percent: float | None = None


def simulation(
    experiment: Experiment, source: str, unit: str | None, threads: int, observer: Observer, clients: int | None = None
) -> SimulationCost:
    """Measures simulated rounds.

    Args:
        experiment: The experiment.
        source: Its name in errors.
        unit: Name of a vector unit of this machine; None for the one that simulations use.
        threads: Threads to simulate on.
        observer: Is told of progress.
        clients: Number of clients of a round to measure in addition; None for no such round.

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
    trials["single"] = Trial(experiment, Kernels(library, manifest, 1, 1), trials["lanes"].clients)
    updates = Trial(experiment, trials["lanes"].kernels, BLOCK * chosen.lanes)
    if threads > 1:
        trials["threads"] = Trial(experiment, Kernels(library, manifest, chosen.lanes, threads), trials["lanes"].clients)
    lacking = {call.op.kind for call in designed.graph.forward} - TEXTBOOK_OPS
    if lacking:
        observer.event(f"no textbook version of {', '.join(sorted(lacking))} to compare with")
    else:
        observer.stage("compiling textbook kernels")
        plain = compile_kernels(designed, VectorUnit(chosen.name, 1, chosen.flags), TEXTBOOK)
        trials[TEXTBOOK] = Trial(experiment, Kernels(plain, manifest, 1, 1))
    peers = _peers(experiment, source, trials["lanes"], observer)
    peak = Peak(chosen)
    weights = _weights(designed, trials["lanes"].recipe.phases, peak)
    turns: list[Callable[[], object]] = [trial.once for trial in trials.values()]
    turns += [updates.once, updates.once_with_update, *(peer.once for peer in peers.values()), peak.once]
    turns += [each.once for each, _ in weights]
    observer.stage("training steps", REPEATS)
    for _ in range(REPEATS):
        for once in turns:  # in turn, so that other load affects all of them alike
            for _ in range(WARM):
                once()
        observer.advance()
    many = None if clients is None else _many(experiment, trials.get("threads", trials["lanes"]), clients, observer)
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
        round_us=round(updates.best_round, 2),
        coding_percent=round(100 * (1 - updates.best_cpu * updates.recipe.steps / updates.best_round), 1),
        textbook_us=None if textbook is None else round(textbook, 4),
        ratio=None if textbook is None else round(textbook / all_.best, 2),
        cpu_us=round(one.best_cpu, 4),
        peers={name: round(peer.best_cpu, 4) for name, peer in peers.items()},
        peak_percent=round(100 * _products(designed, one.recipe.phases) / one.best_cpu / peak.best, 1),
        many=many,
        weights_percent=round(100 * sum(each.best * share for each, share in weights) / one.best_cpu, 1) if weights else None,
    )


def _weights(designed: Design, phases: Sequence[Phase], peak: Peak) -> list[tuple[Weights, float]]:
    """For each phase a loop over the weights that its steps use, and its share of all steps; none if weights are used again."""
    net, steps = designed.graph, sum(phase.steps for phase in phases)
    used = sum(p.parameter.size for p in net.parameters if not p.parameter.is_bias)
    if net.frozen or forward_multiply_accumulates(net) != used:
        return []
    counted = [(multiply_accumulates(net, phase.variant) - used, phase.steps / steps) for phase in phases]
    # A layer's backward pass has two products for each of its weights, but for the lowest one, which has no input gradient.
    waits = math.prod(net.forward[-1].op.input_shape)  # additions of a sum of the last layer
    return [(peak.weights(used, min(used, -(-backward // 2)), waits), share) for backward, share in counted]


def _many(experiment: Experiment, trial: Trial, clients: int, observer: Observer) -> ManyClients:
    """Measures one round of many clients, a block of them after the other."""
    kernels, recipe = trial.kernels, trial.recipe
    strategy = open_strategy(experiment, kernels.manifest)
    block = BLOCK * kernels.lanes * kernels.threads
    observer.stage(f"a round of {clients:,} clients", math.ceil(clients / block))
    began = time.process_time()
    total, bytes_up, held = np.zeros(strategy.n_global, np.float32), 0, 0
    chosen = choose_clients(experiment.run.seed, 0, clients, clients)
    for at in range(0, clients, block):
        part = chosen[at : at + block]
        samples = [_samples(kernels, part, phase.count, phase.sample_set) for phase in recipe.phases]
        taking_part = TrainingClients(experiment.run.seed, part, 0)
        asked = ClientRound(trial.received, recipe, samples, taking_part, kernels.manifest.streamed)
        statuses, sent = kernels.add_round(total, asked)
        if any(status != Status.OK for status in statuses):
            raise BenchError("training failed; a learning rate that is too high is the usual cause")
        bytes_up += sent.message_bytes
        held = max(held, sum(batch.inputs.nbytes + batch.targets.nbytes for batch in samples) + 12 * recipe.top_k * len(part))
        observer.advance()
    aggregate.move(trial.received, total / np.float32(clients), strategy.alpha(0))
    took = time.process_time() - began
    return ManyClients(clients, round(took, 3), round(took / clients * 1e6, 1), held // 1024, bytes_up)


def _products(designed: Design, phases: Sequence[Phase]) -> float:
    """Multiply-adds of a training step, the mean over the steps of all phases."""
    counts = [multiply_accumulates(designed.graph, phase.variant) * phase.steps for phase in phases]
    return sum(counts) / sum(phase.steps for phase in phases)


def _peers(experiment: Experiment, source: str, trial: Trial, observer: Observer) -> dict[str, PeerTrial]:
    """The same clients in other libraries, by name; those that cannot train them are left out with a word."""
    net, found = graph.build(experiment.model, source), {}
    for name, compiled in peer_rounds.PEERS.items():
        observer.stage(f"compiling the round in {name}")
        try:
            found[name] = PeerTrial(compiled(net, trial.start(), trial.recipe.phases, trial.samples), trial.steps)
        except peer_rounds.PeerError as error:
            observer.event(str(error))
    return found


class PeerTrial:
    """Repeated rounds in another library; ``best_cpu``: microseconds of processor time per client and step of the fastest."""

    def __init__(self, train: peer_rounds.Round, steps: int) -> None:
        self._train = train
        self._steps = steps
        self.best_cpu = float("inf")
        train()  # compiles what is not compiled yet

    def once(self) -> None:
        """Trains the round once."""
        worked = time.process_time()
        self._train()
        self.best_cpu = min(self.best_cpu, (time.process_time() - worked) * 1e6 / self._steps)


class Trial:
    """Repeated rounds of ``clients`` clients per thread; by default so many that a round takes at least SECONDS.

    ``best``: microseconds per client and step of the fastest round so far; ``best_cpu``: the same in processor time of all
    threads together; ``best_round``: processor time per client of a round with its update.
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
        self.samples = [_samples(self.kernels, range(clients), phase.count) for phase in self.recipe.phases]
        nothing = np.empty((clients, 0), np.float32)
        self._tests = Batch(nothing, nothing)
        self.best = self.best_cpu = self.best_round = float("inf")

    def start(self) -> dict[str, Floats]:
        """The initial weights of every client, by tensor, in their shapes."""
        manifest, model = self.kernels.manifest, self._model
        start = local_start(manifest, model.local_start, model.local_start_scale)
        for tensor in manifest.global_tensors:
            start[tensor.name] = self.received[tensor.place].reshape(tensor.shape)
        return start

    def once(self) -> float:
        """Runs one round and returns its processor time in seconds."""
        began, worked = time.perf_counter(), time.process_time()
        self.kernels.adapt(self._round(), self._tests)
        took, work = time.perf_counter() - began, time.process_time() - worked
        self.best = min(self.best, took * 1e6 / self.steps)
        self.best_cpu = min(self.best_cpu, work * 1e6 / self.steps)
        return work

    def once_with_update(self) -> None:
        """Runs one round in which clients send their updates too."""
        total = np.zeros(self.received.size, np.float32)
        worked = time.process_time()
        self.kernels.add_round(total, self._round())
        work = time.process_time() - worked
        self.best_round = min(self.best_round, work * 1e6 / len(self.taking_part.numbers))

    def _round(self) -> ClientRound:
        return ClientRound(self.received, self.recipe, self.samples, self.taking_part, self.kernels.manifest.streamed)


def _samples(kernels: Kernels, clients: Sequence[int], count: int, chosen: SampleSet = SampleSet.SUPPORT) -> Batch:
    """Samples of the clients: those that devices make themselves, or synthetic ones if they are streamed."""
    if not kernels.manifest.streamed:
        return kernels.samples(1, clients, 0, chosen, count)
    rows = synthetic_samples(kernels.manifest, count)
    inputs = np.stack([row.inputs for row in rows]) >> 3  # small inputs, so that no model diverges
    targets = np.stack([row.targets for row in rows])
    if kernels.manifest.class_target:
        targets = np.arange(count, dtype=np.float32)[:, None] % kernels.manifest.output_size
    n = len(clients)
    return Batch(np.repeat(inputs[None], n, 0), np.repeat(targets[None], n, 0), rows[0].scale)
