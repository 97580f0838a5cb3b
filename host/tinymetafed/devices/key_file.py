"""The keys of enrolled boards on this machine: a file that only its owner may read, with a name for each board."""

from __future__ import annotations

import os
import stat
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from tinymetafed_codegen.errors import Error, UsageError
from tinymetafed_codegen.files import OWNER_ONLY, locked, replace
from tinymetafed_codegen.optional_messages.authentication_messages import KEY_BYTES

VARIABLE = "TINYMETAFED_KEYS"  # names another file than the default one
LONGEST_NAME = 40
_HEAD = "# The secret keys of your boards, written by `tinymetafed enroll`. Show this file to nobody.\n\n"


class KeyFileError(Error):
    """The file of keys cannot be read or written, or others could read it."""


class EnrollError(UsageError):
    """The board cannot be enrolled under this name; wrong usage."""


@dataclass(frozen=True)
class EnrolledBoard:
    """A board that this machine has a key of.

    ``unique_id`` is hexadecimal, ``board`` the kind of board. ``keys`` has the board's key; while a board is enrolled again
    also the former one, behind it, because the board may not have taken the new one.
    """

    name: str
    unique_id: str
    board: str
    keys: tuple[bytes, ...] = field(repr=False)


def default_path() -> Path:
    """The file that $TINYMETAFED_KEYS names, else keys.toml in the user's own configuration folder."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home()) / "tinymetafed" / "keys.toml"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "tinymetafed" / "keys.toml"


class KeyFile:
    """The file of keys. Every function reads it anew, so that several processes can use it."""

    def __init__(self, path: Path | None = None) -> None:
        """Takes its path; None for ``default_path()``."""
        self.path = default_path() if path is None else path

    def boards(self) -> tuple[EnrolledBoard, ...]:
        """All enrolled boards; () if the file does not exist. Raises KeyFileError."""
        try:
            handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would be waited for
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise KeyFileError(f"{self.path}: cannot be read: {error.strerror}") from None
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            os.close(handle)
            raise KeyFileError(f"{self.path}: is not a regular file; name one with {VARIABLE}")
        with os.fdopen(handle, "rb") as file:
            self._require_secret(found)
            try:
                return tuple(map(_board, tomllib.load(file).get("boards", ())))
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
                raise KeyFileError(
                    f"{self.path}: is not a file of keys: {type(error).__name__}; restore it from a copy: a board "
                    "whose key is lost can be enrolled anew only after its flash was erased (docs/authentication.md)"
                ) from None

    def of(self, unique_id: str) -> EnrolledBoard | None:
        """The board of this id; None if it is not enrolled. Raises KeyFileError."""
        return next((board for board in self.boards() if board.unique_id == unique_id), None)

    def named(self, name: str) -> EnrolledBoard:
        """The board of this name. Raises EnrollError if there is none, and KeyFileError."""
        known = self.boards()
        for board in known:
            if board.name == name:
                return board
        names = ", ".join(board.name for board in known) or "none"
        raise EnrollError(f"{self.path}: no board is called '{name}'; enrolled: {names}")

    def put(self, board: EnrolledBoard) -> None:
        """Adds a board, or replaces that of the same id.

        Raises:
            EnrollError: Another board has the name, or it is no name.
            KeyFileError: The file cannot be written, or others could read it.
        """
        if not board.name.strip() or not board.name.isprintable() or len(board.name) > LONGEST_NAME:
            raise EnrollError(f"--name {board.name!r}: expected 1 to {LONGEST_NAME} printable characters, such as kitchen")

        def changed(known: tuple[EnrolledBoard, ...]) -> tuple[EnrolledBoard, ...]:
            others = [other for other in known if other.unique_id != board.unique_id]
            if any(other.name == board.name for other in others):
                other = next(other for other in others if other.name == board.name)
                raise EnrollError(
                    f"--name {board.name}: board {other.unique_id} ({other.board}) has this name already; choose another name, "
                    f"or remove that one: `tinymetafed enroll --forget {board.name}`"
                )
            return (*others, board)

        self._change(changed)

    def remove(self, unique_id: str) -> None:
        """Removes a board. Raises KeyFileError."""
        self._change(lambda known: tuple(board for board in known if board.unique_id != unique_id))

    def _change(self, change: Callable[[tuple[EnrolledBoard, ...]], tuple[EnrolledBoard, ...]]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked(self.path.with_name(f"{self.path.name}.lock")):
                boards = change(self.boards())
                entries = [
                    {"name": each.name, "id": each.unique_id, "board": each.board, "keys": [key.hex() for key in each.keys]}
                    for each in sorted(boards, key=lambda board: board.name)
                ]
                replace(self.path, (_HEAD + tomli_w.dumps({"boards": entries})).encode(), OWNER_ONLY)
        except OSError as error:
            raise KeyFileError(f"{self.path}: cannot be written: {error.strerror}; name another file with {VARIABLE}") from None

    def _require_secret(self, found: os.stat_result) -> None:
        if sys.platform == "win32":
            return  # where files of the user's profile are the user's alone
        mode = stat.S_IMODE(found.st_mode)
        if mode & ~OWNER_ONLY:
            raise KeyFileError(
                f"{self.path}: has mode {mode:04o}, so that others could read the keys of your boards or use them; `chmod 600 "
                f"{self.path}`, and enroll the boards again if others were on this machine"
            )
        if found.st_uid != os.geteuid():
            raise KeyFileError(f"{self.path}: belongs to another user; name a file of your own with {VARIABLE}")


def kept_beside(flash: Path) -> bytes:
    """The key of a process's board, in a file beside the one that stands for its flash; made at the first call.

    A process is started by this machine, and who may read the one file may read the other.

    Raises:
        KeyFileError: It cannot be read or written.
    """
    path = flash.with_name(f"{flash.name}.key")
    try:
        if not path.exists():  # nobody else uses the flash meanwhile
            replace(path, os.urandom(KEY_BYTES), OWNER_ONLY)
        key = path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"{path}: cannot hold the board's key: {error.strerror}; name another folder after store=") from None
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"{path}: has {len(key)} bytes, a key has {KEY_BYTES}; remove it and {flash.name}")
    return key


def _board(entry: dict[str, Any]) -> EnrolledBoard:
    keys = tuple(map(bytes.fromhex, entry["keys"]))
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(entry["name"])
    return EnrolledBoard(str(entry["name"]), str(entry["id"]), str(entry["board"]), keys)
