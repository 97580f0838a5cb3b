"""Secure aggregation on the host: updates as integers, their masks, and the mean of a sum that hides its parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.options.secure_sum import MODULUS, SecureSumFacts

from . import prng
from .codecs.delta import Sparse, Values

Integers = npt.NDArray[np.uint16]  # modulo MODULUS
_PER_BLOCK = 32  # numbers in a block of 64 bytes


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
    """The first ``count`` numbers of a mask: those of ChaCha20 with the seed as key and nonce 0, RFC 8439."""
    blocks = -(-count // _PER_BLOCK)
    start = np.empty((16, blocks), np.uint32)
    start[:4] = np.frombuffer(b"expand 32-byte k", "<u4")[:, None]
    start[4:12] = np.frombuffer(seed, "<u4")[:, None]
    start[12:] = 0
    start[12] = np.arange(blocks)
    state = start.copy()
    for _ in range(10):
        for shift in (0, 1):  # columns, then diagonals
            a, b, c, d = (np.roll(state[4 * row : 4 * row + 4], -row * shift, axis=0) for row in range(4))
            for left, right in ((16, 12), (8, 7)):
                a = a + b
                d = _rotated(d ^ a, left)
                c = c + d
                b = _rotated(b ^ c, right)
            state = np.concatenate([np.roll(part, row * shift, axis=0) for row, part in enumerate((a, b, c, d))])
    numbers: Integers = np.frombuffer((state + start).T.astype("<u4").tobytes(), "<u2")[:count].astype(np.uint16)
    return numbers


def _rotated(words: prng.Words, left: int) -> prng.Words:
    rotated: prng.Words = words << np.uint32(left) | words >> np.uint32(32 - left)
    return rotated


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
