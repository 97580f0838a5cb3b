"""Paired tests of differences over seeds, and Holm's correction for several of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from . import student_t


def p_value(differences: Sequence[float]) -> float | None:
    """The two-sided p value of Student's paired t test that the mean difference is 0.

    Args:
        differences: One for each independent pair, for instance each seed.

    Returns:
        From 0 to 1; None for fewer than two differences.
    """
    if len(differences) < 2:
        return None
    mean, error = float(np.mean(differences)), float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return 1 - student_t.coverage(abs(mean) / error, len(differences) - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of a family of tests, corrected so that any false rejection has at most the probability of one test.

    Args:
        p_values: Those of all tests of the family.

    Returns:
        The corrected p values, in the same order.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected
