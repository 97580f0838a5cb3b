"""What the host makes of the stores of boards: the number of its run, and a sentence for each problem."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tinymetafed_codegen.optional_messages.store_messages import StoreState
from tinymetafed_codegen.section import TomlValue
from tinymetafed_codegen.spec import Experiment, dump

_REPLACED = "it is not used, and the board's next save replaces it"
_PROBLEMS = {
    StoreState.OTHER_MODEL: f"its store is of another model; {_REPLACED}",
    StoreState.OTHER_FORMAT: f"its store is of another version of the firmware; {_REPLACED}",
    StoreState.DAMAGED: f"its store is damaged, or the flash holds something else; {_REPLACED}",
    StoreState.FULL: "its store is full: the last state or weights are not saved; the board goes on, but a reset loses them; "
    "make the model smaller",
    StoreState.WORN: "its flash is worn: it no longer takes what the board saves; the board goes on, but a reset loses it; use "
    "another board where that matters",
    StoreState.MISSING: "it has no storage; the board goes on, but a reset loses what it keeps; an emulated board needs a "
    "folder that can be written (?store=DIR), an ESP32 a partition that is large enough, and Renode has none",
}


def run_number(experiment: Experiment, data_sha256: str = "") -> int:
    """The number by which boards tell runs of one model apart.

    Args:
        experiment: The run's experiment.
        data_sha256: SHA-256 of its task's data; "" where they are fixed.

    Returns:
        A number from 0 to 2^32 - 1, the same when a run is continued: also to more rounds, and in another folder.
    """
    whole = dump(experiment)
    left_out = {"run": ("rounds", "security"), "strategy": (), "task": ("adapt", *experiment.task.path_keys)}
    sections = {name: _without(whole[name], keys) for name, keys in left_out.items()}
    text = json.dumps([sections, experiment.model.init, data_sha256], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def _without(section: TomlValue, keys: Sequence[str]) -> dict[str, TomlValue]:
    """The entries of a section but these, with a user's own Python file by its name alone."""
    assert isinstance(section, dict)
    found = {key: value for key, value in section.items() if key not in keys}
    return found | ({"kind": Path(str(found["kind"])).name} if "kind" in found else {})


def problem(state: StoreState) -> str:
    """What is wrong with a board's store, as the end of a sentence that begins with the board; "" if nothing is."""
    return _PROBLEMS.get(state, "")
