"""Times of rows: the unit of a column of numbers, and dates and times of day."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from .file_table import Table
from .windows import median_step

Unit = Literal["s", "ms", "us", "ns"]
SECONDS: dict[Unit, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_SINCE_1970: tuple[tuple[float, Unit], ...] = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"), (1e8, "s"))
_IN_NAME: tuple[tuple[str, Unit], ...] = (
    (r"ns|nanos\w*", "ns"),
    (r"us|µs|micros\w*", "us"),
    (r"ms|msecs?|millis\w*", "ms"),
    (r"s|secs?|seconds?", "s"),
)


def find_unit(tables: Sequence[Table], given: Unit | None) -> tuple[Unit, str]:
    """The unit of the times of some files.

    Args:
        tables: The files, with times that are numbers.
        given: ``task.time_unit``.

    Returns:
        The unit; and the reason for it in words, "" if it was given.
    """
    if given is not None:
        return given, ""
    for table in tables:
        for words, unit in _IN_NAME:
            if re.search(rf"(^|[^a-zµ])({words})[)\]]?$", table.time_name.casefold()):
                return unit, f"as the column's name '{table.time_name}' says"
    firsts = [float(table.time[0]) for table in tables if table.time is not None and len(table.time)]
    for least, unit in _SINCE_1970:
        if firsts and min(firsts) >= least:
            return unit, "because they count since 1970"
    steps = [median_step(table.time) for table in tables if table.time is not None and len(table.time) > 1]
    step = float(np.median(steps)) if steps else 0.0
    reason = f"because their median step is {step:g}"
    if step < 1 or not step.is_integer() or step == 1:
        return "s", reason
    return ("ms" if step < 5_000 else "us"), reason


def clock_time(cell: str) -> float | None:
    """Microseconds of a date with a time, or of a time of day; None for other text."""
    if not (":" in cell or cell.count("-") > 1):
        return None
    try:
        moment = datetime.datetime.fromisoformat(cell)
    except ValueError:
        try:
            of_day = datetime.time.fromisoformat(cell)
        except ValueError:
            return None
        moment = datetime.datetime.combine(_EPOCH, of_day)
    since = (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)) - _EPOCH
    return float(since // datetime.timedelta(microseconds=1))
