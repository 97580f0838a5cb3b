"""Reads the recording of a real office, UCI's "Occupancy Detection": light, CO2 and temperature every minute, and who was in.

Source: Candanedo and Feldheim 2016, Energy and Buildings 112, 28-39; doi 10.24432/C5X01N, CC BY 4.0.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from . import DataError
from .archives import Archive, downloaded, files

ADDRESS = "https://archive.ics.uci.edu/dataset/357/occupancy+detection"
ARCHIVE = Archive(
    "occupancy_detection.zip",
    "https://archive.ics.uci.edu/static/public/357/occupancy+detection.zip",
    aliases=("occupancy+detection.zip", "occupancy_data.zip"),
)
FILES = ("datatest.txt", "datatraining.txt", "datatest2.txt")  # in the order of time
# The SHA-256 of these files as published, with Unix line ends; others are read too, and named in a note.
PUBLISHED = {
    "datatest.txt": "1b92c7c1b2838963464fa891a610cf3c5db4becb7189189b29b330107a584c7f",
    "datatraining.txt": "b2c4d0ce2b9e4e453c476f7125ef31aeec2d1f5c7f5572d0e80de3df6521ab56",
    "datatest2.txt": "d026d1bd5aeccd4aff4f3b3710d48e40613bd5fc370db7e61bbdcaa50d985095",
}
HEADER = ("date", "Temperature", "Humidity", "Light", "CO2", "HumidityRatio", "Occupancy")
COLUMNS = {"CO2": "CO2", "light": "Light", "temperature": "Temperature"}  # of a sensor of the task presence
BEFORE_SECONDS, TOLERANCE_SECONDS = 600, 30  # changes are over ten minutes, to the nearest row


@dataclass(frozen=True, slots=True)
class Period:
    """Days in one room without a gap.

    Attributes:
        name: The file, and its first and last moment.
        values: Sensor values of each moment, float64 [moments, sensors], in ppm, lux and °C.
        changes: The same minus those of ten minutes before.
        occupied: Whether somebody was in the room, bool [moments].
    """

    name: str
    values: NDArray[np.float64]
    changes: NDArray[np.float64]
    occupied: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RecordedRoom:
    """The periods of the room in the order of time; SHA-256 of the files; a note for each that is not as published."""

    periods: tuple[Period, ...]
    sha256: str
    notes: tuple[str, ...]


def read_room(data: Path | None, sensors: Sequence[str]) -> RecordedRoom:
    """Reads the three files of the recording.

    Args:
        data: The folder with the files or their archive, or the archive; None to download it into the cache.
        sensors: Which sensors, of COLUMNS, in the order of the features.

    Returns:
        Each file as a period. Moments within the first ten minutes are left out, because they have no change.

    Raises:
        DataError: A file is missing or has another content; the message names file and row, and the remedy.
    """
    texts, where = _texts(data)
    periods = tuple(_period(f"{where}: {name}", texts[name], sensors) for name in FILES)
    plain = {name: content.replace(b"\r\n", b"\n") for name, content in texts.items()}
    digests = {name: hashlib.sha256(plain[name]).hexdigest() for name in FILES}
    notes = tuple(
        f"{where}: {name} is not the file that {ADDRESS} publishes (SHA-256 {digests[name][:16]}…, expected "
        f"{PUBLISHED[name][:16]}…); figures may differ"
        for name in FILES
        if digests[name] != PUBLISHED[name]
    )
    return RecordedRoom(periods, hashlib.sha256(" ".join(digests.values()).encode()).hexdigest(), notes)


def _texts(data: Path | None) -> tuple[Mapping[str, bytes], str]:
    """The content of each file by name, and where they are."""
    path = downloaded(ARCHIVE) if data is None else data
    if path.is_dir():
        if all((path / name).is_file() for name in FILES):
            return {name: (path / name).read_bytes() for name in FILES}, str(path)
        path = ARCHIVE.within(path) or path
    found: dict[str, bytes] = {}
    if path.is_dir():
        found = {name: b"" for name in FILES if (path / name).is_file()}
    else:
        found = {PurePosixPath(name).name: content for name, content in files(path, ADDRESS)}
    if missing := [name for name in FILES if name not in found]:
        raise DataError(
            f"{path}: lacks {', '.join(missing)} of the recording of a room; get {ARCHIVE.url}, and give it, or the folder "
            f"with {', '.join(FILES)}, with --data"
        )
    return found, str(path)


def _period(where: str, content: bytes, sensors: Sequence[str]) -> Period:
    """The moments of a file; ``where`` names it. Raises DataError."""
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where} is not a table of text ({error}); get it again from {ADDRESS}") from None
    header = tuple(rows[0]) if rows else ()
    if header not in (HEADER, ("", *HEADER)):
        raise DataError(
            f"{where}: the first row is {', '.join(header)[:100] or 'missing'}, expected {', '.join(HEADER)}; get it again "
            f"from {ADDRESS}"
        )
    # The header of the first column, the numbers of the rows, is missing in the published files.
    lines = [_line(f"{where}, row {number}", row) for number, row in enumerate(rows[1:], 2) if row]
    times = np.array([time for time, _ in lines])
    table = np.array([values for _, values in lines]).reshape(len(lines), len(HEADER) - 1)
    if (unsorted := np.flatnonzero(np.diff(times) <= 0)).size:
        raise DataError(f"{where}, row {unsorted[0] + 3}: its time is not after that of the row before; get it from {ADDRESS}")
    values = table[:, [HEADER.index(COLUMNS[sensor]) - 1 for sensor in sensors]]
    before = np.searchsorted(times, times - BEFORE_SECONDS - TOLERANCE_SECONDS)
    known = np.abs(times - times[before] - BEFORE_SECONDS) <= TOLERANCE_SECONDS if len(lines) else np.zeros(0, bool)
    occupied = table[:, -1] == 1
    if len(set(occupied[known].tolist())) < 2:
        raise DataError(f"{where}: needs moments with and without people, ten minutes after the first; get it from {ADDRESS}")
    first, last = (datetime.fromtimestamp(times[i], UTC).strftime("%Y-%m-%d %H:%M") for i in (0, -1))
    name = f"{where.rpartition(': ')[2]}, {first} to {last}"
    return Period(name, values[known], (values - values[before])[known], occupied[known])


def _line(where: str, row: Sequence[str]) -> tuple[float, list[float]]:
    """Time in seconds and the numbers of a row. Raises DataError."""
    if len(row) != len(HEADER) + 1:
        raise DataError(
            f"{where}: {len(row)} columns, expected {len(HEADER) + 1}: the number of the row, {', '.join(HEADER)}; get the "
            f"file again from {ADDRESS}"
        )
    try:
        time = datetime.fromisoformat(row[1]).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise DataError(f"{where}: '{row[1]}' is not a time such as 2015-02-04 17:51:00; get the file from {ADDRESS}") from None
    values = []
    for column, text in zip(HEADER[1:], row[2:], strict=True):
        try:
            values.append(float(text))
        except ValueError:
            values.append(math.nan)
        if not math.isfinite(values[-1]):
            raise DataError(f"{where}: {column} is '{text}', which is not a number; get the file again from {ADDRESS}")
    if values[-1] not in (0, 1):
        raise DataError(f"{where}: Occupancy is {row[-1]}, expected 0 or 1; get the file again from {ADDRESS}")
    return time, values
