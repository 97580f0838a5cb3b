"""Records a board's sensor into files that the task ``folder`` reads: CSV files of rows with labels and times, or WAV files."""

from __future__ import annotations

import math
import os
import wave
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.errors import Error, UsageError
from tinymetafed_codegen.optional_messages.sensor_messages import Columns, RowFormat, Rows, SensorState
from tinymetafed_codegen.protocol import Status
from tinymetafed_codegen.whole_numbers import whole_number

from ..federation.observer import Observer
from .device import Device
from .link.link_errors import DeviceGarbled, DeviceRefused, LinkError

PAUSE_SECONDS = 0.01  # between two questions when no row was there
NOTE_SECONDS = 1.0  # between two notes of progress
MISSING_SECONDS = 2.0  # that a sensor may be missing
NO_ROW_SECONDS, NO_ROW_PERIODS = 10.0, 20.0  # that no row may come for; so many times the time between two
SAY_SECONDS = 10.0  # between two times that the same is said about a sensor
MOST_ROWS = 1 << 32  # that a recording can count
MOST_SOUND_RATE = 1 << 20  # a WAV file has 32 bits for the bytes per second
FIRST_NUMBER, MOST_FILES = 1, 100_000
_WAV_HEAD = 44  # bytes before the samples of a WAV file; it ends with their size, and the size of what follows byte 8 is at 4
_GAP, _LABEL = 0x8000, 0x7FFF  # the bits of a row's mark
_FORMATS = {RowFormat.F32: "<f4", RowFormat.I16: "<i2"}
_SAID = {
    SensorState.MISSING: "the sensor does not answer; check its wiring and power, for an emulated board give ?replay=FILE|DIR",
    SensorState.STUCK: "the sensor is stuck: all its latest rows are equal",
    SensorState.NOT_FINITE: "the sensor gives numbers that are NaN or infinite; such rows are left out",
    SensorState.RATE_OFF: "rows come at another rate than task.rate",
    SensorState.BAD_LABEL: "the sensor gives labels that the model does not have; such rows count as rows without label",
}


class NoSensor(UsageError):
    """The board's firmware has no sensor; wrong usage."""


class CannotWrite(Error):
    """A file of a recording cannot be written."""


class WrongLabel(UsageError):
    """The model on the board does not have the label; wrong usage."""


@dataclass(frozen=True)
class Limits:
    """When a recording ends: after so many rows, or seconds; None for no limit."""

    rows: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Recorded:
    """What was recorded.

    Attributes:
        files: The files, in their order in time; one ends, and another begins, where rows are missing.
        rows: Rows in all of them.
        dropped: Rows that were lost because the host fetched them too late.
        unlabelled: Rows without a label.
        rate: Rows per second, measured by the board; 0 where it was not.
        expected_rate: ``task.rate`` of its firmware; 0 for none.
        ended: Why it ended, in words.
    """

    files: tuple[Path, ...]
    rows: int
    dropped: int
    unlabelled: int
    rate: float
    expected_rate: float
    ended: str

    @property
    def rate_is_off(self) -> bool:
        """Whether the rate is off by more than a tenth."""
        return self.rate > 0 and self.expected_rate > 0 and abs(self.rate / self.expected_rate - 1) > 0.1


def describe(state: SensorState) -> str:
    """What is wrong with a sensor, in words; "" if nothing is."""
    return _SAID.get(state, "")


def record(device: Device, folder: Path, client: str, label: str | None, limits: Limits, observer: Observer) -> Recorded:
    """Records until a limit is reached, the recording that a board replays ends, or the user interrupts.

    Args:
        device: The board.
        folder: The folder for recordings; a client is a folder in it.
        client: Name of the client.
        label: Label of all rows; None for those that the sensor gives.
        limits: When to end.
        observer: Is told of progress, and of what is wrong with the sensor.

    Returns:
        What was recorded; whole rows, also after an interruption.

    Raises:
        NoSensor: The firmware has no sensor. WrongLabel: The label is a number that the model does not have.
        LinkError: The board was lost, or its sensor gives no row. What was recorded until then is in the files.
        CannotWrite: A file cannot be written; likewise.
    """
    form = _form_of(device)
    classes = _classes(label, device)
    files = (_SoundFiles if form.layout == _FORMATS[RowFormat.I16] else _Files)(folder / client, form, label)
    observer.stage(f"recording {device.url}", limits.rows or 0)
    ended, rate, clock = "as asked", 0.0, device.session.clock
    noted = clock.monotonic()
    try:
        for batch in _fetched(device, form, classes, limits, observer):
            rate = batch.rate
            files.add(batch if limits.rows is None else batch.first_of(limits.rows - files.rows))
            for _ in batch.marks:
                observer.advance()
            if clock.monotonic() - noted >= NOTE_SECONDS:
                noted = clock.monotonic()
                observer.note(f"{files.rows:,} rows, {files.dropped:,} dropped" + (f", {rate:.1f} per second" if rate else ""))
            if files.rows == limits.rows:
                break
            if batch.is_last:
                ended = "the recording that the board replays has ended"
    except KeyboardInterrupt:
        ended = "interrupted"
    except LinkError:
        files.close()
        if files.rows:
            observer.event(f"{device.url}: recorded {files.rows:,} whole rows until then, in {folder / client}")
        raise
    finally:
        try:
            files.close()
        finally:
            with suppress(LinkError):
                device.session.pull_rows(0, 0)
    return Recorded(tuple(files.done), files.rows, files.dropped, files.unlabelled, rate, form.rate, ended)


@dataclass(frozen=True)
class _Form:
    """The columns of a board's rows, their numbers, and their rate per second and per unit of time; 0 for none."""

    names: str
    channels: int
    layout: str
    rate: float
    per_second: int
    others: int  # columns between the numbers and the label, which the task ignores


@dataclass(frozen=True)
class _Batch:
    """Rows of one answer: the number of the first, a mark and numbers of each. ``rate``: measured; 0 for none."""

    first: int
    marks: NDArray[np.uint16]
    values: NDArray[np.float32]
    rate: float
    is_last: bool = False

    def first_of(self, count: int) -> _Batch:
        """Its first rows."""
        return _Batch(self.first, self.marks[:count], self.values[:count], self.rate, self.is_last)


def _form_of(device: Device) -> _Form:
    try:
        columns: Columns = device.session.columns()
    except DeviceRefused as refusal:
        if refusal.status != Status.UNKNOWN_TYPE:
            raise
        raise NoSensor(
            f"{device.url}: its firmware has no sensor; set board.sensor in the experiment, and flash its firmware"
        ) from None
    names = columns.names.decode("utf-8", "replace")
    rate = float(str(np.float32(columns.rate)))  # the number that was written in the experiment
    others = names.count(",") - columns.channels - (columns.per_second > 0)
    if others < 0 or (columns.per_second and not rate):
        raise DeviceGarbled(f"{device.url}: its rows have {columns.channels} numbers, but its columns are {names}")
    if not names.isprintable():
        raise DeviceGarbled(
            f"{device.url}: the names of its columns are not a line of text: {names!r}; flash its firmware again"
        )
    if columns.format == RowFormat.I16 and not (columns.channels == 1 and 1 <= rate <= MOST_SOUND_RATE):
        raise DeviceGarbled(
            f"{device.url}: its sound has {columns.channels} numbers at {rate:g} times a second, expected one, 1 to "
            f"{MOST_SOUND_RATE:,} times; flash its firmware again"
        )
    return _Form(names, columns.channels, _FORMATS[columns.format], rate, columns.per_second, others)


def _classes(label: str | None, device: Device) -> int:
    """The number of labels that the model on the board has. Raises WrongLabel for a number that is none of them."""
    report = device.session.sensor()
    if report is None:
        return _LABEL
    number = None if label is None else whole_number(label)
    if number is not None and number >= report.classes:
        raise WrongLabel(f"{device.url}: label {label}: its model has the labels 0 to {report.classes - 1}")
    return report.classes


def _fetched(device: Device, form: _Form, classes: int, limits: Limits, observer: Observer) -> Iterator[_Batch]:
    """The rows of each answer that has some; and an empty last one where a replayed recording has ended. Raises LinkError."""
    session = device.session
    clock, recording = session.clock, int.from_bytes(os.urandom(4), "little") | 1
    layout = np.dtype([("mark", "<u2"), ("values", form.layout, (form.channels,))])
    row, said = 0, dict[SensorState, float]()
    # Rows without a rate come when they do.
    patience = max(NO_ROW_SECONDS, NO_ROW_PERIODS / form.rate) if form.rate else math.inf
    began = since = clock.monotonic()
    while limits.seconds is None or clock.monotonic() - began < limits.seconds:
        try:
            rows: Rows = session.pull_rows(recording, row)
        except DeviceRefused as refusal:
            if refusal.status not in (Status.BAD_STATE, Status.BAD_OFFSET):
                raise
            raise LinkError(
                f"{device.url}: knows nothing of this recording any more; it was reset, or another host records"
            ) from None
        now = clock.monotonic()
        if (problem := describe(rows.state)) and now >= said.get(rows.state, now):
            observer.event(f"{device.url}: {problem}")
            said[rows.state] = now + SAY_SECONDS
        if len(rows.data) % layout.itemsize or not row <= rows.first < MOST_ROWS - len(rows.data):
            raise DeviceGarbled(f"{device.url}: asked for rows from {row}, got {len(rows.data)} bytes from {rows.first}")
        if rows.data:
            found = np.frombuffer(rows.data, layout)
            if (found["mark"] & _LABEL).max() > classes or not np.isfinite(found["values"]).all():
                raise DeviceGarbled(
                    f"{device.url}: among the rows from {rows.first} is a label that its model does not have, or a number "
                    "that is NaN or infinite; boards do not send such rows, so flash its firmware again"
                )
            yield _Batch(rows.first, found["mark"], found["values"].astype(np.float32), rows.rate)
            row, since = rows.first + len(found), clock.monotonic()
        elif rows.state == SensorState.ENDED:
            yield _Batch(row, np.empty(0, np.uint16), np.empty((0, form.channels), np.float32), rows.rate, is_last=True)
            return
        elif rows.state == SensorState.MISSING and clock.monotonic() - since >= MISSING_SECONDS:
            raise LinkError(f"{device.url}: {describe(rows.state)}")
        elif now - since >= patience:
            raise LinkError(
                f"{device.url}: no row has come for {patience:g} s, and its sensor says {rows.state.name}; reset the board, "
                "and check the sensor's wiring and power"
            )
        else:
            clock.sleep(PAUSE_SECONDS)


class _Files:
    """The CSV files of a recording. Each is hidden until it is complete, and never takes the place of another."""

    _suffix = ".csv"

    def __init__(self, folder: Path, form: _Form, label: str | None) -> None:
        self.done: list[Path] = []
        self.rows = self.dropped = self.unlabelled = 0
        self._folder, self._form, self._label = folder, form, label
        self._file: TextIO | wave.Wave_write | None = None
        self._hidden = folder / f".recording-{os.getpid()}.part"
        self._next = 0  # number of the next row

    def add(self, batch: _Batch) -> None:
        """Adds rows; begins a new file where rows before one of them are missing. Raises CannotWrite."""
        try:
            self._add(batch)
        except OSError as error:
            self._complete(error)

    def _add(self, batch: _Batch) -> None:
        if not len(batch.marks):
            return
        self.dropped += batch.first - self._next
        apart = self._apart(batch.marks)
        if batch.first > self._next or apart[0]:
            self.close()
        for start, end in pairwise([0, *(np.flatnonzero(apart[1:]) + 1).tolist(), len(apart)]):
            if start:
                self.close()
            self._write(batch, start, end)
            self.rows += end - start
        self.unlabelled += 0 if self._label is not None else int((batch.marks & _LABEL == 0).sum())
        self._next = batch.first + len(batch.marks)

    def close(self) -> None:
        """Completes the file that is open, if there is one, under the next free name. Raises CannotWrite."""
        self._complete(None)

    def _complete(self, failed: OSError | None) -> None:
        """As ``close``; with the error of a write that has failed, with the whole rows before it."""
        file, self._file = self._file, None
        try:
            if file is not None:
                try:
                    file.close()
                except OSError as error:  # a full disk, for instance
                    failed = failed or error
                if failed is None or self._cut():
                    self._publish()
        except OSError as error:
            failed = failed or error
        if failed is not None:
            raise self._cannot_write(failed) from None

    def _publish(self) -> None:
        folder = self._folder_of_file()
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(FIRST_NUMBER, MOST_FILES):
            name = folder / f"{number:04d}{self._suffix}"
            try:
                name.touch(exist_ok=False)
            except FileExistsError:
                continue
            self._hidden.replace(name)
            self.done.append(name)
            return
        raise UsageError(f"{self._folder}: has {MOST_FILES - 1:,} recordings already; name another folder or --client")

    def _cannot_write(self, error: OSError) -> CannotWrite:
        kept = f"; the whole rows until then are in {', '.join(map(str, self.done))}" if self.done else ""
        return CannotWrite(f"{error.filename or self._folder}: cannot be written: {error.strerror or error}{kept}")

    def _cut(self) -> bool:
        """Cuts the hidden file after its last whole row, and removes it if it has none. Returns whether it has rows."""
        *rows, _ = self._hidden.read_bytes().split(b"\n")
        os.truncate(self._hidden, sum(len(row) + 1 for row in rows))
        if len(rows) < 2:  # the names of the columns alone
            self._hidden.unlink()
        return len(rows) > 1

    def _apart(self, marks: NDArray[np.uint16]) -> NDArray[np.bool_]:
        """Whether each row begins a new file."""
        return (marks & _GAP).astype(bool)

    def _folder_of_file(self) -> Path:
        return self._folder

    def _write(self, batch: _Batch, start: int, end: int) -> None:
        """Writes rows to the file, which is begun if none is open."""
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._hidden.open("w", encoding="utf-8", newline="\n")
            self._file.write(f"{self._form.names}\n")
        assert not isinstance(self._file, wave.Wave_write)
        self._file.write("".join(self._line(batch, i) for i in range(start, end)))

    def _line(self, batch: _Batch, i: int) -> str:
        form, mark = self._form, int(batch.marks[i]) & _LABEL
        time = [repr((batch.first + i) * form.per_second / form.rate)] if form.per_second else []
        label = self._label if self._label is not None else str(mark - 1) if mark else ""
        return ",".join([*time, *map(_decimal, batch.values[i]), *[""] * form.others, label]) + "\n"


class _SoundFiles(_Files):
    """The WAV files of a microphone: CLIENT/LABEL/FILE.wav; without a label CLIENT/FILE.wav, which no task reads."""

    _suffix = ".wav"
    _mark = -1  # the label of the open file's rows, as in their marks

    def _apart(self, marks: NDArray[np.uint16]) -> NDArray[np.bool_]:
        labels = marks & _LABEL
        before = np.concatenate([[self._mark], labels[:-1]])
        return (marks & _GAP).astype(bool) | (labels != before if self._label is None else False)

    def _cut(self) -> bool:
        size = (self._hidden.stat().st_size - _WAV_HEAD) // 2 * 2
        if size <= 0:
            self._hidden.unlink()
            return False
        with self._hidden.open("r+b") as file:
            file.truncate(_WAV_HEAD + size)
            for at, value in ((4, _WAV_HEAD - 8 + size), (_WAV_HEAD - 4, size)):
                file.seek(at)
                file.write(value.to_bytes(4, "little"))
        return True

    def _folder_of_file(self) -> Path:
        label = self._label if self._label is not None else str(self._mark - 1) if self._mark > 0 else ""
        return self._folder / label

    def _write(self, batch: _Batch, start: int, end: int) -> None:
        self._mark = int(batch.marks[start]) & _LABEL
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = wave.open(str(self._hidden), "wb")  # noqa: SIM115  # closed by close()
            self._file.setnchannels(1)
            self._file.setsampwidth(2)
            self._file.setframerate(round(self._form.rate))
        assert isinstance(self._file, wave.Wave_write)
        self._file.writeframes(batch.values[start:end, 0].astype("<i2").tobytes())


def _decimal(value: np.float32) -> str:
    """The shortest decimal that reads back as the same float32, also by way of a float64."""
    text = str(value)
    return text if np.float32(float(text)) == value else repr(float(value))
