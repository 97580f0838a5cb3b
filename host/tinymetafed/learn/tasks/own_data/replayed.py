"""Reads recordings as a sensor's rows: those of each client, one after the other, with labels and gaps."""

from __future__ import annotations

import glob
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.spec import FolderTask, TaskBase

from .. import DataError, Floats
from ..board_log_mel import microphone_samples
from .client_samples import prepared
from .file_table import UNKNOWN, Bools, Indices
from .folder_content import Reading
from .media_files import MediaFolder, find_media, read_wav
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


def sensor_rows(path: Path, spec: FolderTask, channels: int, classes: int | None = None) -> list[SensorRows]:
    """The rows of each client in a folder, or of one file, as the task would cut windows from them.

    Args:
        path: The folder or file.
        spec: The experiment's [task]. Names of classes are numbered as in its own data, where those are there.
        channels: Numbers of a row.
        classes: Classes of the model; None if they are not known.

    Returns:
        The clients, in the order of their files; each has rows.

    Raises:
        DataError: A file cannot be used, its rows have other numbers than the model's, or nothing says which classes of the
            model the names in it are.
    """
    rows_alone: dict[str, str | None] = {
        "window": None,
        "stride": None,
    }  # a client with too few rows for a window is no problem here
    if path.is_file():
        rows_alone["files"] = glob.escape(path.name)
    folder = path.parent if path.is_file() else path
    reading = read_folder(folder, spec.model_copy(update=rows_alone), None, 0, (), labelled=False)
    reading.require()
    index = _class_index(reading, path, spec, classes)
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


def sound_rows(path: Path, spec: TaskBase) -> list[SensorRows]:
    """The samples of each client's sounds in a folder, or of one file, as a microphone gives them.

    Args:
        path: The folder, with files CLIENT/CLASS/FILE.wav, or a file; its label is its folder's name where that is a class.
        spec: The experiment's [task], whose features boards compute. Names of classes are numbered as in its own data, where
            those are there, otherwise in their order here.

    Returns:
        The clients, sorted by name, with values float32 [samples, 1] of 16 bits; after_gap where a file begins.

    Raises:
        DataError: There are no WAV files, or one cannot be used.
    """
    _, rate = spec.board_sound
    media = MediaFolder("sounds", {path.stem: ((path.parent.name, path),)}) if path.is_file() else find_media(path)
    if media is None or media.kind != "sounds":
        raise DataError(f"{path}: has no sounds; expected files CLIENT/CLASS/FILE.wav, or one WAV file")
    classes = _classes_of_sounds(path, media, spec)
    clients = []
    for client, files in media.files.items():
        heard = [_samples(file, rate) for _, file in files]
        sizes = [len(samples) for samples in heard]
        begins = np.zeros(sum(sizes), bool)
        begins[np.cumsum([0, *sizes])[:-1]] = True
        labels = np.repeat([classes.get(label, UNKNOWN) for label, _ in files], sizes)
        clients.append(SensorRows(client, np.concatenate(heard)[:, None].astype(np.float32), labels, begins))
    return clients


def _samples(file: Path, rate: int | None) -> NDArray[np.int16]:
    try:
        sound, found = read_wav(file)
    except (OSError, EOFError, ValueError, wave.Error) as error:
        raise DataError(f"{file}: cannot be read ({str(error) or 'it ends too early'}); save it again as WAV") from None
    if found != rate:
        raise DataError(f"{file}: its rate is {found} Hz, that of the board's microphone {rate} Hz; make them equal")
    return microphone_samples(sound)


def _classes_of_sounds(path: Path, media: MediaFolder, spec: TaskBase) -> Mapping[str, int]:
    own = spec.own_files
    names = sorted({label for files in media.files.values() for label, _ in files})
    if own is not None and Path(own.path).exists():
        classes = read_folder(Path(own.path), own, None, 0, ()).classes or {}
        if not path.is_file() and classes.keys().isdisjoint(names):
            raise DataError(
                f"{path}: has sounds of {', '.join(names)}, but the classes of {own.path} are {', '.join(classes)}; rename the "
                "folders of the sounds, or let task.path name the data that the model is for"
            )
        return classes
    return {} if path.is_file() else {name: index for index, name in enumerate(names)}


def _class_index(reading: Reading, path: Path, spec: FolderTask, size: int | None) -> dict[int, int]:
    """The model's index of each class index of ``reading``, for a model of ``size`` classes."""
    classes = reading.classes or {}
    of_model = dict(classes)
    if any(number(name) is None for name in classes):
        trained = _trained_classes(path, spec)
        if size is not None and len(classes) < size and not trained.keys() >= classes.keys():
            raise DataError(
                f"{path}: its labels are {', '.join(sorted(classes))}, and the model tells {size} classes apart: the names "
                f"cannot be matched to these classes; write the classes' numbers, or put data with all names into {spec.path}"
            )
        of_model |= trained
    return {own: of_model[name] for name, own in classes.items()}


def _trained_classes(path: Path, spec: FolderTask) -> Mapping[str, int]:
    """The index of each class in the experiment's own data; empty where they are not there."""
    own = Path(spec.path)
    if own.resolve() == path.resolve() or not own.exists():
        return {}
    return read_folder(own, spec, None, 0, ()).classes or {}
