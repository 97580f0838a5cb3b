"""The server's learning rate α over the rounds."""

from __future__ import annotations

import math

import numpy as np

from tinymetafed_codegen.spec import TinyMetaFedSpec

_STEPS = 1 << 16


def alpha(strategy: TinyMetaFedSpec, round_: int, rounds: int) -> np.float32:
    """α of one round, quantised to 2^-16 because cos differs between systems in its last bits.

    "linear" falls from ``alpha_max`` to ``alpha_min`` over the run. "sgdr" is cosine annealing with warm restarts
    (Loshchilov and Hutter 2017; TinyMetaFed, section III-C), its peak lowered by ``restart_decay`` at every restart.
    """
    low, high = strategy.alpha_min, strategy.alpha_max
    if strategy.schedule == "linear":
        value = low + (high - low) * (1 - round_ / rounds)
    else:
        cycle = strategy.restart_rounds
        assert cycle is not None  # the experiment's validation saw to it
        peak = high - low - round_ // cycle * strategy.restart_decay
        value = low + max(peak, 0.0) / 2 * (1 + math.cos(math.pi * (round_ % cycle) / cycle))
    return np.float32(round(max(value, low) * _STEPS) / _STEPS)
