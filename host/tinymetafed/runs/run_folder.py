"""The folder of a run before and after its run begins: claimed, found, and removed if no run was begun in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tinymetafed_codegen.files import suggestion

from .run_data import StoreError
from .store_lock import alone


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Creates the folder of a new run before any work is done; removes it at the end if no run was begun in it.

    A folder with the files of a run that was killed before its first round may be used again.

    Args:
        path: The run folder.

    Raises:
        StoreError: The folder has other content, another process uses it, or it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not _never_begun(path):
            raise StoreError(f"{path}: exists already and is not empty; choose another folder with --out")
        if any(path.iterdir()):
            with alone(path):
                pass
    except OSError as error:
        raise StoreError(f"{path}: cannot be a run folder: {error.strerror}; choose another with --out") from None
    try:
        yield
    finally:
        with suppress(OSError, StoreError):  # another process may be starting there
            _abandon(path)


def _abandon(path: Path) -> None:
    """Removes the folder of a run that was not begun; raises OSError or StoreError if it has other content or is in use."""
    if not (path / "run.db").exists():
        for name in STATUS_FILES:  # of a training that was killed
            (path / name).unlink(missing_ok=True)
    if (path / "lock").exists() and _never_begun(path):
        with alone(path):
            if _never_begun(path):
                for file in sorted(path.iterdir(), key=lambda file: file.name == "lock"):  # without it they are the user's
                    file.unlink()
    path.rmdir()


# What the run is doing, while it trains. Not .json: a run in a folder named boards would look like the boards of a project.
STATUS = "status"
STATUS_FILES = (f"{STATUS}.new", STATUS)
UNFINISHED = re.compile(r"run\.db\.new(-journal)?|experiment\.toml\w{8}")  # temporary files of create()


def _never_begun(path: Path) -> bool:
    """Whether a folder is empty, or holds only the files that create() leaves if it is killed before run.db exists."""
    names = {file.name for file in path.iterdir()} - set(STATUS_FILES)
    # create() makes the lock first: without it an experiment.toml is the user's own.
    return not names or (
        "lock" in names and all(name in ("lock", "experiment.toml") or UNFINISHED.fullmatch(name) for name in names)
    )


def find_store(path: Path) -> Path:
    """The run.db of a run folder. Raises StoreError if the folder is not a run, or a file of the store would do harm."""
    file = path / "run.db"
    if not file.is_file():
        if path.is_dir() and _never_begun(path):
            raise StoreError(
                f"{path}: not a run folder yet: the run was stopped before its first round, so there is nothing to continue; "
                f"start it again, the folder may be the same: tinymetafed train EXPERIMENT --out {path}"
            )
        remedy = "give the folder that train wrote"
        remedy = remedy if path.exists() else suggestion(path, remedy)
        raise StoreError(f"{path}: not a run folder (it has no run.db); {remedy}")
    for beside in ("-wal", "-shm", "-journal"):  # SQLite also writes these when it only reads
        require_plain(path / f"run.db{beside}")
    _require_own(path / "run.db-journal")
    return file


_NAMES_ANOTHER = bytes.fromhex("d9d505f920a163d7")  # the end of a journal of SQLite that has the name of another file before it


def _require_own(journal: Path) -> None:
    """Raises StoreError for a journal of several databases: SQLite would delete the file that it names, which may be any."""
    with suppress(FileNotFoundError), journal.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(_NAMES_ANOTHER)))
        if file.read() == _NAMES_ANOTHER:
            raise StoreError(f"{journal}: names another file, which no run's journal does; remove it, or get the run again")


def require_plain(file: Path) -> None:
    """Raises StoreError for a link or a pipe: a folder from somebody else would have us write into files outside it."""
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise StoreError(
            f"{file}: a link or not a regular file, which no run contains; remove it, or get the run again as plain files"
        )
