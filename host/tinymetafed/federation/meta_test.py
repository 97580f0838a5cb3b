"""Meta-test: clients that never took part receive the initialisation, adapt to their own few samples, and are scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import SampleSet

from ..learn import student_t
from ..learn.metric import Metric, predicted
from ..learn.strategies import Strategy
from ..learn.tasks import HELD_OUT, Floats, Samples, Task, is_held_out
from ..learn.weights import Floats as Weights
from .clients import Clients
from .result import ClientScore, ClientSpread, CurveExample, DCurve, Evaluation, Example, ScatterExample, Score

SHOTS = (1, 2, 4, 8, 16)  # samples that adapt, per class where the task counts so (paper, Table 5)
VALUE_SHOTS = (*SHOTS, 32)  # of all classes or values together
PERCENTILES = (10, 25, 50, 75, 90)
_CONSTANT = 1e-3  # outputs that vary by less than this share of the targets' range do not depend on the input


class Collapsed(Error):
    """Training ended in a network that answers the same whatever it is shown."""


@dataclass(frozen=True)
class MetaTest:
    """Scores of each task before and after adaptation, float64 [tasks], infinite or 0 where a model diverged.

    ``constant``: how many adapted networks ignore their input. ``n_clients``: how many clients the tasks belong to.
    """

    metric: Metric
    before: list[float]
    after: list[float]
    constant: int
    n_clients: int

    @property
    def collapsed(self) -> bool:
        """Whether most clients ended with a network that ignores its input: chance, however long one trains."""
        return 2 * self.constant > len(self.after)

    def evaluation(self, trained: int, bytes_down: int, bytes_up: int, seconds: float) -> Evaluation:
        """Means and every task's pair, with what the run had come to: rounds trained, bytes sent, seconds of the test."""
        pairs = zip(self.before, self.after, strict=True)
        return Evaluation(
            metric=self.metric,
            before=mean(self.before),
            after=mean(self.after),
            after_ci95=confidence(self.after),
            n_tasks=len(self.after),
            n_clients=self.n_clients,
            per_task=tuple((finite(before), finite(after)) for before, after in pairs),
            round=trained,
            bytes_down=bytes_down,
            bytes_up=bytes_up,
            constant=self.constant,
            collapsed=self.collapsed,
            seconds=seconds,
        )

    @classmethod
    def of(cls, evaluation: Evaluation) -> Self:
        """What gave an ``evaluation`` that has its tasks."""
        worst = evaluation.metric.worst
        before, after = ([worst if s is None else s for s in column] for column in zip(*evaluation.per_task, strict=True))
        return cls(evaluation.metric, before, after, evaluation.constant, evaluation.n_clients)

    def spread(self, task: Task) -> ClientSpread:
        """Percentiles after adaptation, each the score of a client (None: one that diverged), and the best and worst client."""
        ordered = sorted(range(len(self.after)), key=lambda t: (self.after[t], t))
        nearest = [ordered[max(math.ceil(p / 100 * len(ordered)), 1) - 1] for p in PERCENTILES]
        best, worst = ordered[0], ordered[-1]
        if self.metric.higher_is_better:
            best, worst = worst, best
        return ClientSpread(
            percentiles={str(p): finite(self.after[t]) for p, t in zip(PERCENTILES, nearest, strict=True)},
            best=self._client(task, best),
            worst=self._client(task, worst),
        )

    def _client(self, task: Task, number: int) -> ClientScore:
        before, after = finite(self.before[number]), finite(self.after[number])
        return ClientScore(number, task.describe(HELD_OUT + number), before, after)


def finite(score: float) -> Score:
    """A score as JSON can hold it: None for a model that diverged."""
    return score if math.isfinite(score) else None


def mean(scores: Sequence[Score]) -> Score:
    """Mean of scores; None as soon as one of them diverged."""
    known = [score for score in scores if score is not None]
    return finite(float(np.mean(known))) if len(known) == len(scores) else None


def confidence(scores: Sequence[float]) -> float | None:
    """Half-width of the mean's 95 % confidence interval (Student's t); None for a single score, or one that is not finite."""
    if len(scores) < 2 or not np.isfinite(scores).all():
        return None
    return student_t.quantile(0.95, len(scores) - 1) * float(np.std(scores, ddof=1)) / math.sqrt(len(scores))


def meta_test(
    clients: Clients,
    strategy: Strategy,
    task: Task,
    weights: Weights,
    tasks: int,
    count: int | None = None,
    on_task: Callable[[], None] = lambda: None,
) -> MetaTest:
    """Scores ``tasks`` held-out clients, each adapted with ``count`` samples (default: the task's own number).

    Raises LinkError.
    """
    count = strategy.experiment.task.count(SampleSet.ADAPT) if count is None else count
    adapted = clients.adapt(weights, [HELD_OUT + t for t in range(tasks)], count, on_task)
    assert all(is_held_out(each.client) for each in adapted)
    return MetaTest(
        task.metric,
        [task.score(each.before, each.test) for each in adapted],
        [task.score(each.after, each.test) for each in adapted],
        sum(_is_constant(task, each.after, each.test) for each in adapted),
        min(tasks, task.unseen_clients),
    )


def shots(task: Task, own: int) -> list[int]:
    """Numbers of samples to try beside none: those of the papers' table as far as clients have them, and the ``own`` one."""
    unit = task.spec.classes
    tried = SHOTS if unit > 1 else VALUE_SHOTS
    return sorted({own // unit, *(d for d in tried if d * unit <= task.adapt_limit)})


def d_curve(
    clients: Clients, strategy: Strategy, task: Task, weights: Weights, final: MetaTest, on_task: Callable[[], None]
) -> DCurve:
    """The metric over the samples that a client adapts with (D), for the clients of the ``final`` meta-test.

    Raises LinkError.
    """
    own = strategy.experiment.task.count(SampleSet.ADAPT)
    unit = task.spec.classes
    tried, scores = shots(task, own), [final.before]
    for d in tried:
        known = d * unit == own
        test = final if known else meta_test(clients, strategy, task, weights, len(final.after), d * unit, on_task)
        scores.append(test.after)
    return DCurve(
        metric=task.metric,
        samples="labelled samples per class" if unit > 1 else "labelled samples",
        d=(0, *tried),
        mean=tuple(mean(each) for each in scores),
        ci95=tuple(confidence(each) for each in scores),
        n_tasks=len(final.after),
        n_clients=final.n_clients,
    )


def example(clients: Clients, strategy: Strategy, task: Task, weights: Weights) -> Example | None:
    """Where values are learned, the first unseen client's predictions before and after beside the truth. Raises LinkError."""
    if task.shapes.is_classification:
        return None
    count = strategy.experiment.task.count(SampleSet.ADAPT)
    (shown,) = clients.adapt(weights, [HELD_OUT], count)
    client, test = task.describe(HELD_OUT), shown.test
    truth, before, after = _row(test.targets), _row(shown.before), _row(shown.after)
    if task.input_shape != (1,) or task.output_size != 1:
        return ScatterExample(client, truth, before, after)
    samples = task.samples(HELD_OUT, 0, SampleSet.ADAPT, count)
    return CurveExample(client, _row(test.inputs), truth, before, after, _row(samples.inputs), _row(samples.targets))


def _row(values: Floats) -> tuple[Score, ...]:
    """All values in a row; None for one that is not finite."""
    return tuple(finite(value) for value in values.ravel().tolist())


def _is_constant(task: Task, outputs: Floats, test: Samples) -> bool:
    if not np.isfinite(outputs).all():
        return True
    if task.shapes.is_classification:
        return bool(np.unique(predicted(outputs)).size == 1)
    return bool(np.ptp(outputs, axis=0).max() <= _CONSTANT * max(float(np.ptp(test.targets)), 1e-12))
