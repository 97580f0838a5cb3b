"""Errors of the system about files, as errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinymetafed_codegen.errors import Error


class FileError(Error):
    """A file or folder that cannot be read or written; the text names it and says why."""


@contextmanager
def named_files() -> Iterator[None]:
    """Raises the system's errors about files as FileErrors, whose text begins with the file."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if error.filename is None:
            raise
        raise FileError(f"{error.filename}: {error.strerror}") from error


def path_of(given: str | Path | None) -> Path | None:
    """A path that may be left out."""
    return None if given is None else Path(given)
