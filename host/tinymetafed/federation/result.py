"""Results as typed values: scores of unseen clients, their curve over numbers of samples, one client's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from tinymetafed_codegen.section import StrictJson

from ..learn.client_groups import ClientGroup
from ..learn.metric import Metric

Score = float | None  # in the task's metric; None for a model that diverged


@dataclass(frozen=True)
class UnitScore(StrictJson):
    """Mean scores of one independent unit, as a speaker; ``share``: its share of all scores of the meta-test."""

    name: str
    share: float
    before: Score
    after: Score


@dataclass(frozen=True)
class Scores(StrictJson):
    """The scores of a meta-test.

    ``before``, ``after``: means over tasks, before and after adaptation. ``after_ci95``: half-width of the 95 % confidence
    interval of ``after`` over independent units, None if there are too few. ``per_task``: each task's (before, after), () if
    not stored. ``n_independent``: how many independent units, each a ``unit`` as "speaker", the tasks share; None in older
    runs, whose interval is over clients. ``per_unit``: their scores, () if not stored, or if each task is a unit. ``group``:
    what the clients are for; None in older runs, where all were for the test.
    """

    metric: Metric
    before: Score
    after: Score
    after_ci95: float | None
    n_tasks: int
    n_clients: int
    per_task: tuple[tuple[Score, Score], ...]
    n_independent: int | None = field(default=None, kw_only=True)
    unit: str = field(default="client", kw_only=True)
    per_unit: tuple[UnitScore, ...] = field(default=(), kw_only=True)
    group: ClientGroup | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Evaluation(Scores):
    """A meta-test after ``round`` rounds, for which the run waited ``seconds``.

    ``bytes_down``, ``bytes_up``: bytes of all training so far, without samples. ``constant``: number of adapted networks
    that ignore their input; ``collapsed``: whether these are the majority. ``confusion``: as in ClassScores, () if not stored.
    ``kept_sha256``: SHA-256 of the evaluated weights if they were the best so far and are kept, "" otherwise.
    """

    round: int
    bytes_down: int
    bytes_up: int
    constant: int
    collapsed: bool
    seconds: float
    confusion: tuple[tuple[int, ...], ...] = ()
    kept_sha256: str = ""


@dataclass(frozen=True)
class ClassScores(StrictJson):
    """Results by class after adaptation, over the test samples of all tasks.

    ``confusion``: for each true class the number of samples that were predicted as each class, and at the end those without a
    prediction, because the model diverged. ``precision``: the right share of what was predicted as a class; ``recall``: the
    share of a class that was predicted right; None where there is nothing to share.
    """

    names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    precision: tuple[float | None, ...]
    recall: tuple[float | None, ...]

    @classmethod
    def of(cls, names: Sequence[str], confusion: tuple[tuple[int, ...], ...]) -> Self:
        """Computes precision and recall from a confusion matrix.

        Args:
            names: The classes in the order of their indices.
            confusion: As ``confusion`` of this class: a row for each class, with an entry more than there are classes.

        Returns:
            The results of all classes.
        """
        right = [row[i] for i, row in enumerate(confusion)]
        predicted = [sum(row[i] for row in confusion) for i in range(len(names))]
        return cls(
            names=tuple(names),
            confusion=confusion,
            precision=tuple(_share(part, whole) for part, whole in zip(right, predicted, strict=True)),
            recall=tuple(_share(part, sum(row)) for part, row in zip(right, confusion, strict=True)),
        )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class ClientScore(StrictJson):
    """Scores of one unseen client before and after adaptation; ``task`` describes its task in words."""

    client: int
    task: str
    before: Score
    after: Score


@dataclass(frozen=True)
class ClientSpread(StrictJson):
    """Distribution of the scores after adaptation over clients: percentiles, best and worst client.

    ``percentiles`` maps a percentage to the score of the client at that percentile, in increasing order of scores.
    """

    percentiles: dict[str, Score]
    best: ClientScore
    worst: ClientScore


@dataclass(frozen=True)
class FinalScores(Scores):
    """The meta-test at a run's end. ``classes``: None for values, and where a class means something else to each client."""

    spread: ClientSpread
    classes: ClassScores | None = None


@dataclass(frozen=True)
class DCurve(StrictJson):
    """The metric by number ``d`` of samples that a client adapts with; 0 is the model without adaptation.

    ``samples``: what ``d`` counts, in words. ``mean``: mean over tasks for each ``d``; ``ci95``: half-width of its 95 %
    confidence interval. ``n_independent``, ``unit``: as in Scores.
    """

    metric: Metric
    samples: str
    d: tuple[int, ...]
    mean: tuple[Score, ...]
    ci95: tuple[float | None, ...]
    n_tasks: int
    n_clients: int
    n_independent: int | None = None
    unit: str = "client"


@dataclass(frozen=True)
class CurveExample(StrictJson):
    """A client whose model has one input and one output: true and predicted values over ``x``, and its adaptation samples."""

    client: str
    x: tuple[Score, ...]
    truth: tuple[Score, ...]
    before: tuple[Score, ...]
    after: tuple[Score, ...]
    samples_x: tuple[Score, ...]
    samples_y: tuple[Score, ...]


@dataclass(frozen=True)
class ScatterExample(StrictJson):
    """A client of any other regression task: true and predicted values, all outputs flattened."""

    client: str
    true: tuple[Score, ...]
    before: tuple[Score, ...]
    after: tuple[Score, ...]


Example = CurveExample | ScatterExample


@dataclass(frozen=True)
class AdaptedClient(ClientScore):
    """Scores of one client.

    ``trained_on``: whether it took part in meta-training, so that it is not unseen; None if that cannot be found out.
    ``file``: the file with its adapted weights, None if they were not saved or its model diverged.
    """

    trained_on: bool | None = False
    file: str | None = None


@dataclass(frozen=True)
class Adaptation(StrictJson):
    """Scores of clients that each adapted with ``samples`` samples; ``before`` and ``after`` are means.

    ``notes``: what the reader of these scores must know, a line each.
    """

    metric: Metric
    samples: int
    before: Score
    after: Score
    clients: tuple[AdaptedClient, ...]
    classes: ClassScores | None = None
    notes: tuple[str, ...] = ()
