"""One process writes a run: the lock of its folder, and the wait for other programs that have its file open."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from tinymetafed_codegen.files import LockedError, holders, locked

from .run_data import StoreError

Result = TypeVar("Result")
BUSY_SECONDS = 30.0  # that another program may lock run.db: a backup, a browser of databases
_PAUSE_SECONDS = 0.05


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Locks a run folder against other trainings. Raises StoreError if one has it, or the lock cannot be written."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path / "lock", wait=False))
        except LockedError as taken:
            raise StoreError(
                f"{path}: process {taken.holder or '(starting)'} is training into this folder; wait for its end, or stop it"
            ) from None
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from None
        yield


def waiting(path: Path, act: Callable[[], Result], seconds: float | None = None) -> Result:
    """Does what needs a lock of run.db, and tries again while another program has it.

    SQLite's own wait cannot be interrupted, and does not wait in some cases.

    Args:
        path: The run folder.
        act: The work; it is done again from its beginning.
        seconds: How long to wait; None for BUSY_SECONDS.

    Raises:
        StoreError: The file is still locked; the text names the programs that have it open.
    """
    seconds = BUSY_SECONDS if seconds is None else seconds
    until = time.monotonic() + seconds
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if time.monotonic() >= until:
                file = path / "run.db"
                who = ", ".join(holders(file)) or "another program"
                raise StoreError(
                    f"{file}: locked by {who} for more than {seconds:g} s; close that program, then give the command again "
                    f"(an interrupted training: tinymetafed train --resume {path})"
                ) from None
        time.sleep(_PAUSE_SECONDS)
