"""Meta-test: clients that never took part receive the initialisation, adapt to their own few samples, and are scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymetafed_codegen.protocol import Program, SampleSet, Status

from .device import Job, run
from .fleet import Fleet
from .learn.strategy import TinyMetaFed
from .learn.tasks import HELD_OUT, Floats, Samples, Task
from .learn.weights import Floats as Weights
from .link.errors import TrainingFailed
from .link.session import Session

_CONSTANT = 1e-3  # outputs that vary by less than this share of the targets' range do not depend on the input


class Collapsed(RuntimeError):
    """Training ended in a network that answers the same whatever it is shown."""


@dataclass(frozen=True)
class MetaTest:
    """Scores of each task before and after adaptation, float64 [tasks]; ``constant``: networks that ignore their input."""

    metric: str
    before: list[float]
    after: list[float]
    constant: int

    @property
    def collapsed(self) -> bool:
        """Whether most clients ended with a network that ignores its input: chance, however long one trains."""
        return 2 * self.constant > len(self.after)

    def summary(self) -> dict[str, Any]:
        """Means, the 95 % confidence half-width of the mean after adaptation, and every task's pair."""
        return {
            "metric": self.metric,
            "before": mean(self.before),
            "after": mean(self.after),
            "after_ci95": confidence(self.after),
            "n_tasks": len(self.after),
            "per_task": [[finite(score) for score in pair] for pair in zip(self.before, self.after, strict=True)],
        }


@dataclass(frozen=True)
class Adapted:
    """One client's adaptation: outputs on its test samples before and after."""

    client: int
    test: Samples
    before: Floats
    after: Floats


def finite(score: float) -> float | None:
    """A score as JSON can hold it: None for a model that diverged."""
    return score if math.isfinite(score) else None


def mean(scores: Sequence[float | None]) -> float | None:
    """Mean of scores; None as soon as one of them diverged."""
    known = [score for score in scores if score is not None]
    return finite(float(np.mean(known))) if len(known) == len(scores) else None


def confidence(scores: Sequence[float]) -> float | None:
    """Half-width of the 95 % confidence interval of the mean (normal approximation); None where there is none."""
    if len(scores) < 2 or not np.isfinite(scores).all():
        return None
    return 1.96 * float(np.std(scores, ddof=1)) / math.sqrt(len(scores))


def adapt(session: Session, strategy: TinyMetaFed, task: Task, weights: Weights, client: int, count: int) -> Adapted:
    """Adapts one client on one device with its first ``count`` samples; the program must be configured. Raises LinkError."""
    test = task.test_samples(client, 0)
    token = session.next_round()
    session.load(token, strategy.download(weights))
    before = _predict(session, task, test)
    job = Job(Program.ADAPT, strategy.adaptation(count), strategy.experiment.run.seed, client, 0)
    try:
        run(session, task, job, token)
    except TrainingFailed as failure:
        if failure.status not in (Status.NOT_FINITE, Status.OVERFLOW):
            raise
        # One client that diverges is a result, a bad one: it scores worst and the others go on.
        return Adapted(client, test, before, np.full_like(before, np.nan))
    return Adapted(client, test, before, _predict(session, task, test))


def configure(fleet: Fleet, strategy: TinyMetaFed, count: int) -> None:
    """Makes devices ready to adapt with ``count`` samples. Raises LinkError."""
    fleet.configure(Program.ADAPT, strategy.adaptation(count), 0, strategy.uplink)


def meta_test(
    fleet: Fleet,
    strategy: TinyMetaFed,
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
    configure(fleet, strategy, count)

    def one(session: Session, client: int) -> tuple[float, float, bool]:
        adapted = adapt(session, strategy, task, weights, client, count)
        on_task()
        return (
            task.score(adapted.before, adapted.test),
            task.score(adapted.after, adapted.test),
            _is_constant(task, adapted.after, adapted.test),
        )

    served = fleet.map([HELD_OUT + t for t in range(tasks)], one)
    scores = [each.outcome for each in served if each.outcome is not None]
    return MetaTest(task.metric, [s[0] for s in scores], [s[1] for s in scores], sum(s[2] for s in scores))


def _predict(session: Session, task: Task, test: Samples) -> Floats:
    if test.levels is not None:
        return session.predict(test.levels, task.output_size, test.scale)
    return session.predict(test.inputs, task.output_size)


def _is_constant(task: Task, outputs: Floats, test: Samples) -> bool:
    if not np.isfinite(outputs).all():
        return True
    if task.metric == "accuracy":
        return bool(np.unique(outputs.argmax(axis=1)).size == 1)
    return bool(np.ptp(outputs, axis=0).max() <= _CONSTANT * max(float(np.ptp(test.targets)), 1e-12))
