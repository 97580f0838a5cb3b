"""Finds boards by name, in boards/ of the user's project and of the installation."""

from __future__ import annotations

import difflib
import warnings
from dataclasses import dataclass
from pathlib import Path

from ..locate import find
from .board_errors import BoardError, BoardWarning
from .board_facts import Board
from .board_file import read
from .board_requirements import Requirement


@dataclass(frozen=True)
class Catalogue:
    """All known boards: those in boards/ of the user's ``project``, if there is one, and the installed ones."""

    project: Path | None = None

    @classmethod
    def near(cls, *places: Path) -> Catalogue:
        """The boards of the first project that contains one of the folders; a project is a folder with boards/*.json."""
        for place in places:
            for folder in (place.resolve(), *place.resolve().parents):
                if _is_installation(folder):
                    break
                if any((folder / "boards").glob("*.json")):
                    return cls(folder)
        return cls()

    def files(self) -> dict[str, Path]:
        """The JSON file of each board, by name, usable or not."""
        folders = [find("boards")] if self.project is None else [find("boards"), self.project / "boards"]
        found = {
            path.stem: path for folder in folders for path in folder.glob("*.json")
        }  # files of the project replace installed ones
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """The names of all boards that have a file."""
        return list(self.files())

    def load(self, name: str) -> Board:
        """Reads a board's JSON.

        Args:
            name: The board's name, or the path of a JSON file.

        Raises:
            BoardError: There is no such board (the text has the nearest name), or its file is unusable (the text has file,
                line and key).
        """
        return read(Path(name)) if name.endswith(".json") else self.named(name)

    def named(self, name: str) -> Board:
        """As ``load``, but never takes a path: for names that boards or other machines say. Raises BoardError."""
        known = self.files()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
            raise BoardError(f"no board '{name}'; {hint}")
        return read(known[name])

    def usable(self) -> list[Board]:
        """All boards with a usable file, sorted by name."""
        return [board for board in map(self._loaded, self.names()) if isinstance(board, Board)]

    def unusable(self) -> list[BoardError]:
        """The errors of all unusable files, sorted by the name of the board."""
        return [error for error in map(self._loaded, self.names()) if isinstance(error, BoardError)]

    def replacing_installed(self) -> list[Board]:
        """The boards of the project that replace an installed board of the same name."""
        installed = INSTALLED.files()
        return [board for board in self.usable() if board.project is not None and board.name in installed]

    def _loaded(self, name: str) -> Board | BoardError:
        try:
            return self.load(name)
        except BoardError as error:
            return error


INSTALLED = Catalogue()  # without a project


def around(experiment: str | Path) -> Catalogue:
    """The boards for an experiment: those of the project around its file, else around the working directory, and the installed.

    Warns (BoardWarning) of unusable files and of files that replace an installed board.
    """
    found = Catalogue.near(Path(experiment).parent, Path.cwd())
    for error in found.unusable():
        warnings.warn(BoardWarning(str(error)), stacklevel=2)
    for board in found.replacing_installed():
        warnings.warn(BoardWarning(f"{board.file}: used in place of our board '{board.name}'"), stacklevel=2)
    return found


def names() -> list[str]:
    """The names of all installed boards."""
    return INSTALLED.names()


def usable() -> list[Board]:
    """All installed boards with a usable file, sorted by name."""
    return INSTALLED.usable()


def load(name: str) -> Board:
    """Reads an installed board. Raises BoardError."""
    return INSTALLED.load(name)


def missing_tools(name: str) -> list[Requirement]:
    """The requirements of an installed board that this machine does not have. Raises BoardError."""
    return load(name).missing_tools()


def _is_installation(folder: Path) -> bool:
    """Whether a folder is a checkout of TinyMetaFed or the data folder of an installed wheel."""
    return (folder / "firmware" / "core" / "port.hpp").is_file()
