"""The key that is compiled into the firmware of one board: in the header that `tinymetafed enroll --compiled-in` writes."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import Error
from ..optional_messages.authentication_messages import KEY_BYTES
from ..spec import Experiment
from ..toolchain import BOARD_KEY_VARIABLE

HEADER = "authentication_facts.hpp"  # the generated header that has the key
_KEY = re.compile(rf"key: ([0-9a-f]{{{2 * KEY_BYTES}}})\b")


class BoardKeyError(Error):
    """A file with a key that cannot be used."""


def header(name: str, unique_id: str, key: bytes) -> str:
    """The text of a board's header."""
    return (
        f"// The secret key of board {name}, id {unique_id}: build its firmware with {BOARD_KEY_VARIABLE}=THIS_FILE.\n"
        "// Show this file to nobody, nor the firmware.\n"
        f"// key: {key.hex()}\n"
    )


def compiled_in(experiment: Experiment) -> bytes | None:
    """The key that the environment names for firmware of one board; None if it names none, or the firmware needs none.

    Only what a user builds for a board of his has it: boards that a run starts get their keys from the run.

    Raises:
        BoardKeyError: The file cannot be read or has no key.
    """
    named = os.environ.get(BOARD_KEY_VARIABLE)
    if not named or not experiment.run.is_authenticated:
        return None
    try:
        found = _KEY.search(Path(named).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not text"
        raise BoardKeyError(f"{named}: cannot be read: {why}; {BOARD_KEY_VARIABLE} names the header of a board's key") from None
    if found is None:
        raise BoardKeyError(f"{named}: has no key; `tinymetafed enroll PORT --name NAME --compiled-in` writes one")
    return bytes.fromhex(found[1])
