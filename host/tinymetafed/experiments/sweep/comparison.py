"""Rows of a sweep, or its variants client by client, compared with a baseline: paired differences and what they decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...learn.comparisons import Difference, Key, holm, paired, verdict
from ...learn.metric import Metric
from .spread import score


@dataclass(frozen=True)
class Comparison:
    """Scores compared with those of the sweep's baseline: their paired difference, over what both have.

    ``adjusted``: the difference's p value with Holm's correction for all comparisons of the sweep; ``verdict``: in words.
    """

    baseline: str
    difference: Difference
    adjusted: float | None
    verdict: str


def compare(scores: Mapping[str, Mapping[Key, float]], baseline: str, metric: Metric, unit: str) -> dict[str, Comparison]:
    """Compares each method with one of them.

    Args:
        scores: Scores of each method, by seed or by client.
        baseline: The method that the others are compared with.
        metric: What the scores are.
        unit: What they are of, as "seed".

    Returns:
        A comparison for every other method, in the same order.
    """
    others = [name for name in scores if name != baseline]
    differences = [paired(scores[name], scores[baseline]) for name in others]
    adjusted = holm([difference.p for difference in differences])
    return {
        name: Comparison(baseline, difference, p, verdict(difference, p, metric.higher_is_better, unit))
        for name, difference, p in zip(others, differences, adjusted, strict=True)
    }


def lines(compared: Mapping[str, Comparison], metric: Metric, unit: str) -> list[str]:
    """A heading, and a line for each method that is compared; none without any. Arguments as those of ``compare``."""
    if not compared:
        return []
    baseline = next(iter(compared.values())).baseline
    head = (
        f"Against {baseline}, {unit} by {unit}; p values of paired t tests with Holm's correction for {len(compared)} "
        f"comparison{'s' * (len(compared) != 1)}:"
    )
    return [head, *(f"{name}: {_line(each, metric, unit)}" for name, each in compared.items())]


def signed(found: Difference, metric: Metric) -> str:
    """A difference with its sign and its 95 % interval; "–" for none."""
    if found.mean is None:
        return "–"
    interval = "" if found.ci95 is None else f" ± {score(found.ci95, metric)}"
    size = score(abs(found.mean), metric)
    return f"{'-' if found.mean < 0 and float(size) else '+'}{size}{interval}"


def _line(compared: Comparison, metric: Metric, unit: str) -> str:
    found = compared.difference
    if found.mean is None:
        return f"not compared: no {unit} has scores for both"
    p = "" if compared.adjusted is None else f", p = {compared.adjusted:.3f}"
    return f"{signed(found, metric)} over {found.n} {unit}{'s' * (found.n != 1)}{p}: {compared.verdict}"
