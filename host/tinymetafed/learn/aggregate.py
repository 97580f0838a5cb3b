"""Vector operations of the server's update, as the papers write it; explicit float32, always in client order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .codecs.delta import Sparse
from .weights import Floats


def mean(deltas: Sequence[Sparse], n: int) -> Floats:
    """Mean of sparse deltas; an entry that a client did not send counts as 0.

    Args:
        deltas: One per client, in client order. A float sum depends on its order, so they are added one after the other.
        n: Number of global weights.

    Returns:
        float32[n].
    """
    total = np.zeros(n, np.float32)
    for delta in deltas:
        total[delta.indices] += delta.values
    return total if len(deltas) == 1 else total / np.float32(len(deltas))


def move(weights: Floats, change: Floats, alpha: np.float32) -> Floats:
    """weights + alpha · change, elementwise in float32.

    Source: Reptile, Nichol et al. 2018; TinyMetaFed, Algorithm 1.
    """
    moved: Floats = weights + alpha * change
    return moved
