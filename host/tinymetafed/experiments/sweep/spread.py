"""Scores of a sweep as text, and their mean with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ...federation.meta_test import confidence
from ...learn.metric import Metric


@dataclass(frozen=True)
class Spread:
    """Statistics over seeds: mean, standard deviation, half-width of the mean's 95 % confidence interval (None: unknown)."""

    mean: float | None
    sd: float | None
    ci95: float | None

    @classmethod
    def of(cls, scores: Sequence[float]) -> Self:
        """Statistics with Student's t interval: all None if a score is not finite, only the mean for a single score."""
        if not scores or not np.isfinite(scores).all():
            return cls(None, None, None)
        sd = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
        return cls(float(np.mean(scores)), sd, confidence(scores))


def score(value: float | None, metric: Metric) -> str:
    """A score as text: accuracy in percent, an error as a plain number."""
    return "–" if value is None else f"{100 * value:.1f}" if metric == Metric.ACCURACY else f"{value:.3f}"


def with_interval(spread: Spread, metric: Metric) -> str:
    """A mean and its 95 % interval as text."""
    interval = "" if spread.ci95 is None else f" ± {score(spread.ci95, metric)}"
    return f"{score(spread.mean, metric)}{interval}"
