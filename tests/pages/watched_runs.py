"""Run folders for the tests of live pages: runs of known figures, which can grow, and what they say they are doing."""

from __future__ import annotations

import time
from pathlib import Path

from run_values import DEVICE, contribution, evaluation, round_entry
from stored_runs import after, begun

from tinymetafed.federation.board_state import BoardState, Presence
from tinymetafed.learn.weights import sha256
from tinymetafed.runs import store
from tinymetafed.runs.run_status import RunStatus, StatusEvent

BAD_NAME = "<script>alert(1)</script>"


def make_run(folder: Path, rounds: int = 4) -> Path:
    """A run of nine rounds that stopped after some, with an evaluation after every second one."""
    with begun(folder) as run:
        run.hold_seconds = 60.0
        for number in range(rounds):
            add_round(run, number)
    return folder


def grow(folder: Path) -> None:
    """Trains one round more."""
    with store.reopen(folder) as run:
        add_round(run, run.read().trained)


def add_round(run: store.RunStore, number: int) -> None:
    parts = (contribution(7), contribution(8))
    kept = {"contributions": parts, "bytes_down": 4000, "bytes_up": 1000, "seconds": 2.0, "retries": 1}
    run.append(round_entry(number, sha256(after(number)), **kept), after(number))
    if number % 2:
        run.append(evaluation(number + 1, 4 / (number + 1)))


def status(**changes: object) -> RunStatus:
    """What a run says that trains now: one board works, one is away, one is out."""
    now = time.time()
    boards = (
        BoardState(DEVICE.url, "native", DEVICE.unique_id, Presence.UP, "", "client 7", 5000, 2000, 1),
        BoardState("native#2", "native", "02", Presence.AWAY, "native#2: no answer", "", 10, 20, 3),
        BoardState(BAD_NAME, "native", "03", Presence.DROPPED, "it sent 2 invalid updates", "", 10, 20, 0),
    )
    said = {
        "written": now, "stage": "meta-training", "done": 4, "total": 9, "stage_began": now - 60, "step_began": now - 3,
        "note": "mse 0.5", "events": (StatusEvent(now, f"{BAD_NAME} lost"),), "boards": boards,
    }  # fmt: skip
    return RunStatus(**{**said, **changes})  # type: ignore[arg-type]
