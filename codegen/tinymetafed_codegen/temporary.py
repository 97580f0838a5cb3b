"""Temporary folders; what a killed process has left is removed when the next one makes such a folder."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .files import LockedError, locked

_PREFIX = "tinymetafed-"
_LOCK = ".in-use"  # locked while the process that made the folder lives


@contextmanager
def temporary_folder(purpose: str = "", parent: Path | None = None) -> Iterator[Path]:
    """A folder that is removed at the end, or when the next one is made after this process was killed.

    Args:
        purpose: A part of its name.
        parent: The folder to make it in; None for that of the system's temporary files.

    Raises:
        OSError: It cannot be made.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_abandoned(parent)
    with ExitStack() as stack:
        while True:
            folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{purpose}{'-' if purpose else ''}", dir=parent))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)  # once it is not locked any more, as Windows needs it
            try:
                stack.enter_context(locked(folder / _LOCK))
                break
            except FileNotFoundError:
                continue  # another process has removed it: it was not locked yet
        yield folder


def _remove_abandoned(parent: Path) -> None:
    """Removes this user's folders of which no living process holds the lock; others, and those without a lock, stay."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, LockedError):
            if _is_ours(folder) and (folder / _LOCK).is_file():
                with locked(folder / _LOCK, wait=False):
                    shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether it is a folder, no link, of this user."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and (sys.platform == "win32" or status.st_uid == os.geteuid())
