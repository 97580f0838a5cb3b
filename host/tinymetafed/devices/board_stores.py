"""What the host makes of the stores of boards: the number of its run, and a sentence for each problem."""

from __future__ import annotations

import hashlib
import json

from tinymetafed_codegen.protocol import StoreReport, StoreState
from tinymetafed_codegen.spec import Experiment, dump

_REPLACED = "it is not used, and the board's next save replaces it"
_PROBLEMS = {
    StoreState.OTHER_MODEL: f"its store is of another model; {_REPLACED}",
    StoreState.OTHER_FORMAT: f"its store is of another version of the firmware; {_REPLACED}",
    StoreState.DAMAGED: f"its store is damaged, or the flash holds something else; {_REPLACED}",
    StoreState.FULL: "its store is full: the last state or weights are not saved; the board goes on, but a reset loses them",
    StoreState.WORN: "its flash is worn: it no longer takes what the board saves; the board goes on, but a reset loses it",
    StoreState.MISSING: "it has no storage; the board goes on, but a reset loses what it keeps",
}


def run_number(experiment: Experiment) -> int:
    """The number by which boards tell runs apart: the same when a run is continued, also to more rounds."""
    whole = dump(experiment)
    run = dict(whole["run"])  # type: ignore[arg-type]
    run.pop("rounds", None)
    text = json.dumps([whole["strategy"], run], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def problem(report: StoreReport) -> str:
    """What is wrong with a board's store, as the end of a sentence that begins with the board; "" if nothing is."""
    return _PROBLEMS.get(report.state, "")
