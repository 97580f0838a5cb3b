"""Reads a folder of the user's files: every client's samples, and everything that is wrong or was decided on the way."""

from __future__ import annotations

import difflib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from tinymetafed_codegen.protocol import Stream
from tinymetafed_codegen.spec import FolderTask, TaskShapes

from ... import prng
from .. import DataError, Floats
from .classes import find_classes
from .columns import Wanted
from .csv_file import CsvContent, read_csv
from .file_table import UNKNOWN, Indices, Table
from .media_files import MEDIA_SCALE, find_media, read_media
from .npz_file import read_npz
from .origin import located
from .problems import Place, Problem, Problems
from .times import SECONDS, Unit, find_unit
from .windows import Recording, WindowLabel, cut, filled, resampled, runs, segments, too_many_rows

SUFFIXES = (".csv", ".npz")


@dataclass(frozen=True, slots=True)
class ClientRecording:
    """A client's rows in one file."""

    client: str
    table: Table
    recording: Recording


@dataclass(frozen=True, slots=True)
class ClientSamples:
    """A client's samples.

    Attributes:
        name: The client.
        origin: The files of its samples, in this order, and the number of samples of each.
        rows: Number of rows that its samples come from.
        inputs: float32 [samples, *input_shape].
        targets: float32 [samples, target_size].
        is_held_out: Whether it serves the test.
    """

    name: str
    origin: tuple[tuple[Path, int], ...]
    rows: int
    inputs: Floats
    targets: Floats
    is_held_out: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files."""
        return tuple(dict.fromkeys(file for file, _ in self.origin))


@dataclass(frozen=True, slots=True)
class Reading:
    """The content of a folder.

    Attributes:
        path: The folder.
        recordings: Rows by client and file.
        clients: Samples by client, sorted by name.
        classes: Class index by label; None where rows have values to predict.
        problems: Everything that is wrong, listed; ``problem_count`` counts more where many are alike.
        notes: What was decided by what the files look like, a line each.
        usual_forms: The form of those files that have the usual one, a line for each.
        scale: The input value of level 1, where all inputs are bytes with a scale (``task.dtype = "uint8"``).
    """

    path: Path
    recordings: tuple[ClientRecording, ...]
    clients: tuple[ClientSamples, ...]
    classes: Mapping[str, int] | None
    problems: tuple[Problem, ...]
    problem_count: int
    notes: tuple[str, ...]
    usual_forms: tuple[str, ...] = ()
    scale: float = 1.0

    def require(self) -> None:
        """Raises DataError with the first problem if there is one, and the number of the others."""
        if self.problems:
            more = self.problem_count - 1
            others = f" ({more:,} more problem{'s' * (more > 1)}; `tinymetafed check` lists all)" if more else ""
            raise DataError(f"{self.problems[0]}{others}")


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
        raise DataError(f"{path}: no CSV or NPZ file in this folder; a client is one file NAME.csv or NAME.npz")
    return found


def _is_data(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()


def read_folder(
    path: Path, spec: FolderTask, shapes: TaskShapes | None, seed: int, scored: Sequence[str] | None = None
) -> Reading:
    """Reads and checks every file of a folder.

    Args:
        path: The folder, an archive of it, or a DOI (see ``located``).
        spec: The experiment's [task].
        shapes: Shapes and loss of the model; None where there is no model, then rows have labels.
        seed: ``run.seed``, which chooses the held-out clients if ``task.held_out`` does not.
        scored: To score a trained model on these data: the names of its classes, () for values; all clients are held out then,
            and one row each is enough. None to train on them.

    Returns:
        The samples, and all problems of all files.

    Raises:
        DataError: There are no files; or the model's input does not fit ``task.window``.
    """
    problems, notes, contents = Problems(), list[str](), list[CsvContent]()
    tables: list[tuple[str, Table]] = []
    root, scale = located(path), np.float32(1)
    if spec.files is None and (media := find_media(root)):
        known = list(media.files)
        if shapes is not None and not shapes.is_classification:
            raise DataError(f"{path}: {media.kind} have classes, but the model's loss is {shapes.loss}; take one for classes")
        tables, scale = read_media(media, spec, shapes.input if shapes else (), problems, notes), MEDIA_SCALE
    else:
        files = find_files(root, spec.client is not None, spec.files)
        known = list(files)
        wanted = Wanted(spec, _row_size(path, spec, shapes), _outputs(shapes), shapes.input if shapes else ())
        for client, group in files.items():
            for file in group:
                if file.suffix.lower() == ".npz":
                    table = read_npz(file, wanted, problems, notes)
                else:
                    content = read_csv(file, wanted, problems)
                    contents += [content] if content else []
                    table = content.table if content else None
                tables += [(client, table)] if table is not None and len(table) else []
    _check_headers([table for _, table in tables], problems)
    usual_forms, others = _notes_on_form(contents)
    notes += others + _notes_on_missing([table for _, table in tables])
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
    held_out = set(names) if scored is not None else _held_out(path, names, all_names, spec, seed, problems)
    clients = []
    for name in names:
        own = [recording for recording in recordings if recording.client == name]
        if samples := _samples(name, own, spec, shapes, name in held_out, problems):
            clients.append(samples)
            if spec.dtype == "uint8":
                _check_levels(samples, scale, problems)
    reading = Reading(path, tuple(recordings), tuple(clients), classes, (), 0, (), scale=float(scale))
    if shapes is not None and scored is None:
        _check_samples(reading, spec, problems)
    notes += _notes_on_windows(reading, spec)
    return replace(
        reading,
        problems=problems.listed,
        problem_count=problems.count,
        notes=tuple(notes),
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
            notes.append(f"times are in {unit}, {reason}; task.time_unit says otherwise")
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


def _held_out(
    path: Path, names: Sequence[str], known: Sequence[str], spec: FolderTask, seed: int, problems: Problems
) -> set[str]:
    """Names of the held-out clients; with ``task.source`` no file is trained on, so all files may be held out.

    ``known``: names of all clients, also of those that could not be read.
    """
    if spec.held_out is not None:
        for name in spec.held_out:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}"
                what = "file" if spec.client is None else "client"
                problems.add(Place(path), f"task.held_out names '{name}', which is no {what} here", hint)
        chosen = set(spec.held_out)
    elif spec.source is not None:
        chosen = set(names)
    else:
        count = max(1, math.floor(len(names) / 4 + 0.5))
        chosen = {names[i] for i in prng.permutation(seed, 0, 0, Stream.DATA_SPLIT, len(names))[:count]} if names else set()
    if spec.source is None and names and chosen >= set(names) and set(names) == set(known):
        problems.add(
            Place(path),
            f"all clients are held out ({', '.join(names)}), none is left to train on",
            "add files, or name fewer in task.held_out"
            + ("" if spec.client or len(names) > 1 else ", or name the column of the clients in task.client"),
        )
    return chosen


def _samples(
    name: str,
    own: Sequence[ClientRecording],
    spec: FolderTask,
    shapes: TaskShapes | None,
    is_held_out: bool,
    problems: Problems,
) -> ClientSamples | None:
    """A client's rows, or the windows cut from them; None and a problem if there are none."""
    files = tuple(dict.fromkeys(each.table.file for each in own))
    rows = sum(len(each.recording) for each in own)
    values, targets = list[Floats](), list[Floats]()
    origin = list[tuple[Path, int]]()
    for each in own:
        before = sum(map(len, values))
        for segment in _prepared(each, spec, problems):
            if spec.window is None:
                values.append(segment.values)
                targets.append(segment.targets)
            else:
                x, y = cut(segment, spec.window, spec.stride or spec.window, _window_label(each.table, spec))
                values.append(x)
                targets.append(y)
        origin.append((each.table.file, sum(map(len, values)) - before))
    if not sum(map(len, values)):
        if spec.window is not None and not any(problems.of(file) for file in files):
            longest = max((_longest_run(each, spec) for each in own), default=0)
            of_one = "of one label " if _window_label(own[0].table, spec) == "pure" else ""
            what = f"no window of {spec.window} rows fits: the longest run {of_one}without a gap has {longest} rows"
            remedy = "lower task.window" + (', or set task.window_label = "majority"' if of_one else "")
            steps = [np.diff(each.recording.time) for each in own if each.recording.time is not None]
            if steps and (np.concatenate(steps) < 0).mean() > 0.5:
                what, remedy = "time runs backwards from row to row", "sort the rows by time"
            elif steps and spec.rate is not None and rows > 1 and not np.concatenate(steps).any():
                what, remedy = (
                    f"all {rows:,} rows have the same time",
                    "correct the times, or leave task.rate out",
                )
            problems.add(Place(files[0]), what, remedy)
        return None
    one = len(values) == 1
    inputs = values[0] if one else np.concatenate(values)
    if shapes is not None:
        inputs = inputs.reshape(-1, *shapes.input)
    return ClientSamples(name, tuple(origin), rows, inputs, targets[0] if one else np.concatenate(targets), is_held_out)


def _check_levels(client: ClientSamples, scale: np.float32, problems: Problems) -> None:
    """Finds inputs that are no byte times ``scale``."""
    levels = np.rint(client.inputs / scale)
    wrong = (levels < 0) | (levels > 255) | (levels.astype(np.float32) * scale != client.inputs)
    if wrong.any():
        problems.add(
            Place(client.files[0]),
            f"task.dtype = 'uint8' is for whole numbers from 0 to 255, but an input of client '{client.name}' is "
            f"{client.inputs[wrong][0]:g}",
            'set task.dtype = "float32"',
        )


def _window_label(table: Table, spec: FolderTask) -> WindowLabel | None:
    return None if table.labels is None else spec.window_label


def _prepared(each: ClientRecording, spec: FolderTask, problems: Problems) -> list[Recording]:
    """The parts of a recording without gaps, with missing values filled, at ``task.rate``; one part without windows."""
    parts = [each.recording] if spec.window is None else segments(each.recording, spec.largest_gap)
    prepared = []
    for part in parts:
        whole = filled(part) if part.values.ndim == 2 else part
        if np.isnan(whole.values).any():
            empty = int(np.argmax(np.isnan(whole.values).all(axis=0))) if whole.values.ndim == 2 else 0
            of = f"'{each.table.names[empty]}'" if each.table.names else f"{empty + 1}"
            what = f"feature {of} has no value in {len(whole)} row(s) that belong together, so that none can be interpolated"
            problems.add(Place(each.table.file), what, 'leave the column out with task.ignore, or set task.missing = "drop"')
            continue
        if spec.rate is None or spec.window is None:
            prepared.append(whole)
        elif rows := too_many_rows(whole, spec.rate):
            what = f"{len(whole):,} rows without a gap become {rows:,} at task.rate = {spec.rate:g}"
            problems.add(
                Place(each.table.file), what, "lower task.rate, correct the times or their unit, or set task.largest_gap"
            )
        else:
            prepared.append(resampled(whole, spec.rate))
    return prepared


def _longest_run(each: ClientRecording, spec: FolderTask, target: float | None = None) -> int:
    """Rows of the longest run that a window may be cut from; with ``target``, of that class only."""
    longest = 0
    for segment in segments(each.recording, spec.largest_gap):
        part = segment if spec.rate is None or too_many_rows(segment, spec.rate) else resampled(segment, spec.rate)
        ends = runs(part) if _window_label(each.table, spec) == "pure" else np.array([0, len(part)])
        for start, end in pairwise(ends.tolist()):
            if target is None or (part.targets[start:end, 0] == target).any():
                longest = max(longest, int(end - start))
    return longest


def _check_samples(reading: Reading, spec: FolderTask, problems: Problems) -> None:
    """Finds classes without a window, clients with too few samples, and classes that nobody trains on."""
    all_read = problems.count == 0
    if reading.classes is not None and spec.window is not None:
        _check_windows(reading, reading.classes, spec.window, spec, problems)
    for client in reading.clients:
        if (client.is_held_out or spec.source is None) and not any(problems.of(file) for file in client.files):
            _check_rows(client, reading.classes, spec, problems)
    inputs = [client.inputs for client in reading.clients if len(client.inputs)]
    if all_read and inputs and all(np.array_equal(each, np.broadcast_to(inputs[0][0], each.shape)) for each in inputs):
        problems.add(Place(reading.path), "all samples are equal, so they tell no classes or values apart", "record them again")
    if reading.classes is not None and spec.source is None and all_read:
        _check_trained(reading.clients, reading.classes, spec, problems)


def _check_windows(reading: Reading, classes: Mapping[str, int], window: int, spec: FolderTask, problems: Problems) -> None:
    """Finds classes that no client has a window of."""
    there = {int(target) for client in reading.clients for target in np.unique(client.targets)}
    for label, index in classes.items():
        if reading.clients and index not in there:
            if spec.window_label == "majority":
                what, remedy = (
                    f"class '{label}' has most rows of no window of {window} rows",
                    "lower task.window or task.stride",
                )
            else:
                longest = max((_longest_run(each, spec, index) for each in reading.recordings), default=0)
                what = f"no window of {window} rows fits into class '{label}': its longest run has {longest} rows"
                remedy = 'lower task.window, or set task.window_label = "majority"'
            problems.add(Place(reading.path), what, remedy)


def _check_trained(clients: Sequence[ClientSamples], classes: Mapping[str, int], spec: FolderTask, problems: Problems) -> None:
    """Finds classes of held-out clients that no training client has."""
    label_of = {index: label for label, index in classes.items()}
    trained = {int(target) for client in clients if not client.is_held_out for target in np.unique(client.targets)}
    for client in clients:
        for index in sorted({int(target) for target in np.unique(client.targets)} - trained):
            problems.add(
                Place(client.files[0]),
                f"{_who(client, spec)}class '{label_of[index]}' is in held-out clients only, nobody trains on it",
                "hold out other clients in task.held_out, or leave its rows out",
            )


def _who(client: ClientSamples, spec: FolderTask) -> str:
    return "" if spec.client is None else f"client '{client.name}': "


def _check_rows(client: ClientSamples, classes: Mapping[str, int] | None, spec: FolderTask, problems: Problems) -> None:
    """Finds too few samples, or too few of one class, for the sets that are drawn together."""
    keys = ["adapt"] if client.is_held_out else ["support", "query"]
    drawn = spec.adapt if client.is_held_out else spec.support + spec.query
    what = "row" if spec.window is None else "window"
    label_of = {} if classes is None else {index: label for label, index in classes.items()}
    groups: Counter[str] = Counter()
    if classes is None:
        groups[""] = len(client.targets)
    else:
        indices, first, counts = np.unique(client.targets, return_index=True, return_counts=True)
        for i in np.argsort(first):  # classes in the order of their first samples
            groups[label_of.get(int(indices[i]), "")] = int(counts[i])
    if client.is_held_out and classes is not None and len(groups) == 1:
        problems.add(
            Place(client.files[0]),
            f"{_who(client, spec)}all {what}s are of class '{next(iter(groups))}', too few classes for a meta-test",
            f"add {what}s of other classes, or hold out another {'file' if spec.client is None else 'client'}",
        )
        return
    # At least one sample of each class is left for the test.
    needed = -(-drawn // len(groups)) + (1 if client.is_held_out else 0)
    for label, count in groups.items():
        if count < needed:
            asked = " and ".join(f"task.{key} = {getattr(spec, key)}" for key in keys)
            of_class = f" of class '{label}'" if label else ""
            why = f"{asked}{', and one to test,' if client.is_held_out else ''} need {needed}"
            problems.add(
                Place(client.files[0]),
                f"{_who(client, spec)}{count} {what}(s){of_class}, but {why}{' of each class' if label else ''}",
                f"add {what}s or lower {keys[-1]}",
            )
            return


def _notes_on_form(contents: Sequence[CsvContent]) -> tuple[list[str], list[str]]:
    """A line for each form that CSV files have: forms as most files have them, and others."""
    by_form: dict[tuple[bool, str], list[CsvContent]] = defaultdict(list)
    for content in contents:
        said = [*content.form.unusual]
        if content.units:
            said.append("a row of units left out")
        if content.repeated_headers:
            said.append("repeated headers left out")
        is_usual = not said
        if is_usual:
            said = [content.form.encoding_title, "columns separated by commas"]
        said.append("the first row has names" if content.header else "no names in the first row")
        by_form[is_usual, ", ".join(said)].append(content)
    usual, others = (
        [f"{_files(group)}: {said}" for (is_usual, said), group in by_form.items() if is_usual == wanted]
        for wanted in (True, False)
    )
    return usual, others


def _notes_on_missing(tables: Sequence[Table]) -> list[str]:
    """Numbers of rows left out and of values interpolated."""
    left_out = [table.left_out for table in tables if table.left_out]
    missing = [count for table in tables if (count := int(np.isnan(table.values).sum()))]
    return [
        f"{sum(counts):,} {what}, of {len(counts)} file{'s' * (len(counts) > 1)}"
        for counts, what in ((left_out, "rows with missing values left out"), (missing, "missing values interpolated"))
        if counts
    ]


def _files(group: Sequence[CsvContent]) -> str:
    first = group[0].table.file.name
    more = len(group) - 1
    return f"{first} and {more} more file{'s' * (more > 1)}" if more else first


def _notes_on_windows(reading: Reading, spec: FolderTask) -> list[str]:
    if spec.window is None or not reading.clients:
        return []
    stride = spec.stride or spec.window
    total = sum(len(client.inputs) for client in reading.clients)
    said = f"{total:,} windows of {spec.window} rows, one every {stride}"
    if reading.classes is not None:
        pure = "each within rows of one label"
        said += f", {pure if spec.window_label == 'pure' else 'each with the label of most of its rows'}"
    if spec.rate is not None:
        said += f", resampled to {spec.rate:g} Hz"
    if stride < spec.window:
        said += (
            f"; windows side by side share {spec.window - stride} rows, so that samples to adapt and to test with do too: "
            f"stride = {spec.window} keeps them apart"
        )
    return [said]
