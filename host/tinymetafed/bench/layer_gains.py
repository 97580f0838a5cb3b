"""Measures what training each layer gains, for ``model.gains``: by how much the loss of a client falls, to first order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen import layer_chain
from tinymetafed_codegen.spec import Experiment, PrivacySpec, SpecError

from ..federation.observer import Observer
from ..learn.weights import initial
from ..runs.setup import Setup, set_up
from ..simulation.kernels import open_kernels
from ..simulation.simulated_clients import SimulatedClients

CLIENTS = 64
DIGITS = 3  # of a gain; more would only be noise of the clients that are drawn


@dataclass(frozen=True)
class LayerGains:
    """The gain of each layer that boards share, relative to the largest one, by the layer's name; ``clients`` were measured."""

    gains: dict[str, float]
    clients: int

    def as_toml(self) -> str:
        """The key ``gains`` of the section [model]."""
        return f"gains = {{ {', '.join(f'{name} = {gain!r}' for name, gain in self.gains.items())} }}"


def everything_trains(experiment: Experiment) -> Experiment:
    """The experiment in which all layers train but those that are ``frozen``."""
    model = experiment.model.model_copy(update={"trainable": None, "gains": None})
    return experiment.model_copy(update={"model": model})


def measure(experiment: Experiment, source: str, data: Path | None, clients: int, observer: Observer) -> LayerGains:
    """Measures the gains of all layers from the experiment's initial weights, in the simulation.

    Each client trains once over its query set, as in a round. The gain of a layer is the mean over clients of the squared
    length of its change, relative to that of other layers: with one learning rate for all, the squared gradient of a client's
    loss. One step of SGD lowers the loss by that times the learning rate, to first order; its mean over clients is the trace
    of the layer's empirical Fisher information, from which TinyTrain (Kwon et al. 2023, section 2.2) scores layers too. Only
    training clients are asked.

    Args:
        experiment: The experiment; model.weights holds weights that have learned something, which gains depend on.
        source: Its name in errors.
        data: Folder of the task's data; None for the usual place.
        clients: How many training clients to measure, or all where there are fewer.
        observer: Is told of progress.

    Raises:
        SpecError: The strategy has no rounds. DataError: The data cannot be read. BuildError: The kernels cannot be compiled.
        TrainingFailed: A client's weights did not stay finite.
    """
    if not experiment.strategy.has_rounds:
        raise SpecError(
            f"{source}: strategy.kind = 'tinyol' has no rounds, so no gains can be measured; choose another strategy"
        )
    setup = set_up(_one_pass(experiment), source, data)
    asked, manifest = setup.experiment, setup.design.manifest
    weights = initial(manifest, asked.run.seed, asked.model.init)
    count = min(clients, setup.task.clients)
    kernels = open_kernels(setup.design, 1)
    observer.stage("measuring the gains of layers", count)
    simulated = SimulatedClients(kernels, setup.strategy, setup.task)
    squares: dict[str, list[float]] = {name: [] for name in _places(setup)}
    for first in range(0, count, kernels.lanes):
        for served in simulated.train(weights, range(first, min(first + kernels.lanes, count)), 0):
            assert served.outcome is not None  # a simulation skips no client
            change = served.outcome.dense(manifest.n_global)
            for name, places in _places(setup).items():
                squares[name].append(math.fsum(value * value for place in places for value in change[place].tolist()))
            observer.advance()
    means = {name: math.fsum(each) / count for name, each in squares.items()}
    largest = max(means.values()) or 1.0
    return LayerGains({name: float(f"{mean / largest:.{DIGITS}g}") for name, mean in means.items()}, count)


def _places(setup: Setup) -> dict[str, list[slice]]:
    """The places of each shared layer's tensors in the weight vector, by the layer's name."""
    made = layer_chain.layers(setup.experiment.model, setup.source, setup.experiment.data)
    tensors = setup.design.manifest.global_tensors
    found = {
        name: [tensor.place for tensor in tensors if tensor.name.rpartition(".")[0] in {op.name for op in ops}]
        for name, ops in made.items()
    }
    return {name: places for name, places in found.items() if places}


def _one_pass(experiment: Experiment) -> Experiment:
    """The experiment in which all layers train, one pass over the query set, and the whole delta comes back unrounded."""
    strategy = experiment.strategy.model_copy(
        update={
            "top_p": 100.0,
            "selection": "global",
            "uplink": "f32",
            "error_feedback": False,
            "global_passes": 1,
        }
    )
    plain = everything_trains(experiment)
    return plain.model_copy(update={"strategy": strategy, "privacy": PrivacySpec()})
