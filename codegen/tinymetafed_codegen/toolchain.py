"""What builds on this machine need: compiler flags, the tools of a board, and the folder for builds."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .board import board_facts, board_requirements, boards
from .errors import Error
from .files import own_folder
from .locate import find, is_checkout, root, temporary_cache, user_cache

NETWORK_VARIABLE = "TINYMETAFED_NETWORK"  # names the header with the network that the next build of a real board is for
BOARD_KEY_VARIABLE = "TINYMETAFED_BOARD_KEY"  # names the header with the key of the board that the next build is for
SHOWN_LINES = 30  # lines of a compiler's output that an error shows


class BuildError(Error):
    """A build failed or is impossible; the text ends with the compiler's output or says what to install."""


def build_root() -> Path:
    """The folder for builds: $TINYMETAFED_BUILD_DIR, else .pio/experiments of the checkout, else the user's cache folder.

    In a folder of another user it is a folder of this user's own. Where this user cannot write, the next of them is taken,
    and at last a folder among the temporary files, which must be this user's.

    Raises:
        BuildError: This user can write to none of them.
    """
    chosen = os.environ.get("TINYMETAFED_BUILD_DIR")
    asked = [Path(chosen).resolve()] if chosen else [root() / ".pio" / "experiments"] if is_checkout() else []
    found = [own for place in (*asked, user_cache()) if (own := own_folder(place)) is not None]
    # Among temporary files another user could have made a folder of this name, to change what is built in it.
    found += [place for place in (temporary_cache(),) if own_folder(place) == place]
    if not found:
        raise BuildError(
            f"{asked[0] if asked else user_cache()}: this user cannot write there; set TINYMETAFED_BUILD_DIR to a "
            "folder of this user"
        )
    return found[0]


def compiler_flags(board: str | None = None) -> list[str]:
    """The compiler flags of all C++ (boards/platform/flags.json), followed by the machine flags of an installed board.

    The optimisation level is not included. Raises BoardError.
    """
    shared = json.loads(find("boards/platform/flags.json").read_text(encoding="utf-8"))
    return [*shared["common"], *shared["cxx"], *(boards.load(board).machine_flags if board else ())]


def require_tools(board: board_facts.Board) -> None:
    """Raises BuildError, which says what to write or install, if this machine cannot build firmware for the board."""
    if board.real:
        raise BuildError(
            f"firmware for {board.name}: a real board is flashed; `pio run -e {board.name} -t upload` builds for it"
        )
    if problem := board.cannot_build():
        raise BuildError(f"firmware for {board.name}: {problem}")
    if missing := [tool for tool in board.missing_tools() if tool.to_build]:
        raise BuildError(f"firmware for {board.name}: {board_requirements.missing_message(missing)}")
