"""A small run in a store: its experiment, its weights after each round, and its rounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from run_values import ASKED, contribution, round_entry, session
from small_runs import manifest, sine

from tinymetafed.learn.weights import Floats, initial, sha256
from tinymetafed.runs import store
from tinymetafed.runs.store import RunStore

EXPERIMENT = sine("run.rounds=9")
MANIFEST = manifest(EXPERIMENT)
WEIGHTS = initial(MANIFEST, 4, "glorot")


@contextmanager
def begun(path: Path) -> Iterator[RunStore]:
    with store.create(path, EXPERIMENT, MANIFEST, WEIGHTS, ASKED) as run:
        run.append(session())
        yield run


def after(round_: int) -> Floats:
    """Weights as after a round."""
    return WEIGHTS + np.float32(round_ + 1)


def commit(run: RunStore, round_: int) -> None:
    run.append(round_entry(round_, sha256(after(round_)), contributions=(contribution(7),)), after(round_))
