"""Secure aggregation on the host: updates as integers, their masks, and the mean of a sum that hides its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.secure_sum import ENTRIES_PER_BLOCK, MODULUS, SecureSumFacts

from .codecs.delta import Sparse, Values

Integers = npt.NDArray[np.uint16]  # modulo MODULUS


def integers(values: Values, facts: SecureSumFacts) -> Integers:
    """Rounds the entries of an update as a board does: clipped, to the nearest integer, ties to even, modulo 65536.

    Args:
        values: float32 of any shape.
        facts: The integers of the experiment.

    Returns:
        uint16 of the same shape.
    """
    with np.errstate(over="ignore"):  # what is too large is clipped
        scaled = values * np.float32(1 / facts.step)
    levels = np.float32(facts.levels)
    rounded: Integers = np.rint(np.clip(scaled, -levels, levels)).astype(np.int32).astype(np.uint16)
    return rounded


def stream(seed: bytes, count: int) -> Integers:
    """The first ``count`` numbers of a mask: BLAKE2s of the seed and the number of each block of 16."""
    blocks = range(-(-count // ENTRIES_PER_BLOCK))
    data = b"".join(hashlib.blake2s(seed + block.to_bytes(4, "little")).digest() for block in blocks)
    return np.frombuffer(data, "<u2")[:count].astype(np.uint16)


def mean(updates: Sequence[Sparse], facts: SecureSumFacts) -> Sparse:
    """The mean of updates that only their sum shows.

    Args:
        updates: The integers of each participant, as float32, with masks that cancel or without any; all have the same indices.
        facts: The integers of the experiment.

    Returns:
        The sum modulo 65536 as signed number, times the step, divided by the number of updates. The order does not matter.

    Source: Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning, CCS 2017.
    """
    total = np.zeros(updates[0].values.shape, np.int64)
    for update in updates:
        total += update.values.astype(np.int64)
    signed = (total + MODULUS // 2) % MODULUS - MODULUS // 2
    scaled = signed.astype(np.float32) * np.float32(facts.step)
    return Sparse(updates[0].indices, scaled / np.float32(len(updates)))
