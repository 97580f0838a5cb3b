"""What is on this machine: examples, boards, and the programs that they need; quick to import."""

from __future__ import annotations

from pathlib import Path

from tinymetafed_codegen.board_facts import Board
from tinymetafed_codegen.board_requirements import Requirement
from tinymetafed_codegen.boards import Catalogue
from tinymetafed_codegen.locate import find

from ..projects import doctor as machine
from ..projects.doctor import Finding


def example(name: str) -> Path:
    """Path of an example of this package, for instance "sine.toml". Raises FileNotFoundError."""
    return find("examples") / name


def examine() -> list[Finding]:
    """Checks this machine: Python, compilers, emulators, boards and serial ports. Installs and opens nothing.

    Boards of a project in the working directory are checked too.
    """
    return machine.examine(Catalogue.near(Path.cwd()))


def missing_tools(board: str) -> list[Requirement]:
    """Programs that building for a board and running it needs and that are not installed. Raises BoardError."""
    return Catalogue.near(Path.cwd()).load(board).missing_tools()


def board(name: str) -> Board:
    """Loads a board: one of the project in the working directory, or one of this package.

    Raises BoardError if it is unknown or its file is invalid.
    """
    return Catalogue.near(Path.cwd()).load(name)
