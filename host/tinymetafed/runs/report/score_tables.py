"""Tables of a run's scores: by percentile of clients, and by class."""

from __future__ import annotations

from dataclasses import dataclass

from ...federation.result import ClassScores, FinalScores
from .wording import Scale, count


@dataclass(frozen=True)
class ClientTable:
    """As text: percentiles over clients, and the best and worst client (which, number, task, before, after)."""

    percentiles: list[tuple[str, str]]
    ends: list[tuple[str, str, str, str, str]]


@dataclass(frozen=True)
class ClassTable:
    """As text: the classes' names, and for each class its samples by prediction, precision and recall.

    ``columns``: the names, and at the end "none" if a model that diverged predicted nothing.
    """

    columns: list[str]
    rows: list[tuple[str, list[str], str, str]]


def client_table(meta_test: FinalScores, scale: Scale) -> ClientTable:
    """Percentiles over clients, and the best and worst client."""
    spread = meta_test.spread
    return ClientTable(
        percentiles=[(f"{percent} %", scale.text(score)) for percent, score in spread.percentiles.items()],
        ends=[
            (which, count(client.client), client.task, scale.text(client.before), scale.text(client.after))
            for which, client in (("best", spread.best), ("worst", spread.worst))
        ],
    )


def class_table(classes: ClassScores) -> ClassTable:
    """The confusion matrix with precision and recall."""
    undecided = any(row[-1] for row in classes.confusion)
    rows = zip(classes.names, classes.confusion, classes.precision, classes.recall, strict=True)
    return ClassTable(
        columns=[*classes.names, *(["none"] if undecided else [])],
        rows=[
            (name, [count(number) for number in (counts if undecided else counts[:-1])], _percent(precision), _percent(recall))
            for name, counts, precision, recall in rows
        ],
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"
