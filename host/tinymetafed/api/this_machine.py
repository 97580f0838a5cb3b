"""What is on this machine: examples, boards, and the programs that they need; quick to import."""

from __future__ import annotations

from pathlib import Path

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.board.board_requirements import Requirement
from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.locate import find

from ..projects import doctor as machine
from ..projects.doctor import Finding


def example(name: str) -> Path:
    """The path of an example of this package.

    Args:
        name: Its file, for instance "sine.toml" or "sweeps/sine.toml".

    Returns:
        The path. Whether there is such a file shows when it is read.

    Raises:
        FileNotFoundError: The installation has no examples.
    """
    return find("examples") / name


def examine() -> list[Finding]:
    """Checks this machine: Python, compilers, emulators, boards and serial ports. Installs and opens nothing.

    Boards of a project in the working directory are checked too.

    Returns:
        What was found, in the order of `tinymetafed doctor`, with a remedy for what is missing.
    """
    return machine.examine(Catalogue.near(Path.cwd()))


def missing_tools(board: str) -> list[Requirement]:
    """Programs that building for a board and running it needs and that are not installed.

    Args:
        board: Name of the board, as for ``board``.

    Returns:
        The missing programs; none if the board can be used here.

    Raises:
        BoardError: The board is unknown, or its file is invalid.
    """
    return Catalogue.near(Path.cwd()).load(board).missing_tools()


def board(name: str) -> Board:
    """Loads a board: one of the project in the working directory, or one of this package.

    Args:
        name: Its name, for instance "nano33ble".

    Returns:
        The board's facts.

    Raises:
        BoardError: The board is unknown, or its file is invalid.
    """
    return Catalogue.near(Path.cwd()).load(name)
