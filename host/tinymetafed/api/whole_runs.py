"""A run as a whole: its new folder at the beginning, and its report where it collapses."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..federation.meta_test import Collapsed
from ..runs import report, run_folder, store
from ..runs.run_errors import StoreError
from .named_files import named_files


def new_run_folder(name: str) -> Path:
    """Creates a new folder runs/NAME-DATE-TIME, with a number at its end if the name is taken already.

    Args:
        name: What the folder's name begins with.

    Returns:
        The folder, relative to the working directory.

    Raises:
        StoreError: The folder cannot be created.
    """
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    for suffix in itertools.count(1):
        folder = Path("runs") / (stem if suffix == 1 else f"{stem}.{suffix}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.parent.is_dir():
                raise StoreError(
                    f"{folder.parent}: not a folder, so no run folder can be made in it; choose one with --out"
                ) from None
            continue
        except OSError as error:
            raise StoreError(f"{folder}: cannot be made: {error.strerror}; choose a run folder with --out") from None
        return folder
    raise AssertionError("unreachable")


@contextmanager
def whole_run(folder: Path, begun: bool = False) -> Iterator[None]:
    """Creates the folder of a new run; writes the report even if the run collapses."""
    with named_files():
        try:
            if begun:
                yield
            else:
                with run_folder.claimed(folder):
                    yield
        except Collapsed:
            report.write(store.read_run(folder))
            raise
