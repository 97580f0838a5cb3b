"""Files that are there whole or not at all, and locks between processes that work in one folder."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_BYTE = 1 << 20  # the byte that Windows locks, beyond the holder's number, which others read


def write_if_changed(path: Path, text: str) -> bool:
    """Writes ``text`` whole or not at all; leaves an equal file and its time stamp alone. Returns whether it wrote."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, text.encode())
    return True


def replace(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: whoever opens it sees the former version or this one. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner reads
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


class LockedError(Exception):
    """Another process holds the lock; ``holder`` is its process id, "" when it has not said so yet."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path}: held by process {holder or '?'}")
        self.holder = holder


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds the lock of the file ``path``, which stays behind. Raises LockedError when it is taken and not to be waited for."""
    with path.open("a+b", buffering=0) as file:
        try:
            _acquire(file, wait)
        except (BlockingIOError, PermissionError):  # POSIX's and Windows' words for it
            file.seek(0)
            raise LockedError(path, file.read(20).decode(errors="replace").strip()) from None
        with suppress(OSError):  # a full disk: the lock holds without its holder's number
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
