"""The 95 % confidence interval of a mean over units that are independent of each other, by the cluster bootstrap.

Scores of one speaker, person or alphabet rise and fall together, so whole units are drawn again, with all their scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from . import prng, student_t

FEWEST_SHOWN = 3  # units whose interval is shown to readers: one of two is wider than any use
RESAMPLES = 2_000
_MOST_UNITS = 1_000  # of more, the mean is as good as normally distributed
_KEY = 0xB007  # of the draws: the same scores have the same interval on every machine
_NORMAL = 1.959963984540054  # the normal distribution's quantile for 95 %


def half_width(means: Sequence[float], shares: Sequence[float]) -> float | None:
    """Half the width of the interval, as the larger of the distances of its ends from the mean.

    A percentile interval of few units is too narrow, because drawing again loses a degree of freedom and its tails are those
    of a normal distribution: it is widened by sqrt(n / (n - 1)) and by the ratio of Student's quantile to the normal one.

    Args:
        means: The mean score of each unit.
        shares: Each unit's share of all scores, above 0; together 1.

    Returns:
        The half-width; None for fewer than two units, or if a mean is not finite.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 8.3 and 13.3; the widening: Hesterberg, "What Teachers
    Should Know About the Bootstrap", 2015, 3.3.
    """
    n = len(means)
    values, weights = np.asarray(means, np.float64), np.asarray(shares, np.float64)
    if n < 2 or not np.isfinite(values).all():
        return None
    mean = float(values @ weights)
    if n > _MOST_UNITS:
        influence = n * weights * (values - mean)
        return student_t.quantile(0.95, n - 1) * float(np.std(influence, ddof=1)) / math.sqrt(n)
    chosen = _resampled(n)
    drawn = weights[chosen]
    estimates = (drawn * values[chosen]).sum(axis=1) / drawn.sum(axis=1)
    low, high = np.quantile(estimates, (0.025, 0.975))
    widening = student_t.quantile(0.95, n - 1) / _NORMAL * math.sqrt(n / (n - 1))
    return float(widening * max(mean - low, high - mean, 0.0))


@lru_cache(maxsize=8)
def _resampled(n: int) -> NDArray[np.uint32]:
    """The units of each resample, [RESAMPLES, n]."""
    words, _ = prng.threefry((_KEY, n), np.arange(RESAMPLES, dtype=np.uint32)[:, None], np.arange(n, dtype=np.uint32))
    return words % np.uint32(n)
