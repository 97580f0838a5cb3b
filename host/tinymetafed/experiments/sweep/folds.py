"""Groups of clients that a sweep leaves out together, each client in one group."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinymetafed_codegen.protocol import Stream
from tinymetafed_codegen.section import TomlValue

from ...learn import prng

HELD_OUT_KEY, VALIDATION_KEY = "task.held_out", "task.validation"


def folds(names: Sequence[str], size: int, seed: int) -> list[tuple[str, ...]]:
    """Groups of clients, each client in one of them; with more than one client in a group, ``seed`` draws which.

    Args:
        names: Names of all clients.
        size: The largest number of clients in a group; the groups differ by one client at most.
        seed: Draws the groups.

    Returns:
        The groups, with clients in the order of ``names``.
    """
    order = np.arange(len(names)) if size == 1 else prng.permutation(seed, 0, 0, Stream.DATA_SPLIT, len(names))
    return [tuple(names[i] for i in sorted(fold)) for fold in np.array_split(order, math.ceil(len(names) / size))]


def settings(fold: Sequence[str], *, keeps_validation: bool) -> dict[str, TomlValue]:
    """The settings that hold a group of clients out for the test.

    Args:
        fold: Names of the clients.
        keeps_validation: Whether the experiment says which other clients are for validation; otherwise there are none.
    """
    chosen: dict[str, TomlValue] = {HELD_OUT_KEY: list(fold)}
    return chosen if keeps_validation else chosen | {VALIDATION_KEY: 0}
