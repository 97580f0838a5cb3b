"""Vector helpers that make the server's step read like the paper; explicit float32, always in client order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .codecs.delta import Sparse
from .weights import Floats


def mean(deltas: Sequence[Sparse], n: int) -> Floats:
    """Mean of sparse deltas as float32[n]; an entry that a client did not send counts as 0.

    Summed one client after the other: the order of a float sum is part of its result.
    """
    total = np.zeros(n, np.float32)
    for delta in deltas:
        total = total + delta.dense(n)
    return total if len(deltas) == 1 else total / np.float32(len(deltas))


def move(weights: Floats, change: Floats, alpha: np.float32) -> Floats:
    """g + α · change, elementwise in float32 (Reptile, Nichol et al. 2018; TinyMetaFed, Algorithm 1)."""
    moved: Floats = weights + alpha * change
    return moved
