"""Atomic writes of files, locks between processes that work in one folder, and the file that a mistyped path meant."""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_BYTE = 1 << 20  # Windows locks this byte, which lies behind the process id that others read


def write_if_changed(path: Path, text: str) -> bool:
    """Writes ``text`` atomically, but does not touch a file with the same text. Returns whether it wrote. Raises OSError."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    replace(path, text.encode())
    return True


def suggestion(path: Path, otherwise: str) -> str:
    """What to do about a path where nothing is.

    Args:
        path: The path.
        otherwise: The remedy if nothing beside it has a similar name.

    Returns:
        A question that names the file or folder beside it with the most similar name, or ``otherwise``.
    """
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return f"did you mean {path.with_name(near[0])}?" if near else otherwise


def replace(path: Path, content: bytes) -> None:
    """Writes a file atomically: readers see the old content or the new one, never a part. Makes its folder. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


class LockedError(Exception):
    """Another process holds the lock; ``holder`` is its process id, "" if the lock file does not have it yet."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path}: held by process {holder or '?'}")
        self.holder = holder


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds the lock of a file while the context is open; the file itself stays.

    Args:
        path: The lock file, which is made if it is missing.
        wait: Whether to wait until another process releases the lock.

    Raises:
        LockedError: Another process holds the lock and ``wait`` is false.
    """
    with path.open("a+b", buffering=0) as file:
        try:
            _acquire(file, wait)
        except (BlockingIOError, PermissionError):  # on POSIX and on Windows
            file.seek(0)
            raise LockedError(path, file.read(20).decode(errors="replace").strip()) from None
        with suppress(OSError):  # on a full disk the lock works without the process id
            file.truncate(0)
            file.write(b"%d\n" % os.getpid())
        yield


def _acquire(file: IO[bytes], wait: bool) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
