"""Meta-test: held-out clients receive the global weights, adapt with a few samples of their own, and are scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import SampleSet

from ..learn import cluster_bootstrap, student_t
from ..learn.client_groups import ClientGroup
from ..learn.metric import Metric, predicted
from ..learn.strategies import Strategy
from ..learn.tasks import ANY_NUMBER, HELD_OUT, VALIDATION, DataError, Floats, Samples, Task, is_held_out
from ..learn.weights import Floats as Weights
from .clients import Adapted, Clients
from .result import (
    ClassScores,
    ClientScore,
    ClientSpread,
    DCurve,
    Evaluation,
    Score,
    UnitScore,
)

SHOTS = (1, 2, 4, 8, 16)  # adaptation samples per class (TinyMetaFed, Table 5)
VALUE_SHOTS = (*SHOTS, 32)  # adaptation samples in all, where the task does not count them per class
PERCENTILES = (10, 25, 50, 75, 90)
_CONSTANT = 1e-3  # outputs that vary by less than this share of the targets' range count as constant


class Collapsed(Error):
    """Training ended in a network whose outputs do not depend on its input."""


@dataclass(frozen=True)
class Group:
    """A part of the held-out clients: ``count`` of every ``of`` numbers, from ``first`` on. Its tasks are numbered from 0."""

    kind: ClientGroup
    first: int
    count: int
    of: int

    @classmethod
    def test(cls, task: Task) -> Self:
        """The clients of the final report: nothing is chosen by them, and nobody looks at them on the way."""
        if task.unseen_clients == ANY_NUMBER:
            return cls(ClientGroup.TEST, 0, ANY_NUMBER, ANY_NUMBER)
        return cls(ClientGroup.TEST, 0, task.unseen_clients - task.n_validation, task.unseen_clients)

    @classmethod
    def validation(cls, task: Task) -> Self:
        """The clients of every score during the run, which weights and settings are chosen by. Raises DataError without any."""
        if not task.n_validation:
            raise DataError(
                "there are no validation clients, which are needed to choose weights and settings: too few clients are held "
                f"out to keep some of them out of the test; {task.spec.more_validation}"
            )
        if task.unseen_clients == ANY_NUMBER:
            return cls(ClientGroup.VALIDATION, VALIDATION - HELD_OUT, ANY_NUMBER, ANY_NUMBER)
        first = task.unseen_clients - task.n_validation
        return cls(ClientGroup.VALIDATION, first, task.n_validation, task.unseen_clients)

    @classmethod
    def named(cls, task: Task, kind: ClientGroup) -> Self:
        """The clients of a group, TEST or VALIDATION. Raises DataError if there are none."""
        return cls.validation(task) if kind is ClientGroup.VALIDATION else cls.test(task)

    def client(self, number: int) -> int:
        """The client of a task; numbers beyond ``count`` are further splits of the same clients' data."""
        return HELD_OUT + number // self.count * self.of + self.first + number % self.count


@dataclass(frozen=True)
class MetaTest:
    """Scores of each task before and after adaptation; for a diverged model the metric's worst score.

    ``constant``: number of adapted networks that ignore their input. ``n_clients``: number of clients that the tasks
    belong to, in turn. ``confusion``: as in result.ClassScores, () where classes have no names. ``units``: the scores of the
    independent units, each a ``unit`` as "speaker"; () where each client is one. ``group``: what these clients are for; None
    in older runs.
    """

    metric: Metric
    before: list[float]
    after: list[float]
    constant: int
    n_clients: int
    confusion: tuple[tuple[int, ...], ...] = ()
    units: tuple[UnitScore, ...] = ()
    unit: str = "client"
    group: ClientGroup | None = None

    @property
    def collapsed(self) -> bool:
        """Whether the majority of adapted networks ignore their input, so that more training cannot help."""
        return 2 * self.constant > len(self.after)

    def evaluation(self, trained: int, bytes_down: int, bytes_up: int, seconds: float) -> Evaluation:
        """The journal's entry of this test: means, every task's scores, and the state of the run.

        Args:
            trained: Rounds trained so far.
            bytes_down: Training bytes sent to clients so far, without samples.
            bytes_up: Training bytes received from clients so far, without samples.
            seconds: Duration of the test.
        """
        pairs = zip(self.before, self.after, strict=True)
        return Evaluation(
            metric=self.metric,
            before=mean(self.before),
            after=mean(self.after),
            after_ci95=self.confidence,
            n_tasks=len(self.after),
            n_clients=self.n_clients,
            per_task=tuple((finite(before), finite(after)) for before, after in pairs),
            round=trained,
            bytes_down=bytes_down,
            bytes_up=bytes_up,
            constant=self.constant,
            collapsed=self.collapsed,
            seconds=seconds,
            confusion=self.confusion,
            n_independent=len(self.independent),
            unit=self.unit,
            per_unit=self.units if len(self.units) < len(self.after) else (),
            group=self.group,
        )

    @cached_property
    def independent(self) -> tuple[UnitScore, ...]:
        """The scores of the independent units."""
        return self.units or by_client(self.before, self.after, self.n_clients)

    @property
    def confidence(self) -> float | None:
        """Half-width of the 95 % confidence interval of the mean score after adaptation, over independent units."""
        return interval_of([unit.after for unit in self.independent], self.independent, len(self.after))

    @classmethod
    def of(cls, evaluation: Evaluation) -> Self:
        """The meta-test that an ``evaluation`` describes; it must have the scores of its tasks (``per_task``)."""
        worst = evaluation.metric.worst
        before, after = ([worst if s is None else s for s in column] for column in zip(*evaluation.per_task, strict=True))
        return cls(
            evaluation.metric,
            before,
            after,
            evaluation.constant,
            evaluation.n_clients,
            evaluation.confusion,
            evaluation.per_unit,
            evaluation.unit,
            evaluation.group,
        )

    def spread(self, task: Task, group: Group | None = None) -> ClientSpread:
        """Percentiles of the scores after adaptation, each the score of one client, and the best and worst client.

        Args:
            task: Task of the experiment.
            group: The clients that were scored; None for the test clients.
        """
        group = group or Group.test(task)
        ordered = sorted(range(len(self.after)), key=lambda t: (self.after[t], t))
        nearest = [ordered[max(math.ceil(p / 100 * len(ordered)), 1) - 1] for p in PERCENTILES]
        best, worst = ordered[0], ordered[-1]
        if self.metric.higher_is_better:
            best, worst = worst, best
        return ClientSpread(
            percentiles={str(p): finite(self.after[t]) for p, t in zip(PERCENTILES, nearest, strict=True)},
            best=self._client(task, group.client(best), best),
            worst=self._client(task, group.client(worst), worst),
        )

    def _client(self, task: Task, client: int, number: int) -> ClientScore:
        before, after = finite(self.before[number]), finite(self.after[number])
        return ClientScore(client - HELD_OUT, task.describe(client), before, after)


def finite(score: float) -> Score:
    """The score as JSON can hold it: None if it is not finite."""
    return score if math.isfinite(score) else None


def mean(scores: Sequence[Score]) -> Score:
    """Mean of scores; None if one of them is None or the mean is not finite."""
    known = [score for score in scores if score is not None]
    return finite(float(np.mean(known))) if len(known) == len(scores) else None


def confidence(scores: Sequence[float]) -> float | None:
    """Half-width of the mean's 95 % confidence interval (Student's t); None for a single score or if one is not finite."""
    if len(scores) < 2 or not np.isfinite(scores).all():
        return None
    return student_t.quantile(0.95, len(scores) - 1) * float(np.std(scores, ddof=1)) / math.sqrt(len(scores))


def interval_of(scores: Sequence[Score], units: Sequence[UnitScore], tasks: int) -> float | None:
    """Half-width of the 95 % confidence interval of a mean score; None if there are too few units.

    Args:
        scores: A score of each unit.
        units: The independent units.
        tasks: Number of tasks. If each is a unit, the interval is Student's; otherwise units are drawn again.
    """
    known = [math.nan if score is None else score for score in scores]
    if len(units) == tasks:
        return confidence(known)
    return cluster_bootstrap.half_width(known, [unit.share for unit in units])


def by_client(before: Sequence[float], after: Sequence[float], clients: int) -> tuple[UnitScore, ...]:
    """Scores by client, whose tasks take turns: splits of one client's data are no independent tests."""
    return tuple(
        UnitScore(
            name=str(client),
            share=len(after[client::clients]) / len(after),
            before=mean(before[client::clients]),
            after=mean(after[client::clients]),
        )
        for client in range(clients)
    )


def by_unit(task: Task, adapted: Sequence[Adapted], before: Sequence[float], after: Sequence[float]) -> tuple[UnitScore, ...]:
    """The scores of adapted clients by independent unit, each with the test samples that are its own.

    Args:
        task: Task of the experiment.
        adapted: The clients.
        before: The score of each client before it adapted, which is that of its unit where all of its samples are of one.
        after: Its score after it.
    """
    sums: dict[str, tuple[float, float, float]] = {}
    for each, *whole in zip(adapted, before, after, strict=True):
        units = task.units(each.client)
        distinct = dict.fromkeys(units)
        names = np.array(units) if len(distinct) > 1 else None
        for name in distinct:
            part, scores = 1.0, whole
            if names is not None:
                own = names == name
                part = float(own.mean())
                scores = [task.metric.score(outputs[own], each.test.targets[own]) for outputs in (each.before, each.after)]
            share, total = part / len(adapted), sums.get(name, (0.0, 0.0, 0.0))
            sums[name] = (total[0] + share, total[1] + share * scores[0], total[2] + share * scores[1])
    return tuple(
        UnitScore(name, share, finite(before / share), finite(after / share)) for name, (share, before, after) in sums.items()
    )


def meta_test(
    clients: Clients,
    strategy: Strategy,
    task: Task,
    weights: Weights,
    tasks: int,
    count: int | None = None,
    on_task: Callable[[], None] = lambda: None,
    group: Group | None = None,
) -> MetaTest:
    """Adapts and scores held-out clients.

    Args:
        clients: Clients of the experiment.
        strategy: Strategy of the experiment.
        task: Task of the experiment.
        weights: float32[n_global], the global weights.
        tasks: Number of tasks, one held-out client each.
        count: Samples that each adapts with; None for the task's own number.
        on_task: Called after each task.
        group: The clients to take; None for the test clients.

    Returns:
        The scores of all tasks.

    Raises:
        LinkError: Devices failed.
    """
    count = strategy.experiment.task.count(SampleSet.ADAPT) if count is None else count
    group = group or Group.test(task)
    adapted = _adapt(clients, weights, tasks, count, on_task, group)
    before = [task.score(each.before, each.test) for each in adapted]
    after = [task.score(each.after, each.test) for each in adapted]
    return MetaTest(
        task.metric,
        before,
        after,
        sum(_is_constant(task, each.after, each.test) for each in adapted),
        min(tasks, group.count),
        confusion(task, adapted),
        by_unit(task, adapted, before, after),
        task.unit,
        group.kind,
    )


def _adapt(
    clients: Clients, weights: Weights, tasks: int, count: int, on_task: Callable[[], None], group: Group
) -> list[Adapted]:
    """Adapts the held-out clients of ``tasks`` tasks with ``count`` samples each. Raises LinkError."""
    adapted = clients.adapt(weights, [group.client(t) for t in range(tasks)], count, on_task)
    assert all(is_held_out(each.client) for each in adapted)
    return adapted


def shots(task: Task, own: int) -> list[int]:
    """Numbers of adaptation samples to test, besides 0.

    Args:
        task: Task of the experiment.
        own: The experiment's own number of samples, all classes together.

    Returns:
        The numbers of the paper's table for which clients have enough samples, and the experiment's own; per class where
        the task has classes.

    Source: TinyMetaFed, Table 5.
    """
    unit = task.spec.classes
    tried = SHOTS if unit > 1 else VALUE_SHOTS
    return sorted({own // unit, *(d for d in tried if d * unit <= task.adapt_limit)})


def d_curve(
    clients: Clients,
    strategy: Strategy,
    task: Task,
    weights: Weights,
    final: MetaTest,
    on_task: Callable[[], None],
    group: Group | None = None,
) -> DCurve:
    """The metric by number of adaptation samples, for the clients of the ``final`` meta-test.

    Args:
        clients: Clients of the experiment.
        strategy: Strategy of the experiment.
        task: Task of the experiment.
        weights: float32[n_global], the global weights.
        final: The final meta-test, whose scores are reused.
        on_task: Called after each task.
        group: The clients of the final meta-test; None for the test clients.

    Returns:
        The curve.

    Raises:
        LinkError: Devices failed.
    """
    own = strategy.experiment.task.count(SampleSet.ADAPT)
    unit = task.spec.classes
    group = group or Group.test(task)
    tried = shots(task, own)
    before = [each.before for each in final.independent]
    scores, ci95 = [final.before], [interval_of(before, final.independent, len(final.after))]
    for d in tried:
        if d * unit == own:
            scores.append(final.after)
            ci95.append(final.confidence)
        else:
            adapted = _adapt(clients, weights, len(final.after), d * unit, on_task, group)
            scores.append([task.score(each.after, each.test) for each in adapted])
            units = by_unit(task, adapted, final.before, scores[-1])
            ci95.append(interval_of([each.after for each in units], units, len(final.after)))
    return DCurve(
        metric=task.metric,
        samples="labelled samples per class" if unit > 1 else "labelled samples",
        d=(0, *tried),
        mean=tuple(mean(each) for each in scores),
        ci95=tuple(ci95),
        n_tasks=len(final.after),
        n_clients=final.n_clients,
        n_independent=len(final.independent),
        unit=final.unit,
    )


def confusion(task: Task, adapted: Sequence[Adapted]) -> tuple[tuple[int, ...], ...]:
    """The confusion matrix (see result.ClassScores) of adapted clients; () where classes have no names."""
    if not task.class_names:
        return ()
    size = len(task.class_names)
    counts = np.zeros((size, size + 1), np.int64)
    for each in adapted:
        known = np.asarray(np.isfinite(each.after).all(axis=1))
        column = np.where(known, predicted(np.where(known[:, None], each.after, 0)), size)
        np.add.at(counts, (each.test.targets[:, 0].astype(np.int64), column), 1)
    return tuple(map(tuple, counts.tolist()))


def class_scores(task: Task, counts: tuple[tuple[int, ...], ...]) -> ClassScores | None:
    """The results by class of a confusion matrix; None without one."""
    return ClassScores.of(task.class_names, counts) if counts else None


def _is_constant(task: Task, outputs: Floats, test: Samples) -> bool:
    if not np.isfinite(outputs).all():
        return True
    if task.shapes.is_classification:
        return bool(np.unique(predicted(outputs)).size == 1)
    return bool(np.ptp(outputs, axis=0).max() <= _CONSTANT * max(float(np.ptp(test.targets)), 1e-12))
