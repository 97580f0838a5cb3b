"""The key that is compiled into the firmware of one board: in the header that `tinymetafed enroll --compiled-in` writes."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import Error
from .optional_messages import KEY_BYTES

VARIABLE = "TINYMETAFED_BOARD_KEY"  # names the header of the board that the next build is for
_KEY = re.compile(rf"key: ([0-9a-f]{{{2 * KEY_BYTES}}})\b")


class BoardKeyError(Error):
    """A file with a key that cannot be used."""


def header(name: str, unique_id: str, key: bytes) -> str:
    """The text of a board's header."""
    return (
        f"// The secret key of board {name}, id {unique_id}: build its firmware with {VARIABLE}=THIS_FILE.\n"
        "// Show this file to nobody, nor the firmware.\n"
        f"// key: {key.hex()}\n"
    )


def compiled_in() -> bytes | None:
    """The key that the environment names for this build; None if it names none.

    Raises:
        BoardKeyError: The file cannot be read or has no key.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    try:
        found = _KEY.search(Path(named).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BoardKeyError(f"{named}: cannot be read: {error}; {VARIABLE} names the header of a board's key") from None
    if found is None:
        raise BoardKeyError(f"{named}: has no key; `tinymetafed enroll PORT --name NAME --compiled-in` writes one")
    return bytes.fromhex(found[1])
