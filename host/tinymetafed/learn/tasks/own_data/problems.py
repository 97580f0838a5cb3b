"""Problems of data: where each is, what is wrong, what to do; collected over all files, so that all are shown at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

MOST_ALIKE = 5  # problems of one file and column that are listed; further ones are counted


@dataclass(frozen=True, slots=True)
class Place:
    """A place in data.

    Attributes:
        file: The file or folder.
        row: Line in a CSV file, from 1; None where the whole file is meant.
        column: Column of a CSV file, from 1; None where the whole row is meant.
        name: The column's name in the header, or an array's element such as ``y[4]``; "" where there is none.
    """

    file: Path
    row: int | None = None
    column: int | None = None
    name: str = ""

    def __str__(self) -> str:
        parts = [] if self.row is None else [f"row {self.row}"]
        if self.column is not None:
            parts.append(f"column {self.column}" + (f" ('{self.name}')" if self.name else ""))
        elif self.name:
            parts.append(self.name)
        return f"{self.file}" + (f": {', '.join(parts)}" if parts else "")


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. ``what`` continues the place as a sentence if it begins with a verb, a quoted cell or an equals sign."""

    place: Place
    what: str
    remedy: str

    def __str__(self) -> str:
        joint = " " if self.what.startswith(("'", "is ", "has ", "= ")) else ": "
        return f"{self.place}{joint}{self.what}" + (f"; {self.remedy}" if self.remedy else "")


class Problems:
    """Collects problems; of many alike in one column of one file it lists the first and counts the others."""

    def __init__(self) -> None:
        self._found: list[Problem] = []
        self._alike: Counter[tuple[Path, int | None, str]] = Counter()
        self._files: set[Path] = set()

    def add(self, place: Place, what: str, remedy: str = "") -> None:
        """Adds a problem."""
        kind = "" if place.row is None else "row" if place.column is None else "cell"
        key = (place.file, place.column, kind or what)
        self._alike[key] += 1
        self._files.add(place.file)
        if self._alike[key] <= MOST_ALIKE:
            self._found.append(Problem(place, what, remedy))

    def of(self, file: Path) -> bool:
        """Whether a file has a problem."""
        return file in self._files

    @property
    def count(self) -> int:
        """Number of all problems, also of those that are not listed."""
        return self._alike.total()

    @property
    def listed(self) -> tuple[Problem, ...]:
        """The problems; after those of one file and column a line that counts the others like them."""
        more = [
            Problem(Place(file, column=column), f"has {count - MOST_ALIKE:,} more like it", "")
            for (file, column, _), count in self._alike.items()
            if count > MOST_ALIKE
        ]
        return (*self._found, *more)
