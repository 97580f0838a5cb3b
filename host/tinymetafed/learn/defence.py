"""Defences against boards that lie: deltas are shortened, trimmed or left out before the strategy averages them.

A defence takes the deltas of a round and gives deltas, so it works with every strategy. What it computes reaches the weights,
so every sum here has a fixed order (see ``total``): the same bits on every machine.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .codecs.delta import Sparse
from .weights import Floats

Doubles = npt.NDArray[np.float64]

NORMS = 50  # latest norms that the running median is taken of
FIRST_NORMS = 10  # before so many have come, FIRST_SHARE of the weights' norm stands for those that are missing
FIRST_SHARE = 0.1


def total(terms: Doubles) -> Doubles:
    """Sums along the last axis, always in the same order: second half onto first half until one is left.

    Args:
        terms: float64 [..., n].

    Returns:
        float64 [...].
    """
    size = terms.shape[-1]
    while size > 1:
        half = (size + 1) // 2
        joined = terms[..., :half].copy()
        joined[..., : size - half] += terms[..., half:size]
        terms, size = joined, half
    return terms[..., 0] if size else np.zeros(terms.shape[:-1])


def norm(values: Floats) -> float:
    """Euclidean norm of float32 values; in float64, whose range holds the square of every float32."""
    return math.sqrt(float(total(np.square(values.astype(np.float64)))))


def cosine(delta: Sparse, direction: Floats) -> float:
    """Cosine between the entries of a delta and the same entries of a direction, float32[n]; 0 if either is all zeros.

    Only the entries that came are compared: those that a client did not send say nothing about where it wants to go.
    """
    ours, theirs = delta.values.astype(np.float64), direction[delta.indices].astype(np.float64)
    lengths = norm(delta.values) * norm(direction[delta.indices])
    return float(total(ours * theirs)) / lengths if lengths > 0 else 0.0


def typical(norms: Sequence[float], weights: Floats) -> float:
    """The running median of the norms that came.

    Args:
        norms: Norms of deltas in order of time, those of this round included; the last NORMS count.
        weights: Global weights, float32[n]; FIRST_SHARE of their norm stands for norms that are missing in the first rounds.

    Returns:
        The lower median. Fewer than half of the boards cannot raise it above what honest boards send.

    Source: the bound of Sun et al. 2019, arXiv 1911.07963, section 4, which follows the run here instead of being given.
    """
    latest = list(norms[-NORMS:])
    if len(latest) < FIRST_NORMS:
        latest += [FIRST_SHARE * norm(weights)] * (FIRST_NORMS - len(latest))
    return statistics.median_low(latest)


def scaled(delta: Sparse, share: float) -> Sparse:
    """A delta times a factor from 0 to 1; computed in float64, as the factor of a huge delta is tiny."""
    if share == 1:
        return delta
    return Sparse(delta.indices, (delta.values.astype(np.float64) * share).astype(np.float32))


def trimmed_mean(deltas: Sequence[Sparse], n: int, liars: int) -> Sparse:
    """Coordinate-wise trimmed mean over the entries that came.

    Of the values of an entry, the ``liars`` largest and smallest are dropped, and the mean of the rest counts as that of all
    clients that sent the entry; those that did not send it count as 0, as in the plain mean. An entry that at most
    2 ``liars`` clients sent has no honest majority to trim by: it is left out.

    Args:
        deltas: One per client, in client order.
        n: Number of global weights.
        liars: Number of clients that may lie.

    Returns:
        One delta that stands for the mean of all.

    Source: Yin et al. 2018, arXiv 1803.01498, Definition 2; for entries that only some clients send.
    """
    sent = np.zeros((len(deltas), n), bool)
    values = np.full((len(deltas), n), np.inf, np.float32)  # what was not sent is sorted to the end
    for row, delta in enumerate(deltas):
        sent[row, delta.indices] = True
        values[row, delta.indices] = delta.values
    senders = sent.sum(axis=0)
    ordered = np.sort(values, axis=0)
    sums, kept = np.zeros(n, np.float32), np.maximum(senders - 2 * liars, 0)
    for row in range(liars, len(deltas)):
        counts = row < senders - liars
        sums[counts] += ordered[row][counts]
    indices = np.flatnonzero(kept)
    mean = sums[indices] / kept[indices].astype(np.float32)
    return Sparse(indices, mean * (senders[indices].astype(np.float32) / np.float32(len(deltas))))


def krum(deltas: Sequence[Sparse], n: int, liars: int) -> list[int]:
    """Multi-Krum: the clients whose deltas are closest to those of others.

    Args:
        deltas: One per client, in client order.
        n: Number of global weights; entries that were not sent are 0 in the distances.
        liars: Number of clients that may lie; there must be 2 ``liars`` + 3 clients or more.

    Returns:
        Positions of the ``len(deltas) - liars`` clients with the lowest scores, increasing.

    Source: Blanchard et al. 2017, arXiv 1703.02757, section 4 (Krum) and 7 (Multi-Krum).
    """
    dense = np.stack([delta.dense(n) for delta in deltas]).astype(np.float64)
    apart = np.stack([total(np.square(dense - row)) for row in dense])
    closest = np.sort(apart, axis=1)[:, 1 : len(deltas) - liars - 1]  # [0] is the delta itself
    scores = total(closest).tolist()
    chosen = sorted(range(len(deltas)), key=lambda i: (scores[i], i))[: len(deltas) - liars]
    return sorted(chosen)
