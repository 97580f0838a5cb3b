"""The task ``folder``: every CSV or NPZ file in a folder is one client; the host streams the rows."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import math
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.protocol import SampleSet, Stream
from tinymetafed_codegen.spec import FolderTask, RunSpec, TaskShapes

from .. import prng
from . import HELD_OUT, DataError, Floats, Samples, Task, is_held_out

TEST_ROWS = 100  # largest number of test samples of a client


@dataclass(frozen=True, slots=True)
class Client:
    """The rows of one file: ``inputs`` float32 [rows, *input_shape], ``targets`` float32 [rows, target_size]."""

    name: str
    inputs: Floats
    targets: Floats


class Folder(Task):
    """A task of one client per file; training client i is the i-th file, by name, that is not held out.

    Held-out client t is the held-out file number t modulo their count; every t splits its rows in another way. Rows are
    shuffled for every client and round. Samples are drawn from the classes in turn, 0, 1, …, until a class has no rows left.
    """

    spec: FolderTask

    def __init__(
        self,
        spec: FolderTask,
        shapes: TaskShapes,
        seed: int,
        trained: Sequence[Client],
        unseen: Sequence[Client],
        clients: int | None = None,
    ) -> None:
        """Takes the rows that have been read.

        Args:
            spec: The experiment's [task].
            shapes: Shapes and loss of the model.
            seed: ``run.seed``.
            trained: Training clients; empty if boards make their own samples.
            unseen: Held-out clients.
            clients: Number of training clients if boards make their own samples; None for the number of ``trained``.
        """
        super().__init__(spec, shapes, seed, len(trained) if clients is None else clients)
        self.trained = trained
        self.unseen = unseen
        self.unseen_clients = len(unseen)
        self.data_sha256 = _digest((*trained, *unseen))

    @classmethod
    def open(cls, spec: FolderTask, run: RunSpec, shapes: TaskShapes, data: Path | None) -> Self:
        """Reads the folder. Raises DataError, which names the file, row and column at fault."""
        path = data or Path(spec.path)
        return cls.from_files(path, spec, shapes, run.seed, run.clients)

    @classmethod
    def from_files(cls, path: Path, spec: FolderTask, shapes: TaskShapes, seed: int, clients: int | None) -> Self:
        """Reads and checks every file of a folder.

        Args:
            path: The folder.
            spec: The experiment's [task].
            shapes: Shapes and loss of the model.
            seed: ``run.seed``.
            clients: ``run.clients``, the number of training clients if ``task.source`` makes their samples.

        Raises:
            DataError: A file cannot be used; the message names the file, row and column at fault, and the remedy.
        """
        files = find_files(path)
        held_out = _held_out(path, files, spec, seed)
        tables = [_READERS[file.suffix.lower()](file, shapes) for file in files.values()]
        _check_headers(tables)
        index = _classes(path, tables, shapes) if shapes.is_classification else None
        trained: list[Client] = []
        unseen: list[Client] = []
        for table in tables:
            name = table.file.stem
            is_unseen = name in held_out
            if spec.source is not None and not is_unseen:
                continue
            _check_rows(table, index, spec, is_unseen)
            targets = table.targets if index is None else np.array([[index[label]] for label in table.labels], np.float32)
            (unseen if is_unseen else trained).append(Client(name, table.inputs.reshape(-1, *shapes.input), targets))
        task = cls(spec, shapes, seed, trained, unseen, None if spec.source is None else clients or 0)
        if index is not None:
            names = {number: label for label, number in reversed(index.items())}
            task.class_names = tuple(names.get(i, str(i)) for i in range(max(2, shapes.outputs)))
        return task

    def on_device(self, sample_set: SampleSet) -> bool:
        """With ``task.source`` the board makes support and query set; held-out clients adapt to the rows of their files."""
        return self.spec.source is not None and sample_set in (SampleSet.SUPPORT, SampleSet.QUERY)

    def samples(self, client: int, round: int, sample_set: SampleSet, count: int) -> Samples:
        """Rows in the shuffled order of the round: the first for SUPPORT, the next for QUERY. ADAPT has a separate order.

        Raises ValueError for more samples than the experiment sets, and for TEST (see ``test_samples``).
        """
        if sample_set is SampleSet.TEST or count > self.spec.count(sample_set):
            raise ValueError(f"{count} {sample_set.name} samples; the experiment sets fewer")
        if sample_set is SampleSet.ADAPT:
            return self._rows(client, round, Stream.ADAPT, 0, count)
        return self._rows(client, round, Stream.SUPPORT, 0 if sample_set is SampleSet.SUPPORT else self.spec.support, count)

    def test_samples(self, client: int, round: int) -> Samples:
        """Up to 100 rows after the first ``task.adapt`` rows of the adaptation's order."""
        return self._rows(client, round, Stream.ADAPT, self.spec.adapt, TEST_ROWS)

    def describe(self, client: int) -> str:
        """The file's name without its suffix; for a held-out client also the number of the split."""
        split = f", split {(client - HELD_OUT) // len(self.unseen) + 1}" if is_held_out(client) else ""
        return self._client(client).name + split

    def client_name(self, client: int) -> str:
        """The file's name without its suffix; of a held-out client's later splits with their number."""
        split = (client - HELD_OUT) // len(self.unseen) + 1 if is_held_out(client) else 1
        return self._client(client).name + (f"-split-{split}" if split > 1 else "")

    def find(self, name: str) -> int:
        """The number of a client by the name of its file, held out or not. Raises DataError."""
        names = {own.name: i for i, own in enumerate(self.trained)}
        names |= {own.name: HELD_OUT + i for i, own in enumerate(self.unseen)}
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise DataError(
                f"client '{name}': no such client in these data; "
                + (f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(sorted(names))}")
            )
        if len(self._client(names[name]).inputs) <= self.spec.adapt:
            raise DataError(f"client '{name}': too few rows for task.adapt = {self.spec.adapt} and a test; lower task.adapt")
        return names[name]

    def _client(self, client: int) -> Client:
        return self.unseen[(client - HELD_OUT) % len(self.unseen)] if is_held_out(client) else self.trained[client]

    def _rows(self, client: int, round: int, stream: Stream, start: int, count: int) -> Samples:
        own = self._client(client)
        order = prng.permutation(self.seed, client, round, stream, len(own.inputs))
        if self.shapes.is_classification:
            classes = own.targets[order, 0]
            turn = np.zeros(len(order), np.int64)
            for each in np.unique(classes):
                turn[classes == each] = np.arange(np.count_nonzero(classes == each))
            order = order[np.lexsort((classes, turn))]
        chosen = order[start : start + count]
        return Samples(own.inputs[chosen], own.targets[chosen])


def _digest(clients: Sequence[Client]) -> str:
    """SHA-256 over names and rows, hexadecimal."""
    digest = hashlib.sha256()
    for client in clients:
        digest.update(f"{client.name} {client.inputs.shape}\n".encode() + client.inputs.tobytes() + client.targets.tobytes())
    return digest.hexdigest()


def find_files(path: Path) -> dict[str, Path]:
    """The folder's data files by client, sorted by name; other files are ignored.

    Raises DataError if the folder or its files are missing, or if two files have the name of one client.
    """
    if not path.is_dir():
        what = "a file, not a folder" if path.exists() else "no such folder"
        raise DataError(f"{path}: {what}; task.path names a folder with one CSV or NPZ file per client")
    files: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        if file.suffix.lower() not in _READERS or file.name.startswith(".") or not file.is_file():
            continue
        if file.stem in files:
            raise DataError(
                f"{path}: {files[file.stem].name} and {file.name} would be one client; rename or remove one of them"
            )
        files[file.stem] = file
    if not files:
        raise DataError(f"{path}: no CSV or NPZ file in this folder; a client is one file NAME.csv or NAME.npz")
    return files


def _held_out(path: Path, files: dict[str, Path], spec: FolderTask, seed: int) -> set[str]:
    """Names of the held-out clients; with ``task.source`` no file is trained on, so all files may be held out."""
    names = list(files)
    if spec.held_out is not None:
        for name in spec.held_out:
            if name not in files:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names)}"
                raise DataError(f"{path}: task.held_out names '{name}', which is no file here; {hint}")
        chosen = set(spec.held_out)
    elif spec.source is not None:
        chosen = set(names)
    else:
        count = max(1, math.floor(len(names) / 4 + 0.5))
        chosen = {names[i] for i in prng.permutation(seed, 0, 0, Stream.DATA_SPLIT, len(names))[:count]}
    if spec.source is None and len(chosen) == len(names):
        raise DataError(
            f"{path}: all clients are held out ({', '.join(names)}), none is left to train on; add files, or name fewer in "
            "task.held_out"
        )
    return chosen


@dataclass(frozen=True)
class _Table:
    """The content of one file: ``inputs`` float32 [rows, features]; ``targets`` float32 [rows, outputs], or a label per row."""

    file: Path
    inputs: Floats
    targets: Floats
    labels: Sequence[str]
    place: Callable[[int], str]  # file, row and column of the label of row i, for messages
    header: Sequence[str] = ()  # the names of the columns; empty without a header


def _read_csv(file: Path, shapes: TaskShapes) -> _Table:
    features, n_targets = math.prod(shapes.input), 0 if shapes.is_classification else shapes.outputs
    numbers = features + n_targets
    width = numbers + (1 if shapes.is_classification else 0)
    try:
        reader = csv.reader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as CSV in UTF-8 ({error})") from None
    header: list[str] = []
    if rows and len(rows[0][1]) == width and _are_names(rows[0][1][:numbers]):
        header = rows.pop(0)[1]
    if not rows:
        raise DataError(f"{file}: no rows; expected one per sample, {_columns(shapes)}")

    def place(line: int, column: int) -> str:
        return f"{file}: row {line}, column {column + 1}" + (f" ('{header[column]}')" if column < len(header) else "")

    values = np.empty((len(rows), numbers))
    for i, (line, cells) in enumerate(rows):
        if len(cells) != width:
            hint = "" if len(cells) > 1 else "; columns are separated by commas"
            raise DataError(f"{file}: row {line} has {len(cells)} columns, expected {width}: {_columns(shapes)}{hint}")
        for column, cell in enumerate(cells[:numbers]):
            number = _number(cell)
            if number is None or not _fits(number):
                what = f"'{cell}' is" if cell else "is empty,"
                like = ", written like -12.5 or 3e-4" if cell and number is None else ""
                raise DataError(f"{place(line, column)} {what} not a finite number{like}; correct it or remove the row")
            values[i, column] = number
        if numbers < width and cells[-1].lower() in ("", "nan"):
            raise DataError(f"{place(line, numbers)} has no label; add it or remove the row")
    floats = values.astype(np.float32)
    labels = [cells[-1] for _, cells in rows] if numbers < width else []
    return _Table(file, floats[:, :features], floats[:, features:], labels, lambda i: place(rows[i][0], numbers), header)


def _read_npz(file: Path, shapes: TaskShapes) -> _Table:
    if not zipfile.is_zipfile(file):
        raise DataError(f"{file}: damaged, or not an NPZ file; write it with numpy.savez(file, x=x, y=y)")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            if missing := {"x", "y"} - set(arrays.files):
                raise DataError(
                    f"{file}: no array {' and '.join(sorted(missing))}, only {', '.join(arrays.files) or 'nothing'}; "
                    "write it with numpy.savez(file, x=x, y=y)"
                )
            x, y = arrays["x"], arrays["y"]
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: damaged, or arrays of objects ({error}); write it with numpy.savez(file, x=x, y=y)") from None
    n = len(x) if x.ndim else 0
    if not n or x.shape[1:] != shapes.input:
        raise DataError(f"{file}: x has shape {list(x.shape)}, expected [rows, {str(list(shapes.input))[1:]} as in model.input")
    wanted = [(n,), (n, 1)] if shapes.is_classification or shapes.outputs == 1 else [(n, shapes.outputs)]
    if y.shape not in wanted:
        raise DataError(f"{file}: y has shape {list(y.shape)}, expected {' or '.join(str(list(shape)) for shape in wanted)}")
    inputs = _finite(file, "x", x).reshape(n, -1)
    if not shapes.is_classification:
        return _Table(file, inputs, _finite(file, "y", y).reshape(n, -1), [], lambda i: f"{file}: y[{i}]")
    labels = [str(label).strip() for label in y.reshape(n).tolist()]
    for i, label in enumerate(labels):
        if label.lower() in ("", "nan") or y.dtype.kind not in "iufUb":
            raise DataError(f"{file}: y[{i}] = {label!r} is not a label; expected a class, a whole number or a name (str)")
    return _Table(file, inputs, np.empty((n, 0), np.float32), labels, lambda i: f"{file}: y[{i}]")


_READERS = {".csv": _read_csv, ".npz": _read_npz}


def _finite(file: Path, name: str, array: NDArray[np.generic]) -> Floats:
    if array.dtype.kind not in "iufb":
        raise DataError(f"{file}: {name} is of type {array.dtype}, expected numbers")
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32)
    for at in np.argwhere(~np.isfinite(floats))[:1]:
        index = ", ".join(str(i) for i in at)
        raise DataError(f"{file}: {name}[{index}] = {array[tuple(at)]} is not a finite number; correct it or leave its row out")
    return floats


_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def _number(cell: str) -> float | None:
    """A cell's decimal number; None for other text, also if ``float`` accepts it: 1_000, infinity, digits of other scripts."""
    return float(cell) if _DECIMAL.fullmatch(cell) else None


def _is_meant_as_number(cell: str) -> bool:
    """Whether the author of a cell probably meant a number: 1_000, 0x10, 1 0, 1,5, nan, digits of other scripts."""
    compact = "".join(cell.split()).replace(",", ".")
    for read in (float, lambda text: int(text, 0)):
        try:
            read(compact)
        except ValueError:
            continue
        return True
    return False


def _are_names(cells: Sequence[str]) -> bool:
    """Whether the cells of a first row can be column names."""
    return any(cells) and not any(_is_meant_as_number(cell) for cell in cells)


def _fits(number: float) -> bool:
    """Whether a number is finite in float32."""
    return abs(number) <= float(np.finfo(np.float32).max)


def _columns(shapes: TaskShapes) -> str:
    last = "a label" if shapes.is_classification else f"{shapes.outputs} target(s), one per unit of the last layer"
    return f"{math.prod(shapes.input)} features (model.input = {list(shapes.input)}), then {last}"


def _classes(path: Path, tables: Sequence[_Table], shapes: TaskShapes) -> dict[str, int]:
    """The class index of every label: a whole number is its own index; names are indexed in sorted order over all files."""
    is_binary = shapes.loss == "binary_crossentropy"
    expected = 2 if is_binary else shapes.outputs
    model = "loss binary_crossentropy is for 2" if is_binary else f"last layer has {expected} units"
    counts = Counter(label for table in tables for label in table.labels)
    for table in tables:
        for i, label in enumerate(table.labels):
            if _number(label) is None and any(map(str.isdigit, label)) and _is_meant_as_number(label):
                raise DataError(
                    f"{table.place(i)}: label '{label}' is neither a whole number, written like 12, nor a name; correct it"
                )
    numbers = {label: _number(label) for label in counts}
    whole = {label: int(number) for label, number in numbers.items() if number is not None and number.is_integer()}
    index = whole if len(whole) == len(counts) else {label: i for i, label in enumerate(sorted(counts))}
    for table in tables:
        for i, label in enumerate(table.labels):
            if index is whole and not 0 <= whole[label] < expected:
                raise DataError(f"{table.place(i)}: class {label}, but the model's {model}, for classes 0 to {expected - 1}")
    n = max(index.values()) + 1
    if n != expected:
        rarest = min(counts, key=lambda label: counts[label])
        where = next(t.place(i) for t in tables for i, label in enumerate(t.labels) if label == rarest)
        remedy = 'add rows of the other one, or take loss = "softmax_cross_entropy"' if is_binary else f"make it {n} units"
        raise DataError(
            f"{path}: {n} classes ({', '.join(sorted(counts))}), but the model's {model}; {remedy}, or correct the labels "
            f"(the rarest, '{rarest}', is in {where})"
        )
    return index


def _check_headers(tables: Sequence[_Table]) -> None:
    """Raises DataError if the headers of two files differ in a name or in the order."""
    named = [table for table in tables if table.header]
    for table in named[1:]:
        for column, (name, first) in enumerate(zip(table.header, named[0].header, strict=True)):
            if name != first:
                raise DataError(
                    f"{table.file}: column {column + 1} is '{name}', but '{first}' in {named[0].file.name}; give all files the "
                    "same columns in the same order"
                )


def _check_rows(table: _Table, index: dict[str, int] | None, spec: FolderTask, is_unseen: bool) -> None:
    """Raises DataError if there are too few rows, or too few of one class, for the sets that are drawn together."""
    keys = ["adapt"] if is_unseen else ["support", "query"]
    drawn = spec.adapt if is_unseen else spec.support + spec.query
    groups = Counter("" if index is None else label for label in (table.labels or [""] * len(table.inputs)))
    if is_unseen and index is not None and len(groups) == 1:
        raise DataError(
            f"{table.file}: all rows are of class '{table.labels[0]}', too few classes for a meta-test; add rows "
            "of other classes, or hold out another file"
        )
    # At least one row of each class is left for the test.
    needed = -(-drawn // len(groups)) + (1 if is_unseen else 0)
    for label, rows in groups.items():
        if rows < needed:
            asked = " and ".join(f"task.{key} = {getattr(spec, key)}" for key in keys)
            what = f"{rows} row(s)" + (f" of class '{label}'" if label else "")
            why = f"{asked}{', and one to test,' if is_unseen else ''} need {needed}"
            raise DataError(f"{table.file}: {what}, but {why}{' of each class' if label else ''}; add rows or lower {keys[-1]}")
