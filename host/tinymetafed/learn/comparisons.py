"""Comparisons of two methods over the same seeds: paired differences, their test, and Holm's correction of many tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from . import student_t

FEWEST_SEEDS = 8  # of fewer, a difference is not decided
LEVEL = 0.05  # of all comparisons of a family together


@dataclass(frozen=True)
class Difference:
    """Scores of one method minus those of another, seed by seed.

    ``n``: seeds that both have. ``mean``: None without any. ``ci95``: half-width of the mean's 95 % confidence interval. ``p``:
    how probable so large a mean is if there is no difference. ``ci95`` and ``p`` are None for fewer than two seeds.
    """

    n: int
    mean: float | None
    ci95: float | None
    p: float | None


def paired(ours: Mapping[int, float], theirs: Mapping[int, float], expected: float = 0.0) -> Difference:
    """The difference of scores that belong together, because a seed chooses the same clients for both methods.

    Args:
        ours: Scores by seed.
        theirs: Scores by seed, from which ours are counted.
        expected: The difference that ``p`` is about: how far the mean is from it.

    Returns:
        The difference, by Student's paired t test.

    Source: Student, "The Probable Error of a Mean", Biometrika 6, 1908; for methods over splits: Dietterich, "Approximate
    Statistical Tests for Comparing Supervised Classification Learning Algorithms", 1998.
    """
    apart = np.array([ours[seed] - theirs[seed] for seed in ours if seed in theirs], np.float64)
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


def verdict(difference: Difference, adjusted: float | None, higher_is_better: bool) -> str:
    """Whether a method is better or worse than the one that it is compared with.

    Args:
        difference: Its paired difference.
        adjusted: The difference's p value after Holm's correction.
        higher_is_better: Whether a larger score is the better one.

    Returns:
        "better", "worse" or "undecided"; for fewer than FEWEST_SEEDS seeds "undecided: too few seeds".
    """
    if difference.n < FEWEST_SEEDS:
        return f"undecided: too few seeds ({difference.n} of {FEWEST_SEEDS})"
    if adjusted is None or difference.mean is None or adjusted > LEVEL:
        return "undecided"
    return "better" if (difference.mean > 0) == higher_is_better else "worse"
