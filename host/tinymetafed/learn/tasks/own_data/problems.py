"""Problems of data: where each is, what is wrong, what to do; collected over all files, so that all are shown at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
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
    """One problem, or the number of further ones like it in the same file and column.

    Attributes:
        place: Where it is.
        what: What is wrong; continues the place as a sentence if it begins with a verb, a quoted cell or an equals sign.
        remedy: What to do.
        cause: ``what`` without the value that differs from place to place, equal in problems with one cause.
        count: Number of problems that this stands for.
    """

    place: Place
    what: str
    remedy: str
    cause: str
    count: int = 1

    def __str__(self) -> str:
        joint = " " if self.what.startswith(("'", "is ", "has ", "= ")) else ": "
        return f"{self.place}{joint}{self.what}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass(frozen=True, slots=True)
class Cause:
    """The problems that have one cause: the first of them, and the number of them in each file."""

    first: Problem
    counts: Mapping[Path, int]

    @property
    def count(self) -> int:
        """Number of problems in all files."""
        return sum(self.counts.values())


def causes(problems: Iterable[Problem]) -> tuple[Cause, ...]:
    """Groups problems by cause and column, in the order of the first of each."""
    groups: dict[tuple[str, int | None], tuple[Problem, Counter[Path]]] = {}
    for problem in problems:
        _, counts = groups.setdefault((problem.cause, problem.place.column), (problem, Counter()))
        counts[problem.place.file] += problem.count
    return tuple(Cause(first, counts) for first, counts in groups.values())


class Problems:
    """Collects problems; of many alike in one column of one file it lists the first and counts the others."""

    def __init__(self) -> None:
        self._found: list[Problem] = []
        self._alike: Counter[tuple[Path, int | None, str]] = Counter()
        self._first: dict[tuple[Path, int | None, str], Problem] = {}
        self._files: set[Path] = set()

    def add(self, place: Place, what: str, remedy: str = "", cause: str = "") -> None:
        """Adds a problem; ``cause`` is ``what`` without the value that differs from place to place, if there is one."""
        kind = "" if place.row is None else "row" if place.column is None else "cell"
        key = (place.file, place.column, kind or what)
        self._alike[key] += 1
        self._files.add(place.file)
        if self._alike[key] <= MOST_ALIKE:
            self._found.append(Problem(place, what, remedy, cause or what))
            self._first.setdefault(key, self._found[-1])

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
            Problem(
                Place(key[0], column=key[1]),
                f"has {count - MOST_ALIKE:,} more like it",
                "",
                self._first[key].cause,
                count - MOST_ALIKE,
            )
            for key, count in self._alike.items()
            if count > MOST_ALIKE
        ]
        return (*self._found, *more)
