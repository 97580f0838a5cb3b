"""What a run reached, as typed values: scores of unseen clients, their curve over samples, one client's predictions."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ..learn.metric import Metric

_STRICT = ConfigDict(extra="forbid")  # what another version wrote is refused, not read by half

Score = float | None  # in the task's metric; None for a model that diverged


@dataclass(frozen=True, config=_STRICT)
class Scores:
    """What a meta-test came to.

    ``before`` and ``after`` adaptation: means over tasks. ``after_ci95``: half-width of the 95 % confidence interval of
    ``after``, None where there is none. ``per_task``: every task's (before, after), () where they were not kept.
    """

    metric: Metric
    before: Score
    after: Score
    after_ci95: float | None
    n_tasks: int
    n_clients: int
    per_task: tuple[tuple[Score, Score], ...]


@dataclass(frozen=True, config=_STRICT)
class Evaluation(Scores):
    """A meta-test after ``round`` rounds, which took ``seconds``.

    ``bytes_down`` and ``bytes_up``: sent for training until then, samples not counted. ``constant``: how many adapted
    networks ignore their input; ``collapsed``: whether those are most of them.
    """

    round: int
    bytes_down: int
    bytes_up: int
    constant: int
    collapsed: bool
    seconds: float


@dataclass(frozen=True, config=_STRICT)
class ClientScore:
    """One unseen client by its number and in words, before and after it adapted."""

    client: int
    task: str
    before: Score
    after: Score


@dataclass(frozen=True, config=_STRICT)
class ClientSpread:
    """What a mean over clients hides: by percent, the score that so many of them stay below or reach; the best, the worst."""

    percentiles: dict[str, Score]
    best: ClientScore
    worst: ClientScore


@dataclass(frozen=True, config=_STRICT)
class FinalScores(Scores):
    """The meta-test at a run's end."""

    spread: ClientSpread


@dataclass(frozen=True, config=_STRICT)
class DCurve:
    """The metric by number ``d`` of samples that a client adapts with; 0 is the model as it arrives.

    ``samples`` says what is counted. ``mean`` over tasks and ``ci95``, the half-width of its 95 % interval, are by ``d``.
    """

    metric: Metric
    samples: str
    d: tuple[int, ...]
    mean: tuple[Score, ...]
    ci95: tuple[float | None, ...]
    n_tasks: int
    n_clients: int


@dataclass(frozen=True, config=_STRICT)
class CurveExample:
    """A client whose task is one number from one: true and predicted values over ``x``, and the samples it adapted with."""

    client: str
    x: tuple[Score, ...]
    truth: tuple[Score, ...]
    before: tuple[Score, ...]
    after: tuple[Score, ...]
    samples_x: tuple[Score, ...]
    samples_y: tuple[Score, ...]


@dataclass(frozen=True, config=_STRICT)
class ScatterExample:
    """A client of any other task that learns values: ``true`` ones and predicted ones, all outputs in a row."""

    client: str
    true: tuple[Score, ...]
    before: tuple[Score, ...]
    after: tuple[Score, ...]


Example = CurveExample | ScatterExample


@dataclass(frozen=True, config=_STRICT)
class Adaptation:
    """Unseen clients, each adapted with ``samples`` samples, and their means before and after."""

    metric: Metric
    samples: int
    before: Score
    after: Score
    clients: tuple[ClientScore, ...]
