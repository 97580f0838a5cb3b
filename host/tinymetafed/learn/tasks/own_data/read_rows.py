"""The rows of a CSV file as they are read, block by block, and the table that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .columns import Roles
from .file_table import UNKNOWN, Bools, Doubles, Indices, Table, Texts
from .problems import Place

_NO_LABEL = {"", "nan"}


def is_no_text(cell: str) -> bool:
    """Whether a cell has neither a label nor a client."""
    return cell.casefold() in _NO_LABEL


class Codes:
    """Numbers texts in the order in which they appear."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def of(self, texts: Sequence[str]) -> Indices:
        """The codes of some texts; UNKNOWN for missing ones."""
        codes = {text: UNKNOWN if is_no_text(text) else self._code(text) for text in dict.fromkeys(texts)}
        return np.fromiter((codes[text] for text in texts), np.int64, len(texts))

    def one(self, text: str) -> int:
        """The code of one text."""
        return int(self.of([text])[0])

    def _code(self, text: str) -> int:
        return self.known.setdefault(text, len(self.known))


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one row: numbers of features and targets, time, label, client; "" and 0 for columns that are not there."""

    values: list[float]
    time: float
    label: str
    client: str


@dataclass
class ReadRows:
    """The columns of the blocks that have been read, and the codes of labels and clients.

    ``broken``: whether the row before the next one was left out. ``left_out``: how many were.
    """

    labels: Codes = field(default_factory=Codes)
    clients: Codes = field(default_factory=Codes)
    broken: bool = False
    left_out: int = 0
    _values: list[NDArray[np.float32]] = field(default_factory=list)
    _labels: list[Indices] = field(default_factory=list)
    _clients: list[Indices] = field(default_factory=list)
    _time: list[Doubles] = field(default_factory=list)
    _lines: list[Indices] = field(default_factory=list)
    _breaks: list[Bools] = field(default_factory=list)

    def keep(
        self,
        values: NDArray[np.float32],
        labels: Indices | None,
        clients: Indices | None,
        time: Doubles | None,
        lines: Indices,
        breaks: Bools,
    ) -> None:
        """Adds the rows of a block.

        Args:
            values: Features, then targets [rows, columns].
            labels: Code of each row's label; None where rows have none.
            clients: Code of each row's client; None where the file is one client.
            time: Time of each row; None where rows have none.
            lines: Number of each row's line in the file.
            breaks: Whether rows between a row and the one before it were left out [rows].
        """
        breaks[0] |= self.broken
        self.broken = False
        self._values.append(values)
        self._lines.append(lines)
        self._breaks.append(breaks)
        for given, into in ((labels, self._labels), (clients, self._clients)):
            if given is not None:
                into.append(given)
        if time is not None:
            self._time.append(time)

    def table(
        self, file: Path, header: tuple[str, ...], roles: Roles, is_clock: bool, place: Callable[[int, int | None], Place]
    ) -> Table:
        """The rows as a table; their blocks are gone then.

        Args:
            file: The file.
            header: Names of its columns; empty without a header.
            roles: What each column is.
            is_clock: Whether times are dates or times of day.
            place: The place of a line and a column in the file, for messages.

        Returns:
            The table.
        """
        n = len(roles.features)
        values = np.concatenate([np.empty((0, len(roles.numbers)), np.float32), *self._values])
        self._values.clear()
        lines = np.concatenate([np.empty(0, np.int64), *self._lines])
        return Table(
            file=file,
            names=tuple(header[i] for i in roles.features) if header else (),
            values=values[:, :n],
            targets=values[:, n:],
            labels=None if roles.label is None else _texts(self._labels, self.labels),
            clients=None if roles.client is None else _texts(self._clients, self.clients),
            time=None if roles.time is None else np.concatenate([np.empty(0), *self._time]),
            time_name=header[roles.time] if header and roles.time is not None else "",
            is_clock=is_clock,
            breaks=np.concatenate([np.empty(0, bool), *self._breaks]),
            label_place=lambda i: place(int(lines[i]), roles.label),
            left_out=self.left_out,
        )


def _texts(parts: list[Indices], codes: Codes) -> Texts:
    """A column of texts, whose names are those of the rows that were kept, in the order of their first rows."""
    given = np.concatenate([np.empty(0, np.int64), *parts])
    known = tuple(codes.known)
    used, first = np.unique(given, return_index=True)
    order = [int(code) for code in used[np.argsort(first)] if code != UNKNOWN]
    again = np.full(len(known) + 1, UNKNOWN)  # UNKNOWN, -1, is the last one
    again[order] = np.arange(len(order))
    return Texts(again[given], tuple(known[code] for code in order))
