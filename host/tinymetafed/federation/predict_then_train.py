"""Predict, then train: the score of a client that learns from a stream, on each sample just before it trains on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinymetafed_codegen.protocol import SampleSet

from ..learn.strategies import Strategy
from ..learn.tasks import Floats, Samples, Task
from .clients import Adapted, Clients
from .meta_test import Group, by_unit, interval_of, mean
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
        ``before``: the score of the model that does not train, on the same samples; ``after``: that of the one that does. There
        is no interval where a client's samples are of several independent units.

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
    for at in range(1, count):
        next_ones = {client: _one(stream[client], at) for client in numbers}
        following = clients.adapt(weights, numbers, at, test_of=next_ones.__getitem__)
        for outputs, each in zip(predicted, following, strict=True):
            outputs.append(each.after)
    done = [
        Adapted(each.client, stream[each.client], each.before, np.concatenate(outputs))
        for each, outputs in zip(untrained, predicted, strict=True)
    ]
    before = [task.score(each.before, each.test) for each in done]
    after = [task.score(each.after, each.test) for each in done]
    mixed = any(len(task.units(client)) > 1 for client in numbers)
    units = () if mixed else by_unit(task, done, before, after)
    return Scores(
        metric=task.metric,
        before=mean(before),
        after=mean(after),
        after_ci95=None if mixed else interval_of([unit.after for unit in units], units, tasks),
        n_tasks=tasks,
        n_clients=min(tasks, group.count),
        per_task=(),
        n_independent=None if mixed else len(units),
        unit=task.unit,
        group=group.kind,
    )


def _one(samples: Samples, at: int) -> Samples:
    """A single one of some samples."""
    here = slice(at, at + 1)
    levels = None if samples.levels is None else samples.levels[here]
    return Samples(samples.inputs[here], samples.targets[here], levels, samples.scale)
