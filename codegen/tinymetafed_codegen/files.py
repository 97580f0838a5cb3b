"""Atomic writes of files, locks between processes, folders of one user, and the file that a mistyped path meant."""

from __future__ import annotations

import difflib
import errno
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_BYTE = 1 << 20  # Windows locks this byte, which lies behind the process id that others read


OWNER_ONLY = 0o600  # the mode of files with a key


def write_if_changed(path: Path, text: str, mode: int = 0o644) -> bool:
    """Writes ``text`` atomically, but does not touch a file with the same text. Returns whether it wrote. Raises OSError.

    A file that nobody but its owner may read has that mode afterwards in any case.
    """
    if path.exists() and path.read_text(encoding="utf-8") == text:
        if mode == OWNER_ONLY:
            path.chmod(mode)
        return False
    replace(path, text.encode(), mode)
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


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes a file atomically: readers see the old content or the new one, never a part. Makes its folder. Raises OSError.

    Nobody but its owner may read it before it has its ``mode``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    except OSError as error:
        error.filename = str(path)  # not the temporary file's name, which nobody knows
        raise
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, mode)  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def own_folder(path: Path) -> Path | None:
    """The folder that this user may write in place of one that may belong to another user; it may not exist yet.

    Returns:
        ``path``, if it is this user's or can be made; a folder in it that has the user's number in its name, if ``path`` is
        another user's, so that two users never write the same files; None if this user can write neither.
    """
    if sys.platform != "win32" and _is_others(path):
        path = path / f"user-{os.getuid()}"
        if _is_others(path):
            return None
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    return path if there.is_dir() and os.access(there, os.W_OK | os.X_OK) else None


def is_only_ours(path: Path) -> bool:
    """Whether a regular file exists that belongs to this user and that no other user may write."""
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and (sys.platform == "win32" or not (_is_others(path) or status.st_mode & 0o022))


def _is_others(path: Path) -> bool:
    """Whether a file or folder exists and belongs to another user."""
    try:
        return sys.platform != "win32" and path.stat().st_uid != os.geteuid()
    except PermissionError:
        return True
    except OSError:
        return False


def holders(path: Path) -> list[str]:
    """Other processes that have a file open, as "NAME (pid N)": those that this user may see; none without /proc."""
    try:
        wanted = path.stat()
    except OSError:
        return []
    own = f"(pid {os.getpid()})"
    return [process for process in processes_with(lambda entry: _is_file(entry, wanted)) if not process.endswith(own)]


def processes_with(is_wanted: Callable[[Path], bool], look_on: Callable[[], bool] = lambda: True) -> list[str]:
    """Processes that have an open file for which ``is_wanted``, as "NAME (pid N)"; ends early once not ``look_on``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if not look_on():
            break
        with suppress(OSError):  # the process has ended, or belongs to another user
            if any(is_wanted(entry) for entry in (process / "fd").iterdir()):
                found.append(f"{(process / 'comm').read_text(errors='replace').strip()} (pid {process.name})")
    return sorted(found)


def _is_file(path: Path, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), wanted)
    except OSError:
        return False


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
        OSError: The file cannot be opened, or is a symbolic link.
    """
    # A link is not followed: the folder may be from somebody else, and the process id is written into the file.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        with os.fdopen(os.open(path, flags, 0o666), "a+b", buffering=0) as file:
            try:
                _acquire(file, wait)
            except (BlockingIOError, PermissionError):  # on POSIX and on Windows
                file.seek(0)
                raise LockedError(path, file.read(20).decode(errors="replace").strip()) from None
            if not _is_file(path, os.fstat(file.fileno())):
                continue  # the former holder has removed the file; a new one takes its place
            with suppress(OSError):  # on a full disk the lock works without the process id
                file.truncate(0)
                file.write(b"%d\n" % os.getpid())
            yield
            return


def _acquire(file: IO[bytes], wait: bool) -> None:
    if sys.platform == "win32":
        import msvcrt

        while True:
            file.seek(_BYTE)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
                return
            except OSError as error:
                if not wait or error.errno != errno.EDEADLK:  # Windows gives up waiting after ten seconds
                    raise
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
