"""The content of one data file: rows of numbers, with a label, a client and a time for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .. import Floats
from .problems import Place

Indices = NDArray[np.int64]
Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]

UNKNOWN = -1  # the code of a missing text


@dataclass(frozen=True, slots=True)
class Texts:
    """One text per row: ``names[codes[i]]``; the code UNKNOWN where the text is missing."""

    codes: Indices
    names: tuple[str, ...]

    def at(self, keep: Bools | Indices) -> Texts:
        """The texts of some rows."""
        return Texts(self.codes[keep], self.names)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one file.

    Attributes:
        file: The file.
        names: Names of the features; empty without a header.
        values: float32 [rows, features], or [rows, ...] from NPZ; NaN where a value is missing and ``task.missing`` allows it.
        targets: float32 [rows, outputs]; no columns where rows have classes.
        labels: The label of each row; None where rows have values to predict.
        clients: The client of each row; None where the file is one client.
        time: The time of each row, float64 [rows], in the unit of its column; None without ``task.time``.
        time_name: The header's name of the column of times; "" without.
        is_clock: Whether times were dates or times of day; ``time`` is in microseconds then.
        breaks: bool [rows]: whether a row does not follow the row before it, because something between them was left out.
        label_place: The place of a row's label, for messages.
        left_out: Rows of the file that were left out because a value is missing.
    """

    file: Path
    names: tuple[str, ...]
    values: Floats
    targets: Floats
    labels: Texts | None
    clients: Texts | None
    time: Doubles | None
    time_name: str
    is_clock: bool
    breaks: Bools
    label_place: Callable[[int], Place]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.values)

    def without(self, left_out: Bools) -> Self:
        """The table without some rows; the row after each of them begins anew."""
        kept = np.flatnonzero(~left_out)
        gone = np.cumsum(left_out)[kept]
        broken = np.cumsum(self.breaks)[kept]  # a break moves to the next row that is kept
        breaks = np.diff(gone, prepend=0) + np.diff(broken, prepend=0) > 0
        place = self.label_place
        return replace(
            self,
            values=self.values[kept],
            targets=self.targets[kept],
            labels=self.labels and self.labels.at(kept),
            clients=self.clients and self.clients.at(kept),
            time=None if self.time is None else self.time[kept],
            breaks=breaks,
            label_place=lambda i: place(int(kept[i])),
        )
