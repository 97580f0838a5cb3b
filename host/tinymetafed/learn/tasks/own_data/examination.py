"""Facts of a folder of data: rows and classes by client, ranges, duplicates, gaps, and what looks wrong."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.spec import FolderTask

from ...client_groups import ClientGroup, validation_share
from .classes import MOST_UNITS, look_like_values
from .columns import may_name_client
from .file_table import UNKNOWN
from .folder_content import ClientRecording, Reading
from .windows import Recording, gaps

MOST_GAPS = 20  # gaps that are listed
DUPLICATE_SHARE = 0.1  # share of a client's rows from which equal rows are suspicious
MANY_ROWS = 10  # of a file, from which rising values are no chance
# Names of columns that rise by themselves; that of the row numbers that pandas writes is empty.
_COUNTS = re.compile(
    r"|unnamed.*|.*(index|idx|row|num(ber)?|time|stamp|date|clock|count(er)?).*|id|no\.?|nr\.?|t|ts|ms|s", re.IGNORECASE
)
IMBALANCE = 10  # times as many samples of one class as of another that are worth a warning


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """A client: its files' names, its group, its rows, the samples made of them, the samples of each class.

    ``held_out``: whether it is not trained on; ``group``: which of the groups it is in.
    """

    name: str
    files: tuple[str, ...]
    held_out: bool
    group: ClientGroup
    rows: int
    samples: int
    classes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FeatureFacts:
    """A feature's range over all rows of all clients."""

    name: str
    minimum: float
    maximum: float
    mean: float
    deviation: float
    constant: bool


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows of ``client`` that occur again: in ``other``, or earlier in the client itself where ``other`` is the same."""

    client: str
    other: str
    rows: int
    of_rows: int


@dataclass(frozen=True, slots=True)
class GapFacts:
    """A gap in time before a row (its line in the file); ``seconds`` is below 0 where time runs backwards.

    ``file`` is relative to the folder of the data.
    """

    client: str
    file: str
    row: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The content of a folder.

    Attributes:
        sample_shape: Shape of one sample; empty without samples.
        clients: Sorted by name.
        classes: Samples by class over all clients; empty where rows have values to predict.
        units: Units that the last layer of a model for these classes needs; 0 where there are none.
        look_like_values: Whether the labels look like values to predict rather than classes.
        features: In the order of a sample's columns.
        duplicates: Clients in which a suspicious number of rows occur twice.
        gaps: The longest gaps in time; ``gap_count`` counts all.
        warnings: What looks wrong without being an error, a line each.
    """

    sample_shape: tuple[int, ...]
    clients: tuple[ClientFacts, ...]
    classes: Mapping[str, int]
    units: int
    look_like_values: bool
    features: tuple[FeatureFacts, ...]
    duplicates: tuple[Duplicates, ...]
    gaps: tuple[GapFacts, ...]
    gap_count: int
    warnings: tuple[str, ...]


def examine_data(reading: Reading, spec: FolderTask) -> DataFacts:
    """The facts of a folder that has been read.

    Args:
        reading: Its content.
        spec: The experiment's [task].

    Returns:
        Facts and warnings.
    """
    clients = _clients(reading, spec)
    classes: Counter[str] = Counter()
    for client in clients:
        classes.update(client.classes)
    features, are_values = _features(reading.recordings), look_like_values(classes)
    duplicates = _duplicates(reading.recordings)
    found = _gaps(reading.recordings, spec, reading.path)
    shapes = {client.inputs.shape[1:] for client in reading.clients}
    sample = shapes.pop() if len(shapes) == 1 else ()
    return DataFacts(
        sample_shape=sample,
        clients=clients,
        classes=dict(sorted(classes.items())),
        units=max((reading.classes or {}).values(), default=-1) + 1,
        look_like_values=are_values,
        features=features,
        duplicates=duplicates,
        gaps=tuple(sorted(found, key=lambda gap: -abs(gap.seconds))[:MOST_GAPS]),
        gap_count=len(found),
        warnings=(
            *reading.warnings,
            *_label_warnings(reading, are_values),
            *_warnings(features, {} if are_values else classes, duplicates),
            *_column_warnings(reading.recordings, features),
            *_client_warnings(reading.recordings, spec),
            *_backwards(found),
        ),
    )


def _groups(reading: Reading, spec: FolderTask) -> dict[str, ClientGroup]:
    """The group of each client."""
    unseen = [client.name for client in reading.clients if client.is_held_out]
    validation = set(unseen[len(unseen) - validation_share(len(unseen)) :]) if spec.validation is None else reading.validation
    return {
        client.name: ClientGroup.VALIDATION
        if client.name in validation
        else ClientGroup.TEST
        if client.is_held_out
        else ClientGroup.TRAINING
        for client in reading.clients
    }


def _clients(reading: Reading, spec: FolderTask) -> tuple[ClientFacts, ...]:
    label_of = {} if reading.classes is None else {index: label for label, index in reading.classes.items()}
    groups = _groups(reading, spec)
    found = []
    for client in reading.clients:
        counts = Counter(client.targets[:, 0].astype(np.int64).tolist()) if label_of else Counter[int]()
        classes = {label_of[index]: count for index, count in sorted(counts.items()) if index != UNKNOWN}
        files = tuple(file.name for file in client.files)
        group = groups[client.name]
        found.append(ClientFacts(client.name, files, client.is_held_out, group, client.rows, len(client.inputs), classes))
    return tuple(found)


def _features(recordings: Sequence[ClientRecording]) -> tuple[FeatureFacts, ...]:
    sizes = {each.recording.values[0].size for each in recordings if len(each.recording)}
    if len(sizes) != 1:
        return ()
    size = sizes.pop()
    least, most = np.full(size, np.inf), np.full(size, -np.inf)
    count, total, squares = np.zeros(size), np.zeros(size), np.zeros(size)
    for each in recordings:
        values = each.recording.values.reshape(-1, size)
        there = ~np.isnan(values)
        least = np.minimum(least, np.where(there, values, np.inf).min(axis=0))
        most = np.maximum(most, np.where(there, values, -np.inf).max(axis=0))
        count += there.sum(axis=0)
        total += np.nansum(values, axis=0, dtype=np.float64)
    mean = total / np.maximum(count, 1)
    for each in recordings:
        squares += np.nansum((each.recording.values.reshape(-1, size) - mean) ** 2, axis=0)
    names = next((each.table.names for each in recordings if each.table.names), ())
    return tuple(
        FeatureFacts(
            (names[i] if len(names) == size else "") or f"{i + 1}",
            float(least[i]),
            float(most[i]),
            float(mean[i]),
            float(np.sqrt(squares[i] / max(1, count[i]))),
            bool(least[i] == most[i]),
        )
        for i in range(size)
        if count[i]
    )


def _duplicates(recordings: Sequence[ClientRecording]) -> tuple[Duplicates, ...]:
    """Clients whose rows, features and target alike, occur again in themselves or in others."""
    filled = [each for each in recordings if len(each.recording)]
    if len({each.recording.values[0].size + each.recording.targets.shape[1] for each in filled}) != 1:
        return ()
    names = sorted({each.client for each in filled})
    owner = np.repeat([names.index(each.client) for each in filled], [len(each.recording) for each in filled])
    _, ids = np.unique(np.concatenate([_hashes(each.recording) for each in filled]), return_inverse=True)
    total = np.bincount(owner, minlength=len(names))
    pairs, times = np.unique(np.stack([ids, owner]), axis=1, return_counts=True)
    found = []
    for client, name in enumerate(names):
        again = int((times[pairs[1] == client] - 1).sum())
        found.append(Duplicates(name, name, again, int(total[client])))
    shared: Counter[tuple[int, int]] = Counter()
    holders: dict[int, list[int]] = defaultdict(list)
    common = np.flatnonzero(np.bincount(pairs[0]) > 1)
    for row in np.flatnonzero(np.isin(pairs[0], common)):
        holders[int(pairs[0, row])].append(int(pairs[1, row]))
    for group in holders.values():
        shared.update(combinations(group, 2))
    found += [Duplicates(names[a], names[b], count, int(min(total[a], total[b]))) for (a, b), count in sorted(shared.items())]
    return tuple(each for each in found if each.rows > 1 and each.rows >= DUPLICATE_SHARE * each.of_rows)


def _hashes(recording: Recording) -> NDArray[np.uint64]:
    """64 bits for each row, equal for equal values and targets."""
    found = np.zeros(len(recording), np.uint64)
    for column in (*recording.values.reshape(len(recording), -1).T, *recording.targets.T):
        bits = (column + np.float32(0)).view(np.uint32)  # -0 is 0
        found = (found ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(29)
    return found


def below(file: Path, root: Path) -> str:
    """A file's path in the folder of the data; its name where it is elsewhere, as for an archive that was unpacked."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else "/".join(file.parts[-2:])


def _gaps(recordings: Sequence[ClientRecording], spec: FolderTask, root: Path) -> list[GapFacts]:
    return [
        GapFacts(each.client, below(each.table.file, root), each.table.label_place(gap.row).row, gap.seconds)
        for each in recordings
        for gap in gaps(each.recording, spec.largest_gap)
    ]


def _label_warnings(reading: Reading, are_values: bool) -> list[str]:
    """What looks wrong about the labels: values that are taken for classes, or numbers that do not begin at 0."""
    labels = reading.classes or {}
    if are_values:
        place = next(each.table.label_place(0) for each in reading.recordings if len(each.table))
        column = f'"{place.name}"' if place.name else "…" if place.column is None else str(place.column)
        some = ", ".join(sorted(labels)[:3])
        return [
            f"{len(labels):,} different labels such as {some}: these look like values to predict; "
            f'set model.loss = "mse" and task.label = [{column}]'
        ]
    there = set(labels.values())
    if not there or there == set(range(len(there))):
        return []
    if min(there) < 0:
        return [f"label {min(there)}: classes that are numbers begin at 0; number them from 0, or give them names"]
    units = max(there) + 1
    lacking = next(i for i in range(units) if i not in there)
    said = f"class {lacking} has no samples, while labels go up to {units - 1}: number the classes from 0 without gaps"
    return [said + (f", or give the last layer units = {units}" if units <= MOST_UNITS else "")]


def _warnings(features: Sequence[FeatureFacts], classes: Mapping[str, int], duplicates: Sequence[Duplicates]) -> list[str]:
    said = [
        f"all rows are of class '{only}', so there is nothing to tell apart: add another one"
        for only in classes
        if len(classes) == 1
    ]
    said += [
        f"feature '{each.name}' is {each.minimum:g} in every row: it tells nothing; leave it out with task.ignore"
        for each in features
        if each.constant
    ]
    if classes and max(classes.values()) > IMBALANCE * min(classes.values()):
        most, least = max(classes, key=lambda each: classes[each]), min(classes, key=lambda each: classes[each])
        said.append(
            f"class '{most}' has {classes[most]:,} samples, '{least}' has {classes[least]:,}; a round takes as many of each"
        )
    for each in duplicates:
        where = "occur there more than once" if each.client == each.other else f"are in '{each.other}' too"
        said.append(f"client '{each.client}': {each.rows:,} of {each.of_rows:,} rows {where}; is a recording there twice?")
    return said


def _column_warnings(recordings: Sequence[ClientRecording], features: Sequence[FeatureFacts]) -> list[str]:
    """What looks wrong about the columns of features: two of one name, and times or row numbers among them."""
    names = Counter(next((each.table.names for each in recordings if each.table.names), ()))
    said = [
        f"{count} features are named '{name}': task.features and task.ignore would mean the first; name them differently"
        for name, count in names.items()
        if name and count > 1
    ]
    values = [each.recording.values for each in recordings if len(each.recording) >= MANY_ROWS]
    if not values or any(each.ndim != 2 or each.shape[1] != len(features) for each in values):
        return said
    rising = np.all([(np.diff(each, axis=0) > 0).all(axis=0) for each in values], axis=0)
    named = zip(
        rising.tolist(), features, next((each.table.names for each in recordings if each.table.names), ()), strict=False
    )
    return said + [
        f"feature '{feature.name}' rises from row to row in every file, as a row number or a time does, which tells a model "
        "the place in the file and not the class; leave it out with task.ignore, or name it in task.time"
        for rises, feature, name in named
        if rises and _COUNTS.fullmatch(name)
    ]


def _client_warnings(recordings: Sequence[ClientRecording], spec: FolderTask) -> list[str]:
    """Features whose names say that they tell whose row it is, unless the experiment has chosen them."""
    names = next((each.table.names for each in recordings if each.table.names), ())
    return [
        f"feature '{name}' may name the client of each row, which tells a model nothing about other clients: set task.client = "
        f'"{name}", or leave it out with task.ignore'
        for name in names
        if spec.features is None and may_name_client(name, spec)
    ]


def _backwards(found: Sequence[GapFacts]) -> list[str]:
    back = [gap for gap in found if gap.seconds < 0]
    if not back:
        return []
    first = back[0]
    where = f"first in {first.file}" + (f", row {first.row}" if first.row is not None else "")
    return [f"time runs backwards {len(back)} times, {where}; rows there are taken for separate recordings"]
