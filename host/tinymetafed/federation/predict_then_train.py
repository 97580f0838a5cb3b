"""Predict, then train: the score of a client that learns from a stream, on each sample just before it trains on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinymetafed_codegen.protocol import SampleSet

from ..learn.strategies import Strategy
from ..learn.tasks import Floats, Samples, Task
from .clients import Clients
from .meta_test import Group, finite, mean, over_clients
from .result import Scores

LONGEST = 128  # samples of a client that are predicted; each needs an adaptation with those before it


def is_online(strategy: Strategy) -> bool:
    """Whether an unseen client trains on each of its samples once, so that it could do so as they come."""
    phases = strategy.adaptation(strategy.experiment.task.count(SampleSet.ADAPT))
    return sum(phase.passes for phase in phases) == 1


def predict_then_train(
    clients: Clients,
    strategy: Strategy,
    task: Task,
    weights: Floats,
    tasks: int,
    on_task: Callable[[], None] = lambda: None,
    group: Group | None = None,
) -> Scores:
    """Scores unseen clients on the samples that they adapt with, each predicted by the model as the samples before it left it.

    Of many samples the first LONGEST count.

    Args:
        clients: Clients of the experiment.
        strategy: Strategy of the experiment, with which a client trains on each sample once.
        task: Task of the experiment.
        weights: float32[n_global], the global weights.
        tasks: Number of tasks, one unseen client each.
        on_task: Called after each task.
        group: The clients to take; None for the test clients.

    Returns:
        ``before``: the scores of the model that does not train, on the same samples; ``after``: those of the one that does.

    Raises:
        LinkError: Devices failed.

    Source: TinyOL, Ren et al., arXiv 2103.08295; the method is known as prequential evaluation (Dawid 1984).
    """
    group = group or Group.test(task)
    numbers = [group.client(t) for t in range(tasks)]
    count = min(strategy.experiment.task.count(SampleSet.ADAPT), LONGEST)
    stream = {client: task.samples(client, 0, SampleSet.ADAPT, count) for client in numbers}
    untrained = clients.adapt(weights, numbers, 0, on_task, stream.__getitem__)
    predicted = [[each.before[:1]] for each in untrained]
    for done in range(1, count):
        following = clients.adapt(weights, numbers, done, test_of=lambda client, at=done: _one(stream[client], at))  # type: ignore[misc]
        for outputs, each in zip(predicted, following, strict=True):
            outputs.append(each.after)
    before = [task.score(each.before, each.test) for each in untrained]
    after = [task.score(_joined(outputs), stream[client]) for client, outputs in zip(numbers, predicted, strict=True)]
    n_clients = min(tasks, group.count)
    per_task = tuple((finite(one), finite(other)) for one, other in zip(before, after, strict=True))
    return Scores(task.metric, mean(before), mean(after), over_clients(after, n_clients), tasks, n_clients, per_task)


def _one(samples: Samples, at: int) -> Samples:
    """A single one of some samples."""
    here = slice(at, at + 1)
    levels = None if samples.levels is None else samples.levels[here]
    return Samples(samples.inputs[here], samples.targets[here], levels, samples.scale)


def _joined(outputs: Sequence[Floats]) -> Floats:
    return np.concatenate(outputs)
