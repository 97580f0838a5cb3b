"""Numbers in text: decimal numbers with a point or a comma, and the words that stand for a missing one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

import numpy as np

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_FRACTION = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+", re.ASCII)
_GROUPED = re.compile(r"[+-]?\d{1,3}([,.'’  ]\d{3})+([.,]\d+)?", re.ASCII)
_MISSING = {"", "nan", "+nan", "-nan", "na", "n/a", "#n/a", "#na", "null", "none", "nil", "missing", "?", "-", "--"}
_UNIT = re.compile(r"(.*\d\.?)\s*([^\W\d_]{1,5}(?:/[^\W\d_]{1,3}\d?)?|[%°]\w?)")
_MINUS = str.maketrans("\u2212\u2010\u2011\u2012\u2013\uff0d", "------")  # minus signs and dashes of word processors
_LARGEST = float(np.finfo(np.float32).max)


def number(cell: str, decimal: str = ".") -> float | None:
    """A cell's decimal number; None for other text, also if ``float`` accepts it: 1_000, infinity, digits of other scripts."""
    if decimal == ",":
        if "." in cell:
            return None
        cell = cell.replace(",", ".")
    return float(cell) if _DECIMAL.fullmatch(cell) else None


def fits(value: float) -> bool:
    """Whether a number is finite in float32."""
    return abs(value) <= _LARGEST


def is_missing(cell: str) -> bool:
    """Whether a cell is empty or a word for a missing number: NaN, NA, null, ?, -."""
    return cell.casefold() in _MISSING


def with_nan(lines: Iterable[str], delimiter: str) -> list[str]:
    """Lines of CSV in which empty cells, and those with a word for a missing number, are ``nan``."""
    text = "\n" + "".join(lines)
    whole = text if text.endswith(("\n", "\r")) else text + "\n"
    return _missing_cells(delimiter).sub(r"\1nan", whole).splitlines(keepends=True)[1:]


@cache
def _missing_cells(delimiter: str) -> re.Pattern[str]:
    words = "|".join(re.escape(word) for word in sorted(_MISSING, key=len, reverse=True) if word)
    if delimiter == " ":  # any number of spaces; there are no empty cells
        return re.compile(rf"()(?<!\S)(?:{words})(?!\S)", re.IGNORECASE)
    edge = re.escape(delimiter)
    return re.compile(rf"([{edge}\n])[ \t]*(?:{words})?[ \t]*(?=[{edge}\r\n])", re.IGNORECASE)


def is_meant_as_number(cell: str) -> bool:
    """Whether the author of a cell probably meant a number: 1_000, 0x10, 1 0, 1,5, nan, digits of other scripts."""
    compact = "".join(cell.split()).replace(",", ".")
    for read in (float, lambda text: int(text, 0)):
        try:
            read(compact)
        except ValueError:
            continue
        return True
    return bool(_GROUPED.fullmatch(cell))


def are_names(cells: Iterable[str]) -> bool:
    """Whether the cells of a first row can be column names: two or more words, no number, no word for a missing number."""
    named = [cell for cell in cells if cell]
    return len(named) > 1 and not any(is_meant_as_number(cell) or is_missing(cell) for cell in named)


def why_not(cell: str, decimal: str) -> str:
    """What to do about a cell that is not a number in a file with this decimal mark, or none that fits float32."""
    if number(cell, decimal) is not None:
        return f"the largest is {_LARGEST:.1e}; correct it or remove the row"
    if is_missing(cell):
        return 'correct it, remove the row, or set task.missing = "drop" or "interpolate"'
    if number(cell, "," if decimal == "." else ".") is not None and not _THOUSANDS.fullmatch(cell.replace(".", ",")):
        other = "point" if decimal == "," else "comma"
        return f"it has a decimal {other} and others do not; write all alike, or set task.decimal"
    if _GROUPED.fullmatch(cell):
        return "write it without thousands separators"
    if number(cell.translate(_MINUS), decimal) is not None:
        return "write its minus sign as -"
    if (unit := _UNIT.fullmatch(cell)) and number(unit[1], decimal) is not None:
        return f"write it without '{unit[2]}'"
    if not any(map(str.isdigit, cell)):
        return (
            "correct it or remove the row; leave a column of texts out with task.ignore, or name it in task.client if it names "
            "the client of each row"
        )
    return "correct it or remove the row"


def decimal_mark(cells: Iterable[str]) -> tuple[str, str]:
    """The decimal mark of the numbers in some cells.

    Args:
        cells: Cells of the first rows, as they are in the file.

    Returns:
        "." or ","; and a cell such as 1,234 that may be either 1.234 or 1234 if no other cell tells which, else "".
    """
    unclear, commas = "", False
    for cell in cells:
        if _FRACTION.fullmatch(cell):
            return ".", ""
        if _THOUSANDS.fullmatch(cell):
            unclear = unclear or cell
        elif _COMMA.fullmatch(cell):
            commas = True
    return ("," if commas else "."), ("" if commas else unclear)
