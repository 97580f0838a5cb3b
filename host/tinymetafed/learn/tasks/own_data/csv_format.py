"""The form of a CSV file, found from its first lines: encoding, delimiter, decimal mark, comments."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .numbers import decimal_mark, is_meant_as_number

_SAMPLE = 1 << 16  # bytes that the form is found from
_SAMPLE_LINES = 200
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "spaces"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with a mark"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_COMMENT = re.compile(r"\s*(#|%|//)")
_ZIP = b"PK\x03\x04"
_SEPARATOR = re.compile(r"sep=(.)\s*", re.IGNORECASE)


class NotCsv(Exception):
    """A file that is not text; the message says what it is."""


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """The form of a CSV file.

    Attributes:
        encoding: Python's name of the encoding.
        encoding_title: Its name in notes.
        delimiter: The character between columns; a space stands for any number of spaces.
        decimal: "." or ",".
        unclear: A number such as 1,234 that may have a decimal comma or a thousands separator; "" if there is none.
        width: Columns of most of the first rows.
        found: Whether the delimiter was found; False where rows have one column.
        comments: Whether the first lines have comments.
    """

    encoding: str
    encoding_title: str
    delimiter: str
    decimal: str
    unclear: str
    width: int
    found: bool
    comments: bool

    def split(self, lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """Number (from 1) and stripped cells of every row that is not blank. Raises csv.Error."""
        if self.delimiter == " ":
            lines = [line.strip().replace("\t", " ") for line in lines]
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True, skipinitialspace=True)
        last = 0
        for cells in reader:
            first, last = last + 1, reader.line_num
            if any(cells):
                yield first, [cell.strip() for cell in cells]

    @property
    def unusual(self) -> list[str]:
        """What differs from the usual form, in words: not UTF-8, not commas, not a decimal point, comments."""
        said = [] if self.encoding in ("utf-8", "utf-8-sig") else [f"in {self.encoding_title}"]
        if self.delimiter != ",":
            said.append(f"columns separated by {DELIMITERS.get(self.delimiter, repr(self.delimiter))}")
        if self.decimal != ".":
            said.append("numbers with a decimal comma")
        if self.comments:
            said.append("comments left out")
        return said


def is_aside(line: str) -> bool:
    """Whether a line is a comment, or Excel's line that names the delimiter."""
    return bool(_COMMENT.match(line) or _SEPARATOR.fullmatch(line))


def find_format(file: Path, delimiter: str | None, decimal: str | None, expected: int | None) -> CsvFormat:
    """Finds the form of a file.

    Args:
        file: The file.
        delimiter: The delimiter, if it is known.
        decimal: The decimal mark, if it is known.
        expected: The number of columns, if it is known; of two possible delimiters the one with so many columns counts.

    Returns:
        The form.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: Its text cannot be decoded.
        NotCsv: It is another kind of file.
    """
    with file.open("rb") as stream:
        head = stream.read(_SAMPLE)
    if head.startswith(_ZIP):
        raise NotCsv("it is an Excel or ZIP file")
    encoding, title = _encoding(head)
    with file.open(encoding=encoding, newline="") as text:
        lines = text.read(_SAMPLE).splitlines(keepends=True)
    if len(lines) > 1 and len(head) == _SAMPLE:
        lines.pop()  # it may be cut off
    named = next((match[1] for line in lines[:1] if (match := _SEPARATOR.fullmatch(line))), None)
    rows = [line for line in lines if line.strip() and not is_aside(line)][:_SAMPLE_LINES]
    chosen, width = _delimiter(rows, delimiter or named, expected)
    form = CsvFormat(encoding, title, chosen or ",", ".", "", width, chosen is not None, any(map(_COMMENT.match, lines)))
    cells = [cell for _, row in _lenient(form, rows) for cell in row]
    mark, unclear = (decimal, "") if decimal else decimal_mark(cells)
    return CsvFormat(encoding, title, form.delimiter, mark, unclear, width, form.found, form.comments)


def _encoding(head: bytes) -> tuple[str, str]:
    """Python's name of an encoding, and its name in notes; UTF-16 without a mark is known by its zero bytes."""
    for mark, encoding, title in _MARKS:
        if head.startswith(mark):
            return encoding, title
    zeros = [head[start:200:2].count(0) for start in (0, 1)]
    if max(zeros) > len(head[:200]) / 4 > min(zeros):
        return ("utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"), "UTF-16"
    return "utf-8", "UTF-8"


def _lenient(form: CsvFormat, lines: Sequence[str]) -> list[tuple[int, list[str]]]:
    """The rows up to the first that is not valid CSV."""
    rows = []
    try:
        for row in form.split(lines):
            rows.append(row)
    except csv.Error:
        pass  # reading the whole file names the row
    return rows


def _delimiter(lines: Sequence[str], known: str | None, expected: int | None) -> tuple[str | None, int]:
    """The delimiter (None if rows have one column), and the number of columns of most rows."""
    best: tuple[tuple[bool, bool, float, float], str, int] | None = None
    for candidate in [known] if known else DELIMITERS:
        form = CsvFormat("", "", candidate, ".", "", 0, True, False)
        rows = [cells for _, cells in _lenient(form, lines)]
        if not rows:
            continue
        width, times = Counter(map(len, rows)).most_common(1)[0]
        if width < 2 and not known:
            continue
        cells = [cell for row in rows[1:] or rows for cell in row if cell]
        numeric = sum(map(is_meant_as_number, cells)) / max(1, len(cells))
        named = width - all(not row[-1] for row in rows if len(row) == width)  # rows may end with a delimiter
        score = (numeric > 0, named == expected, round(times / len(rows), 1), round(numeric, 2))
        if best is None or score > best[0]:  # of equals the first of DELIMITERS
            best = score, candidate, width
    return (None, 1 if lines else 0) if best is None else (best[1], best[2])
