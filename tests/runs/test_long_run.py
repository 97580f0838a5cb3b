"""The memory of a run that is being written does not grow with its rounds."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from run_values import contribution, round_entry
from stored_runs import after, begun

from tinymetafed.learn.weights import sha256
from tinymetafed.runs.store import read_run

BOARDS = 50
ROUNDS = 60
FEW_BYTES = 300  # per round; the contributions of one round take a hundred times as many


def test_memory_does_not_grow_with_the_rounds(tmp_path: Path) -> None:
    held = []
    tracemalloc.start()
    try:
        with begun(tmp_path / "run") as run:
            for round_ in range(2 * ROUNDS):
                if round_ % ROUNDS == 0:
                    held.append(tracemalloc.get_traced_memory()[0])
                parts = tuple(contribution(1000 * round_ + n, "redone", f"asked again, {round_} {n}") for n in range(BOARDS))
                run.append(round_entry(round_, sha256(after(round_)), contributions=parts), after(round_))
            del parts
            held.append(tracemalloc.get_traced_memory()[0])
            assert run.read().rounds == read_run(tmp_path / "run").rounds
    finally:
        tracemalloc.stop()
    assert held[2] - held[1] < FEW_BYTES * ROUNDS, held
