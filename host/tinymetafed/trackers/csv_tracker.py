"""Logs a run as CSV files in its folder: a row for each round, and a table of its keys and its result."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import astuple, fields
from pathlib import Path
from typing import IO

from tinymetafed_codegen.files import replace

from ..runs.run_folder import require_plain
from .tracker import TrackedEnd, TrackedRound, TrackedRun

COLUMNS = tuple(field.name for field in fields(TrackedRound))


class CsvTracker:
    """Writes RUN/csv/rounds.csv, a line for each round as it ends, and RUN/csv/run.csv."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._rows: IO[str] | None = None

    def start(self, run: TrackedRun) -> int:
        """Keeps the complete rows of the run's rounds that are there already and returns their number."""
        folder = own_folder(run.folder, "csv")
        self._run, self._file, self._table = run, folder / "rounds.csv", folder / "run.csv"
        for file in (self._file, self._table):
            require_plain(file)
        kept = _complete(self._file, run.trained)
        replace(self._file, "".join(kept or [_line(COLUMNS)]).encode())
        self._rows = self._file.open("a", encoding="utf-8", newline="", buffering=1)  # each line is written at once
        self._describe("running")
        return max(0, len(kept) - 1)

    def round(self, round: TrackedRound) -> None:
        """Writes a row."""
        assert self._rows is not None
        self._rows.write(_line(astuple(round)))

    def finished(self, end: TrackedEnd) -> None:
        """Writes how the session ended."""
        self._describe(end.state, end)

    def close(self) -> None:
        """Closes the file."""
        if self._rows is not None:
            self._rows.close()

    def _describe(self, state: str, end: TrackedEnd | None = None) -> None:
        """Writes the table of the run: its state, result and keys."""
        pairs: list[tuple[str, object]] = [("name", self._run.name), ("state", state)]
        if end is not None:
            pairs += [("error", end.error), ("round", end.round), ("bytes", end.bytes), ("weights_sha256", end.weights_sha256)]
            pairs += [("metric", end.metric), *end.scalars.items(), ("report", end.report or "")]
        rows = [("key", "value"), *pairs, *self._run.parameters.items()]
        replace(self._table, "".join(map(_line, rows)).encode())


def own_folder(run: Path, name: str) -> Path:
    """Makes the folder of a tracker in a run folder. Raises StoreError if there is a link, which may lead anywhere."""
    folder = run / name
    if folder.is_symlink() or not folder.is_dir():
        require_plain(folder)
    folder.mkdir(exist_ok=True)
    return folder


def _line(values: tuple[object, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow("" if value is None else value for value in values)
    return text.getvalue()


def _complete(file: Path, most: int) -> list[str]:
    """The heading and the complete rows of the first rounds, in order, at most ``most``; [] for another file or none."""
    if not file.exists():
        return []
    heading, *rows = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) or [""]
    if heading != _line(COLUMNS):
        return []
    kept = [heading]
    for number, row in enumerate(rows[:most], 1):
        if not (row.startswith(f"{number},") and row.endswith("\n") and row.count(",") == len(COLUMNS) - 1):
            break
        kept.append(row)
    return kept
