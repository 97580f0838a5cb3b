"""The server's learning rate α over the rounds."""

from __future__ import annotations

import math

import numpy as np

from tinymetafed_codegen.spec import SharingSpec

_STEPS = 1 << 16


def alpha(strategy: SharingSpec, round_: int, rounds: int) -> np.float32:
    """α of one round, rounded to a multiple of 2^-16 because the last bits of cos differ between systems.

    "constant" is ``alpha_max``; "linear" and "cosine" fall from ``alpha_max`` to ``alpha_min`` over the run. "sgdr" is cosine
    annealing with warm restarts; every restart lowers the peak by ``restart_decay``.

    Args:
        strategy: Schedule and its parameters.
        round_: Number of the round, from 0.
        rounds: Rounds of the whole run.

    Returns:
        α as float32.

    Source: Loshchilov and Hutter 2017; TinyMetaFed, section III-C.
    """
    low, high = strategy.alpha_min, strategy.alpha_max
    match strategy.schedule:
        case "constant":
            value = high
        case "linear":
            value = low + (high - low) * (1 - round_ / rounds)
        case "cosine":
            value = low + (high - low) / 2 * (1 + math.cos(math.pi * round_ / rounds))
        case "sgdr":
            cycle = strategy.restart_rounds
            assert cycle is not None  # checked when the experiment was read
            peak = high - low - round_ // cycle * strategy.restart_decay
            value = low + peak / 2 * (1 + math.cos(math.pi * (round_ % cycle) / cycle))
    return np.float32(round(max(value, low) * _STEPS) / _STEPS)
