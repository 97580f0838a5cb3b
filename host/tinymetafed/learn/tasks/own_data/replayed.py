"""Reads recordings as a sensor's rows: those of each client, one after the other, with labels and gaps."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinymetafed_codegen.spec import FolderTask

from .. import DataError, Floats
from .client_samples import prepared
from .file_table import UNKNOWN, Bools, Indices
from .folder_content import Reading
from .numbers import number
from .problems import Problems
from .reading import read_folder


@dataclass(frozen=True, slots=True)
class SensorRows:
    """The rows of one client.

    Attributes:
        client: The client.
        values: float32 [rows, channels].
        labels: int64 [rows], the index of each row's class; UNKNOWN for none.
        after_gap: bool [rows]: whether the row does not follow the row before it.
    """

    client: str
    values: Floats
    labels: Indices
    after_gap: Bools

    def __len__(self) -> int:
        return len(self.values)


def sensor_rows(path: Path, spec: FolderTask, channels: int) -> list[SensorRows]:
    """The rows of each client in a folder, or of one file, as the task would cut windows from them.

    Args:
        path: The folder or file.
        spec: The experiment's [task]. Names of classes are numbered as in its own data, where those are there.
        channels: Numbers of a row.

    Returns:
        The clients, in the order of their files; each has rows.

    Raises:
        DataError: A file cannot be used, or its rows have other numbers than the model's.
    """
    rows_alone: dict[str, str | None] = {
        "window": None,
        "stride": None,
    }  # a client with too few rows for a window is no problem here
    if path.is_file():
        rows_alone["files"] = glob.escape(path.name)
    reading = read_folder(path.parent if path.is_file() else path, spec.model_copy(update=rows_alone), None, 0, ())
    reading.require()
    index = _class_index(reading, path, spec)
    problems, found = Problems(), dict[str, list[tuple[Floats, Indices]]]()
    for each in reading.recordings:
        parts = found.setdefault(each.client, [])
        for part in prepared(each, spec, problems):
            labels = [index.get(int(label), UNKNOWN) for label in part.targets[:, 0]]
            parts.append((part.values, np.array(labels, np.int64)))
    Reading(path, (), (), None, problems.listed, problems.count, ()).require()
    clients = []
    for client, parts in found.items():
        rows = sum(len(values) for values, _ in parts)
        if not rows:
            continue
        values = np.concatenate([values for values, _ in parts])
        if values.ndim != 2 or values.shape[1] != channels:
            raise DataError(f"{path}: '{client}' has rows of {values[0].size} numbers, the model takes {channels} of each row")
        begins = np.zeros(rows, bool)
        begins[np.cumsum([0, *(len(values) for values, _ in parts)])[:-1]] = True
        clients.append(SensorRows(client, values, np.concatenate([labels for _, labels in parts]), begins))
    return clients


def _class_index(reading: Reading, path: Path, spec: FolderTask) -> dict[int, int]:
    """The model's index of each class index of ``reading``."""
    classes = reading.classes or {}
    of_model = dict(classes)
    if any(number(name) is None for name in classes):
        of_model |= _trained_classes(path, spec)
    return {own: of_model[name] for name, own in classes.items()}


def _trained_classes(path: Path, spec: FolderTask) -> Mapping[str, int]:
    """The index of each class in the experiment's own data; empty where they are not there."""
    own = Path(spec.path)
    if own.resolve() == path.resolve() or not own.exists():
        return {}
    return read_folder(own, spec, None, 0, ()).classes or {}
