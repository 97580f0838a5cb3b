"""Reads a folder of the user's files: every client's samples, and everything that is wrong or was decided on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinymetafed_codegen.spec import FolderTask, TaskShapes

from .. import DataError
from .classes import find_classes
from .client_choice import choose_groups
from .client_samples import samples_of
from .columns import Wanted
from .csv_file import CsvContent, read_csv
from .file_table import UNKNOWN, Indices, Table
from .folder_content import ClientRecording, Reading
from .kept_tables import kept_or
from .media_files import MEDIA_SCALE, find_media, read_media
from .npz_file import read_npz
from .origin import located
from .problems import Place, Problems
from .reading_notes import notes_on_form, notes_on_missing, notes_on_windows, warnings_on_rate, warnings_on_spelling
from .sample_checks import check_levels, check_samples
from .times import SECONDS, Unit, find_unit
from .windows import Recording

SUFFIXES = (".csv", ".npz")
_TEXT = (".txt", ".tsv", ".tab", ".dat", ".log")
_OF_TABLES = (*_TEXT, ".xlsx", ".xls", ".ods", ".parquet", ".json", ".npy", ".mat", ".h5")


def find_files(path: Path, by_column: bool = False, pattern: str | None = None) -> dict[str, tuple[Path, ...]]:
    """The folder's data files by client, sorted by name; other files are ignored.

    Args:
        path: The folder. A file NAME.csv or NAME.npz in it is the client NAME, a folder NAME of such files is one client too.
        by_column: Whether a column names the client, so that files may have equal names.
        pattern: A pattern such as ``**/*_watch.csv`` that files must match; the client is the name of a file's folder.

    Returns:
        Files by client.

    Raises:
        DataError: The folder or its files are missing, or two of them have the name of one client.
    """
    if not path.is_dir():
        what = "a file, not a folder" if path.exists() else "no such folder"
        raise DataError(f"{path}: {what}; task.path names a folder with one CSV or NPZ file per client")
    found: dict[str, tuple[Path, ...]] = {}
    if pattern is not None:
        for file in sorted(path.glob(pattern)):
            if _is_data(file):
                name = file.stem if file.parent == path else file.parent.name
                found[name] = (*found.get(name, ()), file)
        if not found:
            raise DataError(f"{path}: no CSV or NPZ file here matches task.files = '{pattern}'")
        return found
    origin: dict[str, str] = {}
    for entry in sorted(path.iterdir()):
        if _is_data(entry):
            name, files = entry.stem, [entry]
        elif entry.is_dir() and not entry.name.startswith("."):
            name, files = entry.name, [file for file in sorted(entry.iterdir()) if _is_data(file)]
        else:
            continue
        if not files:
            continue
        if name in found and not by_column:
            raise DataError(f"{path}: {origin[name]} and {entry.name} would be one client; rename or remove one of them")
        found[name] = (*found.get(name, ()), *files)
        origin[name] = entry.name
    if not found:
        raise DataError(
            f"{path}: no CSV or NPZ file in this folder, and no images or sounds; a client is one file NAME.csv or "
            f"NAME.npz, or a folder of images (.png, .jpg, .bmp) or sounds (.wav), CLIENT/CLASS/FILE{_tables(path)}"
        )
    return found


def _tables(path: Path) -> str:
    """Which files of a folder without data may be tables under another name, as the end of a message; "" if there are none."""
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _OF_TABLES and file.is_file())
    if not files:
        return ""
    known = files[0].suffix.lower() in _TEXT
    remedy = "if it is a table of text, name it .csv" if known else "save its table as CSV"
    return f". There is {files[0].name}{f' and {len(files) - 1} more' if len(files) > 1 else ''}: {remedy}"


def _is_data(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()


def read_folder(
    path: Path,
    spec: FolderTask,
    shapes: TaskShapes | None,
    seed: int,
    scored: Sequence[str] | None = None,
    *,
    labelled: bool = True,
) -> Reading:
    """Reads and checks every file of a folder.

    Args:
        path: The folder, an archive of it, or a DOI (see ``located``).
        spec: The experiment's [task].
        shapes: Shapes and loss of the model; None where there is no model, then rows have labels.
        seed: ``run.seed``, which chooses the held-out clients if ``task.held_out`` does not.
        scored: To score a trained model on these data: the names of its classes, () for values; all clients are held out then,
            and one row each is enough. None to train on them.
        labelled: Whether each row must have a label; a row without one has the target UNKNOWN otherwise.

    Returns:
        The samples, and all problems of all files.

    Raises:
        DataError: There are no files; or the model's input does not fit ``task.window``.
    """
    problems, notes, contents = Problems(), list[str](), list[CsvContent]()
    tables: list[tuple[str, Table]] = []
    root, scale, kind = located(path), np.float32(1), None
    if spec.files is None and (media := find_media(root)):
        known, kind = list(media.files), media.kind
        if shapes is not None and not shapes.is_classification:
            raise DataError(f"{path}: {media.kind} have classes, but the model's loss is {shapes.loss}; take one for classes")
        tables, scale = read_media(media, spec, shapes.input if shapes else (), problems, notes), MEDIA_SCALE
    else:
        files = find_files(root, spec.client is not None, spec.files)
        known = list(files)
        wanted = Wanted(spec, _row_size(path, spec, shapes), _outputs(shapes), shapes.input if shapes else (), labelled)
        for client, group in files.items():
            for file in group:
                if file.suffix.lower() == ".npz":
                    table = read_npz(file, wanted, problems, notes)
                else:
                    content = kept_or(read_csv, file, wanted, problems)
                    contents += [content] if content else []
                    table = content.table if content else None
                tables += [(client, table)] if table is not None and len(table) else []
    _check_headers([table for _, table in tables], problems)
    usual_forms, others = notes_on_form(contents)
    notes += others + notes_on_missing([table for _, table in tables])
    classes = None
    if _outputs(shapes) == 0:
        classes = find_classes(path, [table for _, table in tables], shapes, problems, scored)
    timed = _in_seconds([table for _, table in tables], spec, notes)
    recordings = [
        recording
        for (client, _), table in zip(tables, timed, strict=True)
        for recording in _by_client(client, table, classes, by_row=spec.window is not None)
    ]
    names = sorted({recording.client for recording in recordings})
    if spec.client is None:
        names = [name for name in known if name in set(names)]  # the order of files
    all_names = known if spec.client is None else names
    held_out, validation = set(names), frozenset[str]()
    if scored is None:
        held_out, validation = choose_groups(path, names, all_names, spec, seed, problems)
    clients = []
    for name in names:
        own = [recording for recording in recordings if recording.client == name]
        if samples := samples_of(name, own, spec, shapes, name in held_out, problems):
            clients.append(samples)
            if spec.dtype == "uint8":
                check_levels(samples, scale, problems)
    found = tuple(recordings), tuple(clients), classes
    reading = Reading(path, *found, (), 0, (), scale=float(scale), media=kind, validation=validation)
    if shapes is not None and scored is None:
        check_samples(reading, spec, problems)
    notes += notes_on_windows(reading, spec)
    warnings = warnings_on_rate(recordings, spec) + warnings_on_spelling("class", classes or ())
    if spec.client is not None:
        warnings += warnings_on_spelling("client", names)
    return replace(
        reading,
        problems=problems.listed,
        problem_count=problems.count,
        notes=tuple(notes),
        warnings=tuple(warnings),
        usual_forms=tuple(usual_forms),
    )


def _outputs(shapes: TaskShapes | None) -> int:
    return 0 if shapes is None or shapes.is_classification else shapes.outputs


def _row_size(path: Path, spec: FolderTask, shapes: TaskShapes | None) -> int | None:
    """Number of features of a row. Raises DataError if the model's input is not made of windows of ``task.window`` rows."""
    if shapes is None:
        return None if spec.features is None else len(spec.features)
    size = math.prod(shapes.input)
    if spec.window is None:
        return size
    if size % spec.window or (len(shapes.input) > 1 and shapes.input[0] != spec.window):
        per_row = str(math.prod(shapes.input[1:])) if len(shapes.input) > 1 else "CHANNELS"
        flat = f"{spec.window}*{per_row}" if per_row == "CHANNELS" else str(spec.window * int(per_row))
        raise DataError(
            f"{path}: model.input = {list(shapes.input)} is not made of windows of task.window = {spec.window} rows; make it "
            f"[{spec.window}, {per_row}] for conv1d, or [{flat}] for dense"
        )
    return size // spec.window


def _check_headers(tables: Sequence[Table], problems: Problems) -> None:
    """Finds files whose features have other names, or another order, than those of the first file with a header."""
    named = [table for table in tables if table.names]
    for table in named[1:]:
        for column, (name, first) in enumerate(zip(table.names, named[0].names, strict=False)):
            if name != first:
                problems.add(
                    Place(table.file),
                    f"column {column + 1} is '{name}', but '{first}' in {named[0].file.name}",
                    "give all files the same columns in the same order, or name them in task.features",
                )
                break


def _in_seconds(tables: Sequence[Table], spec: FolderTask, notes: list[str]) -> list[Table]:
    """The tables with times in seconds since their first row: differences are exact, while 1.7e9 s has few digits left."""
    numbered = [table for table in tables if table.time is not None and not table.is_clock]
    unit: Unit = "us"
    if numbered:
        unit, reason = find_unit(numbered, spec.time_unit)
        if reason:
            notes.append(f"times are in {unit}, {reason}; set task.time_unit if that is wrong")
    return [
        table
        if table.time is None
        else replace(table, time=(table.time - table.time[0]) * SECONDS["us" if table.is_clock else unit])
        for table in tables
    ]


def _by_client(default: str, table: Table, classes: Mapping[str, int] | None, by_row: bool) -> list[ClientRecording]:
    """The rows of each client of a file. ``by_row``: whether rows are neighbours in time, so that left-out rows are breaks."""
    targets = table.targets
    if classes is not None and table.labels is not None:
        with np.errstate(over="ignore"):  # of a label beyond float32, which is a problem already
            of_code = np.array([*(classes.get(name, UNKNOWN) for name in table.labels.names), UNKNOWN], np.float32)
        targets = of_code[table.labels.codes][:, None]
    if table.clients is None:
        return [ClientRecording(default, table, Recording(table.values, targets, table.time, table.breaks))]
    found = []
    for code, name in enumerate(table.clients.names):
        rows = np.flatnonzero(table.clients.codes == code)
        if not len(rows):
            continue
        # A break between two rows of the client counts; without times, rows of other clients between them are a break too.
        broken = np.diff(np.cumsum(table.breaks)[rows], prepend=0) > 0
        if by_row and table.time is None:
            broken |= np.diff(rows, prepend=rows[0] - 1) > 1
        time = None if table.time is None else table.time[rows]
        part = replace(
            table,
            values=table.values[rows],
            targets=table.targets[rows],
            labels=table.labels and table.labels.at(rows),
            clients=None,
            time=time,
            breaks=broken,
            label_place=_place_of(rows, table),
        )
        found.append(ClientRecording(name, part, Recording(part.values, targets[rows], time, broken)))
    return found


def _place_of(rows: Indices, table: Table) -> Callable[[int], Place]:
    """The places of labels where only some rows of a table are kept."""
    return lambda i: table.label_place(int(rows[i]))
