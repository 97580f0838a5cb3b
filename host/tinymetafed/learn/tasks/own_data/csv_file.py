"""Reads a CSV file into a table: whole blocks at once, and row by row where something is to be said about a cell."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from .columns import Roles, Wanted, find_roles, may_name_client
from .csv_format import CsvFormat, NotCsv, find_format, is_aside
from .file_table import UNKNOWN, Doubles, Indices, Table
from .numbers import are_names, fits, is_meant_as_number, is_missing, number, why_not, with_nan
from .problems import Place, Problems
from .read_rows import ReadRows, Row, is_no_text
from .times import clock_time

_BLOCK = 20_000  # lines that are read at once
_FIRST_ROWS = 20  # rows that roles are found from
_MOST_SHOWN = 60  # characters of a cell in a message
_REMEDIES = (
    (UnicodeError, "save it as UTF-8"),
    (csv.Error, 'correct it: is a quote " missing?'),
    (NotCsv, "save it as CSV in UTF-8"),
)


@dataclass(frozen=True)
class CsvContent:
    """A table and what was found about its file: its form, the names of its columns, whether a row of units was left out."""

    table: Table
    form: CsvFormat
    header: tuple[str, ...]
    units: bool
    repeated_headers: int


def read_csv(file: Path, wanted: Wanted, problems: Problems) -> CsvContent | None:
    """Reads a CSV file.

    Args:
        file: The file.
        wanted: What the experiment reads from each row.
        problems: Takes everything that is wrong.

    Returns:
        The rows that can be used; None if there are none.
    """
    spec = wanted.spec
    try:
        form = find_format(file, spec.delimiter, spec.decimal, wanted.columns)
        with file.open(encoding=form.encoding, newline="") as stream:
            return _Reader(file, form, wanted, problems).read(stream)
    except (OSError, UnicodeError, csv.Error, NotCsv) as error:
        remedy = next((to_do for kind, to_do in _REMEDIES if isinstance(error, kind)), "")
        problems.add(Place(file), f"cannot be read as CSV in UTF-8 ({error})", remedy, cause=f"cannot be read: {remedy}")
        return None


class _Reader:
    """Reads one file."""

    def __init__(self, file: Path, form: CsvFormat, wanted: Wanted, problems: Problems) -> None:
        self.file, self.form, self.wanted, self.problems = file, form, wanted, problems
        self.header: tuple[str, ...] = ()
        self.units, self.repeated = False, 0
        self.is_clock = False
        self.taken = ReadRows()
        self.roles = Roles((), (), None, None, None)
        self.width = 0
        self.padded = False  # whether rows end with a delimiter

    def place(self, line: int, column: int | None = None) -> Place:
        name = self.header[column] if column is not None and column < len(self.header) else ""
        return Place(self.file, line, None if column is None else column + 1, name)

    def read(self, stream: TextIO) -> CsvContent | None:
        blocks = _blocks(stream)
        numbers, lines = next(blocks, (np.empty(0, np.int64), []))
        rows = self._rows(numbers, lines, lenient=True)
        self.width = self.form.width
        last_is_named = bool(rows) and are_names(rows[0][1]) and len(rows[0][1]) == self.width and rows[0][1][-1] != ""
        if len(rows) > 1 and not last_is_named and self._end_with_delimiter([cells for _, cells in rows[1:]]):
            self.width -= 1
            self.padded = True
            rows = [(line, cells[: self.width] if not any(cells[self.width :]) else cells) for line, cells in rows]
        if rows and are_names(rows[0][1]) and len(rows[0][1]) == self.width:
            line, names = rows.pop(0)
            self.header = tuple(names)
            self.units = len(rows) > 1 and _are_units(rows[0][1], rows[1][1])
            if self.units:
                line, _ = rows.pop(0)
            after = int(np.searchsorted(numbers, line, "right"))
            numbers, lines = numbers[after:], lines[after:]
        if not rows:
            self.problems.add(Place(self.file), f"no rows; expected one per sample, {self.wanted}")
            return None
        if self.form.unclear:
            what = f"'{self.form.unclear}' may be a decimal number or have a thousands separator"
            self.problems.add(
                Place(self.file),
                f"the number {what}",
                'set task.decimal = "," or ".", or write it without',
                cause="a number may be decimal or have a thousands separator",
            )
            return None
        first = [cells for _, cells in rows[:_FIRST_ROWS]]
        roles = find_roles(self.file, self.header, (rows[0][0], first), self.width, self.wanted, self.problems)
        if roles is None:
            return None
        self.roles = roles
        self.is_clock = roles.time is not None and any(
            clock_time(row[roles.time]) is not None for row in first[:1] if roles.time < len(row)
        )
        self._take(numbers, lines)
        for numbers, lines in blocks:
            self._take(numbers, lines)
        table = self.taken.table(self.file, self.header, self.roles, self.is_clock, self.place)
        return CsvContent(table, self.form, self.header, self.units, self.repeated) if len(table) else None

    def _end_with_delimiter(self, rows: Sequence[Sequence[str]]) -> bool:
        """Whether every row ends with a delimiter, after which no column begins."""
        wide = all(len(cells) == self.width and not cells[-1] for cells in rows)
        return wide and self.width > 2 and self.wanted.columns in (None, self.width - 1)

    def _take(self, numbers: Indices, lines: list[str]) -> None:
        if not (lines and self._take_block(numbers, lines)):
            self._take_rows(numbers, lines)

    def _take_block(self, numbers: Indices, lines: list[str]) -> bool:
        """Reads a block at once, and single rows again where a cell is not a number; False if the block has other faults."""
        roles, missing = self.roles, self.wanted.spec.missing
        read = self._load(lines)
        if read is None or len(read) != len(lines):
            return False
        wide = np.stack([read[f"c{i}"] for i in roles.numbers], axis=1)
        with np.errstate(over="ignore"):
            values = wide.astype(np.float32)
        absent = np.isnan(wide)
        odd = (~np.isfinite(values) & ~absent).any(axis=1) | absent.all(axis=1)
        time = None if roles.time is None else self._times(read)
        if time is not None:
            odd |= ~np.isfinite(time)
        labels, clients = (
            None if column is None else codes.of(self._cells(read, column))
            for column, codes in ((roles.label, self.taken.labels), (roles.client, self.taken.clients))
        )
        unknown = np.zeros(len(read), bool)
        for texts in (labels if self.wanted.labelled else None, clients):
            unknown |= False if texts is None else texts == UNKNOWN
        if self.padded:
            odd |= np.array([bool(cell.strip()) for cell in read[f"c{self.width}"]], bool)
        odd |= (absent.any(axis=1) | unknown) if missing == "refuse" else unknown & (missing == "interpolate")
        lacking = absent[:, len(roles.features) :].any(axis=1) if missing == "interpolate" else absent.any(axis=1) | unknown
        left_out = lacking & ~odd
        self.taken.left_out += int(left_out.sum())
        blank = np.zeros(len(read), bool)
        for i in np.flatnonzero(odd):
            rows = self._rows(numbers[i : i + 1], lines[i : i + 1])
            row = self._row(*rows[0]) if rows else None
            blank[i], left_out[i] = not rows, bool(rows) and row is None
            if row is None:
                continue
            values[i] = row.values
            for into, value in (
                (time, row.time),
                (labels, self.taken.labels.one(row.label)),
                (clients, self.taken.clients.one(row.client)),
            ):
                if into is not None:
                    into[i] = value
        kept = np.flatnonzero(~(left_out | blank))
        if len(kept):
            self.taken.keep(
                values[kept],
                None if labels is None else labels[kept],
                None if clients is None else clients[kept],
                None if time is None else time[kept],
                numbers[kept],
                np.diff(np.cumsum(left_out)[kept], prepend=0) > 0,
            )
        self.taken.broken |= bool(left_out[kept[-1] + 1 if len(kept) else 0 :].any())
        return True

    def _load(self, lines: list[str]) -> NDArray[np.void] | None:
        """The cells of a block by column, c0, c1, …: numbers as float64, NaN for missing ones; None if some are no numbers."""
        written, delimiter, comma = lines, self.form.delimiter, self.form.decimal == ","
        if not lines[0].strip():
            return None
        if comma:
            whole = "".join(lines)
            if "." in whole:
                return None
            if delimiter == ",":
                if ";" in whole:
                    return None
                delimiter = ";"
                lines = [";".join(cells) + "\n" for cells in csv.reader(lines, strict=True, skipinitialspace=True)]
            lines = [line.replace(",", ".") for line in lines]
        roles = self.roles
        texts = {column for column in (roles.label, roles.client, roles.time if self.is_clock else None) if column is not None}
        floats = {*roles.numbers, roles.time} - texts
        if self.padded:
            texts.add(self.width)
        kinds = ["f8" if i in floats else object if i in texts else "U1" for i in range(self.width + self.padded)]
        columns = np.dtype([(f"c{i}", kind) for i, kind in enumerate(kinds)])
        for filled in (False, True):
            try:
                read = np.loadtxt(
                    with_nan(lines, delimiter) if filled else lines,
                    dtype=columns,
                    delimiter=None if delimiter == " " else delimiter,
                    comments=None,
                    quotechar='"',
                    ndmin=1,
                )
            except ValueError:
                continue
            if filled and len(read) == len(lines):
                self._put_back(read, texts, written)
            return read
        return None

    def _put_back(self, read: NDArray[np.void], texts: set[int], lines: list[str]) -> None:
        """Puts back the texts that ``with_nan`` took for missing numbers: 'none' and '-' may be classes."""
        changed = np.zeros(len(read), bool)
        for column in texts:
            changed |= read[f"c{column}"] == "nan"
        for i in np.flatnonzero(changed):
            for _, cells in self.form.split([lines[i]]):
                for column in texts:
                    read[f"c{column}"][i] = cells[column].replace(",", ".") if self.form.decimal == "," else cells[column]

    def _cells(self, read: NDArray[np.void], column: int) -> list[str]:
        """The texts of a column."""
        stripped = [cell.strip() for cell in read[f"c{column}"]]
        return [cell.replace(".", ",") for cell in stripped] if self.form.decimal == "," else stripped

    def _times(self, read: NDArray[np.void]) -> Doubles:
        """The times of a block; NaN where a text is no time."""
        column = self.roles.time
        assert column is not None
        if not self.is_clock:
            return np.array(read[f"c{column}"])
        found = (clock_time(cell) for cell in self._cells(read, column))
        return np.array([np.nan if moment is None else moment for moment in found], np.float64)

    def _take_rows(self, numbers: Indices, lines: list[str]) -> None:
        """Reads a block row by row."""
        roles = self.roles
        kept, breaks, rows = list[int](), list[bool](), list[Row]()
        for line, cells in self._rows(numbers, lines):
            if (row := self._row(line, cells)) is None:
                self.taken.broken = True
                continue
            rows.append(row)
            kept.append(line)
            breaks.append(self.taken.broken)
            self.taken.broken = False
        if kept:
            self.taken.keep(
                np.array([row.values for row in rows], np.float64).astype(np.float32),
                None if roles.label is None else self.taken.labels.of([row.label for row in rows]),
                None if roles.client is None else self.taken.clients.of([row.client for row in rows]),
                None if roles.time is None else np.array([row.time for row in rows], np.float64),
                np.array(kept, np.int64),
                np.array(breaks, bool),
            )

    def _row(self, line: int, cells: list[str]) -> Row | None:
        """A row's values; None for one that is left out, which is a problem unless ``task.missing`` allows it."""
        roles = self.roles
        if len(cells) == self.width + 1 and not cells[-1]:
            cells = cells[:-1]  # the row ends with a delimiter
        if tuple(cells) == self.header:
            self.repeated += 1
            return None
        if len(cells) != self.width:
            expected = (
                str(self.wanted) if self.wanted.spec.features is None else ", ".join(self.header) or "as in the first row"
            )
            remedy = "correct it, or begin it with # if it is a comment"
            wanted = f"columns, expected {self.width}: {expected}"
            self.problems.add(self.place(line), f"has {len(cells)} {wanted}", remedy, cause=f"another number of {wanted}")
            return None
        wrong = self.problems.count
        values = [value for column in roles.numbers if (value := self._value(line, column, cells[column])) is not None]
        time = 0.0 if roles.time is None else self._moment(line, roles.time, cells[roles.time])
        label, client = (self._text(line, column, cells) for column in (roles.label, roles.client))
        if len(values) < len(roles.numbers) or time is None or label is None or client is None:
            self.taken.left_out += self.problems.count == wrong
            return None
        return Row(values, time, label, client)

    def _value(self, line: int, column: int, cell: str) -> float | None:
        """The number of a cell: NaN for a missing one, None for a row that is left out."""
        found = number(cell, self.form.decimal)
        if found is not None and fits(found):
            return found
        missing = self.wanted.spec.missing
        if found is None and is_missing(cell) and missing != "refuse":
            return float("nan") if missing == "interpolate" and column in self.roles.features else None
        what = f"'{_shown(cell)}' is" if cell else "is empty,"
        like = f", written like {'-12,5' if self.form.decimal == ',' else '-12.5'} or 3e-4" if cell and found is None else ""
        name = self.header[column] if self.header else ""
        if found is None and not is_missing(cell) and may_name_client(name, self.wanted.spec):
            remedy = (
                f'if the column names the client of each row, set task.client = "{name}"; else leave it out with task.ignore'
            )
        elif clock_time(cell) is None:
            remedy = why_not(cell, self.form.decimal)
        else:
            remedy = "it is a time: name its column in task.time, or leave that out with task.ignore"
        said = f"not a finite number{like}"
        self.problems.add(self.place(line, column), f"{what} {said}", remedy, cause=f"{said if cell else what}; {remedy}")
        return None

    def _moment(self, line: int, column: int, cell: str) -> float | None:
        found = clock_time(cell) if self.is_clock else number(cell, self.form.decimal)
        if found is not None:
            return found
        if not (is_missing(cell) and self.wanted.spec.missing == "drop"):
            what = f"'{_shown(cell)}' is not a time" if cell else "is empty, not a time"
            self.problems.add(
                self.place(line, column),
                what,
                "write all times as numbers, or all like 2026-03-01T12:30:05.25 or 12:30:05.25",
                cause="not a time" if cell else what,
            )
        return None

    def _text(self, line: int, column: int | None, cells: Sequence[str]) -> str | None:
        if column is None:
            return ""
        if not is_no_text(cells[column]) or (column == self.roles.label and not self.wanted.labelled):
            return cells[column]
        if self.wanted.spec.missing != "drop":
            what = "label" if column == self.roles.label else "client"
            self.problems.add(self.place(line, column), f"has no {what}", "add it or remove the row")
        return None

    def _rows(self, numbers: Indices, lines: list[str], lenient: bool = False) -> list[tuple[int, list[str]]]:
        """Line and cells of every row that is not blank and no comment; ``lenient``: of the first rows, up to a fault."""
        kept = [i for i, line in enumerate(lines) if not is_aside(line)]
        if lenient:
            kept = kept[: _FIRST_ROWS + 2]
        rows = []
        try:
            for i, cells in self.form.split([lines[i] for i in kept]):
                rows.append((int(numbers[kept[i - 1]]), cells))
        except csv.Error as error:
            if not lenient:
                raise csv.Error(f"after row {rows[-1][0] if rows else numbers[0] - 1}: {error}") from None
        return rows


def _blocks(stream: TextIO) -> Iterator[tuple[Indices, list[str]]]:
    """Numbers (from 1) and texts of lines, many at once; a quoted cell of several lines is never cut."""
    start = 1
    while lines := list(islice(stream, _BLOCK)):
        quotes = sum(line.count('"') for line in lines if '"' in line and not is_aside(line))
        while quotes % 2 and (more := stream.readline()):
            lines.append(more)
            quotes += more.count('"')
        yield np.arange(start, start + len(lines)), lines
        start += len(lines)


def _are_units(cells: Sequence[str], after: Sequence[str]) -> bool:
    """Whether a row after the header names units: no cell is a number, in the next row some are."""
    if any(is_meant_as_number(cell) for cell in cells) or all(is_missing(cell) for cell in cells):
        return False
    return any(number(cell) is not None or number(cell, ",") is not None for cell in after)


def _shown(cell: str) -> str:
    """A cell as a message shows it: in one line, and not too long."""
    text = " ".join(cell.split())
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
