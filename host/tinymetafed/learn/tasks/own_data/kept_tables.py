"""Tables of CSV files that several runs of one process read: a file is parsed once while it stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .columns import Wanted
from .problems import Problems

if TYPE_CHECKING:
    from .csv_file import CsvContent

_Key = tuple[Path, int, int, str]


class _Kept:
    """What has been read; None while nothing is kept, as a process with a single run needs each table once."""

    def __init__(self) -> None:
        self.tables: dict[_Key, CsvContent] | None = None


_KEPT = _Kept()


@contextmanager
def tables_kept() -> Iterator[None]:
    """Keeps tables until the end, for a process whose runs read the same files. Within another one, it does nothing."""
    if _KEPT.tables is not None:
        yield
        return
    _KEPT.tables = {}
    try:
        yield
    finally:
        _KEPT.tables = None


def kept_or(
    read: Callable[[Path, Wanted, Problems], CsvContent | None], file: Path, wanted: Wanted, problems: Problems
) -> CsvContent | None:
    """What an earlier run of this process has read from a file without a problem; otherwise what ``read`` returns."""
    if _KEPT.tables is None or (key := _key(file, wanted)) is None:
        return read(file, wanted, problems)
    if key not in _KEPT.tables:
        content = read(file, wanted, problems)
        if content is None or problems.of(file):
            return content
        _KEPT.tables[key] = content
    return _KEPT.tables[key]


def _key(file: Path, wanted: Wanted) -> _Key | None:
    """The file as it is, and what is read from its rows, whoever is held out; None for a file that is not there."""
    try:
        now = file.stat()
    except OSError:
        return None
    whoever = wanted.spec.model_copy(update={"held_out": None, "validation": None})
    return file, now.st_mtime_ns, now.st_size, repr(replace(wanted, spec=whoever))
