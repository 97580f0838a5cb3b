"""Which column of a file has which role: features, label or targets, client, time."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen.spec import ColumnName, FolderTask

from .numbers import is_missing, number
from .problems import Place, Problems

_PERSONS = {"person", "subject", "user", "participant", "client", "patient", "speaker", "volunteer", "wearer", "owner"}
_NO_LABEL = {"", "none", "no", "null", "nil", "false", "-"}  # what people write for data without labels


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an experiment reads from each row.

    Attributes:
        spec: The experiment's [task].
        features: Number of features of a row; None where no model says it.
        outputs: Number of values to predict; 0 where a row has a label.
        shape: The model's input shape, for messages.
        labelled: Whether each row must have a label.
    """

    spec: FolderTask
    features: int | None
    outputs: int
    shape: tuple[int, ...] = ()
    labelled: bool = True

    @property
    def columns(self) -> int | None:
        """Number of columns of a file; None if it is not known."""
        spec = self.spec
        if self.features is None or spec.features is not None:
            return None
        others = sum(column is not None for column in (spec.client, spec.time)) + len(spec.ignore)
        return self.features + (self.outputs or 1) + others

    def __str__(self) -> str:
        last = f"{self.outputs} target(s), one per unit of the last layer" if self.outputs else "a label"
        if self.features is None:
            return f"features, then {last}"
        of = f"model.input = {list(self.shape)}"
        if self.spec.window is not None:
            of = f"of each of the {self.spec.window} rows of a window, {of}"
        return f"{self.features} features ({of}), then {last}"


@dataclass(frozen=True, slots=True)
class Roles:
    """Columns of one file by role, counted from 0. ``label`` is None where rows have targets."""

    features: tuple[int, ...]
    targets: tuple[int, ...]
    label: int | None
    client: int | None
    time: int | None

    @property
    def numbers(self) -> tuple[int, ...]:
        """Columns of numbers: features, then targets."""
        return (*self.features, *self.targets)


class _Names:
    """Finds columns by name or number, and remembers what is wrong with them."""

    def __init__(self, file: Path, header: Sequence[str], width: int, problems: Problems) -> None:
        self.file, self.header, self.width, self.problems = file, header, width, problems
        self.failed = False

    def refuse(self, what: str, remedy: str, cause: str = "") -> None:
        self.problems.add(Place(self.file), what, remedy, cause)
        self.failed = True

    def find(self, key: str, column: ColumnName) -> int:
        """The index of a column; -1 if it is not there, and a problem more."""
        asked = f"task.{key} = {column!r}"
        if isinstance(column, int):
            if column <= self.width:
                return column - 1
            self.refuse(f"{asked}, but there are {self.width} columns", "columns are counted from 1")
        elif not self.header:
            self.refuse(
                f"{asked} names a column, but the first row has no names",
                f"add a first row of names, or give the column's number, as in {key} = 1",
            )
        elif (times := Counter(self.header)[column]) == 1:
            return self.header.index(column)
        elif times:
            where = " and ".join(str(i + 1) for i, name in enumerate(self.header) if name == column)
            self.refuse(f"{asked} names columns {where}", f"rename one of them, or give a number, as in {key} = 1")
        elif key == "label" and column.casefold() in _NO_LABEL:
            self.refuse(
                f"{asked}: no such column, and samples without labels cannot be trained on",
                f"name the column of the labels ({self._list()}), or leave label out for the last column",
            )
        else:
            near = difflib.get_close_matches(column, self.header, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {self._list()}"
            self.refuse(f"{asked}: no column has this name", hint)
        return -1

    def _list(self) -> str:
        return ", ".join(self.header)


def find_roles(
    file: Path,
    header: Sequence[str],
    first: tuple[int, Sequence[Sequence[str]]],
    width: int,
    wanted: Wanted,
    problems: Problems,
) -> Roles | None:
    """Finds the columns of a file.

    Args:
        file: The file.
        header: Names of its columns; empty without a header.
        first: Line of the first row of data, and the cells of the first rows.
        width: Number of columns.
        wanted: What the experiment reads.
        problems: Takes what is wrong.

    Returns:
        The roles; None if a column is missing.
    """
    spec, names = wanted.spec, _Names(file, header, width, problems)
    client = None if spec.client is None else names.find("client", spec.client)
    time = None if spec.time is None else names.find("time", spec.time)
    ignored = {names.find("ignore", column) for column in spec.ignore}
    given = None if spec.features is None else [names.find("features", column) for column in spec.features]
    taken = ignored | {column for column in (client, time) if column is not None}
    free = [column for column in range(width) if column not in taken]
    if spec.label is not None:
        asked = [spec.label] if isinstance(spec.label, str | int) else list(spec.label)
        last = [names.find("label", column) for column in asked]
    else:
        last = [column for column in free if column not in (given or ())][-(wanted.outputs or 1) :]
    features = [column for column in free if column not in last] if given is None else given
    if names.failed:
        return None
    targets = tuple(last) if wanted.outputs else ()
    line, rows = first
    if len(last) != (wanted.outputs or 1):
        what = f"has {len(last)} columns to predict (task.label), expected {wanted.outputs or 1}"
        names.refuse(what, "one per unit of the last layer" if wanted.outputs else "name the column of the labels")
    elif twice := [column + 1 for column, times in Counter([*features, *last, *taken]).items() if times > 1]:
        names.refuse(f"column {twice[0]} has two roles", "name it once in task.features, label, client, time and ignore")
    elif not features and wanted.features is None:
        names.refuse(f"has {width} column(s), none is left for features", f"expected {wanted}")
    elif given is not None and wanted.features is not None and len(given) != wanted.features:
        names.refuse(
            f"task.features names {len(given)} columns, but model.input = {list(wanted.shape)} takes {wanted.features}",
            "change one of them",
        )
    elif (
        given is None
        and spec.label is None
        and not wanted.outputs
        and (column := _text_column(rows, features, last[0])) is not None
    ):
        name = f"'{header[column]}'" if header else f"{column + 1}"
        names.refuse(
            f"column {column + 1} holds texts such as '{rows[0][column]}', the last column holds numbers",
            f"labels go in the last column, or name it: label = {name}",
            cause=f"column {column + 1} holds texts, the last column holds numbers",
        )
    elif given is None and wanted.features is not None and len(features) != wanted.features:
        expected = width - len(features) + wanted.features
        remedy = ""
        if width == 1:
            remedy = "columns are separated by commas, semicolons, tabs, | or spaces"
        elif len(features) > wanted.features:
            remedy = "leave columns out with task.ignore, choose them with task.features, or change model.input"
        problems.add(Place(file, line), f"has {width} columns, expected {expected}: {wanted}", remedy)
        names.failed = True
    return None if names.failed else Roles(tuple(features), targets, None if wanted.outputs else last[0], client, time)


def _text_column(rows: Sequence[Sequence[str]], features: Sequence[int], label: int) -> int | None:
    """A column of texts among the features where the last column has numbers only; None if there is none."""

    def all_cells(column: int, is_text: bool) -> bool:
        cells = [row[column] for row in rows if column < len(row) and not is_missing(row[column])]
        return bool(cells) and all((number(cell) is None and number(cell, ",") is None) == is_text for cell in cells)

    if not all_cells(label, False):
        return None
    return next((column for column in features if all_cells(column, True)), None)


def may_name_client(name: str, spec: FolderTask) -> bool:
    """Whether a column that is named so, for instance ``subject_id``, may say whose row it is, and no key names that one."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return spec.client is None and any(word.casefold() in _PERSONS for word in words)
