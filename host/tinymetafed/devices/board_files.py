"""Files of this machine that stand for the flash of a process's board."""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

from tinymetafed_codegen.files import OWNER_ONLY, LockedError, locked, replace

from .link.link_errors import LaunchError

LONGEST_STORE = 300  # bytes of a folder's path; boards have room for 384, with the file's name
STORAGE_VARIABLE = "TINYMETAFED_STORAGE"  # names the file that stands for the flash of a native process
REPLAY_VARIABLE = "TINYMETAFED_REPLAY"  # names the file that stands for its sensor
REPLAY_SUFFIX = ".rows"  # behind the path of the file that stands for an emulated board's flash: the one for its sensor


def kept_in(store: Path) -> Path:
    """The folder of a device URL's store, which is made if it is missing. Raises LaunchError."""
    if len(os.fsencode(store)) > LONGEST_STORE:
        raise LaunchError(
            f"{store}: longer than the {LONGEST_STORE} bytes that an emulated board can read; name another folder"
        )
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"{store}: cannot hold the boards' stores: {error.strerror}; name another folder") from None
    return store


def fill(storage: Path, size: int) -> None:
    """Makes the file of a board's flash, if it is missing, and fills it with erased flash up to ``size`` bytes."""
    with suppress(OSError), storage.open("ab") as file:  # the board reports that it has no storage
        file.write(b"\xff" * (size - file.tell()))


def kept_id(flash: Path, number: int) -> str:
    """The unique id of a board with a store, in a file beside that of its flash; drawn when the flash is made.

    Args:
        flash: The file of its flash, which nobody else uses meanwhile.
        number: The board's number, which is the id of one whose flash is older than ids that are kept.

    Returns:
        16 hexadecimal digits.

    Raises:
        LaunchError: The file has something else in it.
    """
    path = flash.with_name(f"{flash.name}.id")
    try:
        if not path.exists():
            fresh = number if flash.stat().st_size else int.from_bytes(os.urandom(8))
            replace(path, f"{fresh:016x}\n".encode(), OWNER_ONLY)
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return f"{number:016x}"  # the board reports that it has no storage
    if not re.fullmatch("[0-9a-f]{16}", text):
        raise LaunchError(f"{path}: holds no id of 16 hexadecimal digits; remove it, and the board gets another one")
    return text


def lock(storage: Path, stack: ExitStack) -> None:
    """Keeps other boards, processes and users off a file of a store; boards and processes until ``stack`` ends.

    Only its owner may read it, as the board's key may be in it. Raises LaunchError if another process has it.
    """
    if sys.platform == "win32":
        _lock_beside(storage, stack)
        return
    import fcntl

    try:
        file = os.open(storage, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
    except OSError:
        return  # the board reports that it has no storage
    stack.callback(os.close, file)
    with suppress(OSError):  # another user's file
        os.fchmod(file, OWNER_ONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise _in_use(storage) from None


def _lock_beside(storage: Path, stack: ExitStack) -> None:
    """As ``lock``, by a lock file: on Windows the board's process could not write a file that the host has locked."""
    try:
        stack.enter_context(locked(storage.with_name(f"{storage.name}.lock"), wait=False))
    except LockedError:
        raise _in_use(storage) from None
    except OSError:
        return  # the board reports that it has no storage


def _in_use(storage: Path) -> LaunchError:
    return LaunchError(
        f"{storage}: another board or process uses it, and two cannot write one file; give all boards in one URL, name "
        "another folder after store=, or wait until the other process has ended"
    )
