"""Comparisons of two methods over the same seeds or clients: paired differences, their test, Holm's correction of many."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from . import student_t

Key = TypeVar("Key", bound=Hashable)  # what scores belong together by: a seed, or a client

FEWEST = 8  # of fewer seeds or clients, a difference is not decided
LEVEL = 0.05  # of all comparisons of a family together


@dataclass(frozen=True)
class Difference:
    """Scores of one method minus those of another, seed by seed or client by client.

    ``n``: seeds or clients that both have. ``mean``: None without any. ``ci95``: half-width of the mean's 95 % confidence
    interval. ``p``: how probable so large a mean is if there is no difference. ``ci95`` and ``p`` are None for fewer than two.
    """

    n: int
    mean: float | None
    ci95: float | None
    p: float | None


def paired(ours: Mapping[Key, float], theirs: Mapping[Key, float], expected: float = 0.0) -> Difference:
    """The difference of scores that belong together: of the same client, or of a seed, which chooses the same for both methods.

    Args:
        ours: Scores by seed or client.
        theirs: Scores by the same, from which ours are counted.
        expected: The difference that ``p`` is about: how far the mean is from it.

    Returns:
        The difference, by Student's paired t test.

    Source: Student, "The Probable Error of a Mean", Biometrika 6, 1908; for methods over splits: Dietterich, "Approximate
    Statistical Tests for Comparing Supervised Classification Learning Algorithms", 1998.
    """
    apart = np.array([ours[key] - theirs[key] for key in ours if key in theirs], np.float64)
    n = len(apart)
    if not n or not np.isfinite(apart).all():
        return Difference(n, None, None, None)
    mean = float(apart.mean())
    if n < 2:
        return Difference(n, mean, None, None)
    error = float(apart.std(ddof=1)) / math.sqrt(n)
    ci95 = student_t.quantile(0.95, n - 1) * error
    if error == 0:
        return Difference(n, mean, ci95, 1.0 if mean == expected else 0.0)
    return Difference(n, mean, ci95, 1 - student_t.coverage(abs(mean - expected) / error, n - 1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusts p values of a family of comparisons, so that one below 0.05 among them is so by chance in 5 % of families.

    Args:
        p_values: One of each comparison; None for one that was not made, which does not count.

    Returns:
        The adjusted values in the same order, at most 1.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    made = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(made):
        largest = max(largest, min(1.0, (len(made) - rank) * p))
        adjusted[i] = largest
    return adjusted


def verdict(difference: Difference, adjusted: float | None, higher_is_better: bool, unit: str = "seed") -> str:
    """Whether a method is better or worse than the one that it is compared with.

    Args:
        difference: Its paired difference.
        adjusted: The difference's p value after Holm's correction.
        higher_is_better: Whether a larger score is the better one.
        unit: What the difference is over, as "seed" or "client".

    Returns:
        "better", "worse" or "undecided"; for fewer than FEWEST "undecided: too few seeds".
    """
    if difference.n < FEWEST:
        return f"undecided: too few {unit}s ({difference.n} of {FEWEST})"
    if adjusted is None or difference.mean is None or adjusted > LEVEL:
        return "undecided"
    return "better" if (difference.mean > 0) == higher_is_better else "worse"
