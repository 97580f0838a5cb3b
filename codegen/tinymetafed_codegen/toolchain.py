"""What building on this machine needs: the compilers that a board asks for, and a folder that builds go to."""

from __future__ import annotations

import json
import os
from pathlib import Path

from . import boards
from .errors import Error
from .locate import find, is_checkout, root, user_cache

SHOWN_LINES = 30  # of a compiler's output, in an error


class BuildError(Error):
    """Something that cannot be built; the text ends with the compiler's words or says what to install."""


def build_root() -> Path:
    """Where builds go: $TINYMETAFED_BUILD_DIR, else .pio/experiments of the checkout, else the user's cache folder."""
    if chosen := os.environ.get("TINYMETAFED_BUILD_DIR"):
        return Path(chosen).resolve()
    if is_checkout():
        return root() / ".pio" / "experiments"
    return user_cache()


def compiler_flags(board: str | None = None) -> list[str]:
    """What our C++ is compiled with everywhere (boards/platform/flags.json), then the machine flags of ``board`` if given.

    The optimisation level is not among them. Raises BoardError.
    """
    shared = json.loads(find("boards/platform/flags.json").read_text(encoding="utf-8"))
    return [*shared["common"], *shared["cxx"], *(boards.load(board).machine_flags if board else ())]


def require_tools(board: boards.Board) -> None:
    """Raises BuildError, saying what to write or install, when this machine cannot build for the board and start it."""
    if board.real:
        raise BuildError(
            f"firmware for {board.name}: a real board is flashed; `pio run -e {board.name} -t upload` builds for it"
        )
    if trouble := board.cannot_build():
        raise BuildError(f"firmware for {board.name}: {trouble}")
    if lacking := [tool for tool in board.missing_tools() if tool.to_build]:
        raise BuildError(f"firmware for {board.name}: {boards.shortage(lacking)}")
