"""Counter-based random numbers: Threefry-2x32 with 20 rounds, the same on the host and on every board.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11. firmware/core/prng.hpp does the same in C++.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.protocol import Stream

Words = npt.NDArray[np.uint32]

INDEX_BITS = 24
MAX_INDEX = 1 << INDEX_BITS
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
LARGEST = _MASK = 0xFFFFFFFF  # of a word
_FEW = 8  # up to this many draws Python's integers are faster than NumPy's arrays


def _threefry(key: tuple[int, int], x: Any, y: Any) -> tuple[Any, Any]:
    """The cipher on two Python integers or on two uint32 arrays; the masks are needed for integers only."""
    keys = (key[0], key[1], _PARITY ^ key[0] ^ key[1])
    x = (x + keys[0]) & _MASK
    y = (y + keys[1]) & _MASK
    for group in range(1, 6):
        for rotation in _ROTATIONS[(group - 1) & 1]:
            x = (x + y) & _MASK
            y = ((y << rotation | y >> (32 - rotation)) & _MASK) ^ x
        x = (x + keys[group % 3]) & _MASK
        y = (y + ((keys[(group + 1) % 3] + group) & _MASK)) & _MASK
    return x, y


def threefry(key: tuple[int, int], first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[Words, Words]:
    """Threefry-2x32-20.

    Args:
        key: Two integers in 0..2^32-1.
        first: First words of the counters, integers in 0..2^32-1.
        second: Second words; broadcast with ``first``.

    Returns:
        Two uint32 arrays of the counters' shape.

    Raises:
        ValueError: A key or a counter is out of range.

    Source: Salmon et al., SC'11.
    """
    if not all(0 <= word <= _MASK for word in key):
        raise ValueError(f"key {key}: expected two integers in 0..2^32-1")
    a, b = _words(first), _words(second)
    counters = np.broadcast(a, b)
    if counters.size > _FEW:
        return _threefry(key, *np.broadcast_arrays(a, b))
    pairs = [_threefry(key, int(c), int(d)) for c, d in counters]
    x, y = np.array(pairs, dtype=np.uint32).reshape(-1, 2).T.reshape(2, *counters.shape)
    return x, y


def _words(values: npt.ArrayLike) -> Words:
    if type(values) is int and 0 <= values <= _MASK:
        return np.array(values, np.uint32)
    array = np.asarray(values)
    if array.dtype == np.uint32 or not array.size:
        return array.astype(np.uint32, copy=False)
    if array.dtype.kind not in "iu" or int(array.min()) < 0 or int(array.max()) > _MASK:
        raise ValueError(f"counter of {array.dtype}: expected integers in 0..2^32-1")
    return array.astype(np.uint32, copy=False)


def draw(seed: int, client: int, round: int, stream: Stream, indices: npt.ArrayLike) -> tuple[Words, Words]:
    """Two random words for each index. The key is (seed, client), the counter (round, stream and index).

    Args:
        seed: Seed of the run.
        client: Number of the client.
        round: Number of the round.
        stream: What the numbers are for; each stream has numbers of its own.
        indices: Integers below 2^24.

    Returns:
        Two uint32 arrays of the shape of ``indices``.

    Raises:
        ValueError: A number is out of range.
    """
    index = _words(indices)
    if index.size and int(index.max()) >= MAX_INDEX:
        raise ValueError(f"index {int(index.max())}: one stream has 2^24 draws")
    return threefry((seed, client), round, index | np.uint32(stream << INDEX_BITS))


def uniform(words: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Uniform numbers in [0, 1) from the upper 24 bits of each word; float32 of the same shape."""
    return (_words(words) >> 8).astype(np.float32) * np.float32(2.0**-24)


def permutation(seed: int, client: int, round: int, stream: Stream, n: int) -> npt.NDArray[np.int64]:
    """A random permutation of 0..n-1, int64[n], by a stable sort of 64-bit draws (see ``draw``)."""
    high, low = draw(seed, client, round, stream, np.arange(n, dtype=np.uint32))
    return np.argsort(high.astype(np.uint64) << 32 | low, kind="stable")
