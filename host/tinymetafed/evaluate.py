"""Meta-test: clients that never took part receive the initialisation, adapt to their own few samples, and are scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymetafed_codegen.protocol import SampleSet

from .clients import Clients
from .learn.strategies import Strategy
from .learn.tasks import HELD_OUT, Floats, Samples, Task, predicted
from .learn.weights import Floats as Weights

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
    return MetaTest(
        task.metric,
        [task.score(each.before, each.test) for each in adapted],
        [task.score(each.after, each.test) for each in adapted],
        sum(_is_constant(task, each.after, each.test) for each in adapted),
    )


def _is_constant(task: Task, outputs: Floats, test: Samples) -> bool:
    if not np.isfinite(outputs).all():
        return True
    if task.metric == "accuracy":
        return bool(np.unique(predicted(outputs)).size == 1)
    return bool(np.ptp(outputs, axis=0).max() <= _CONSTANT * max(float(np.ptp(test.targets)), 1e-12))
