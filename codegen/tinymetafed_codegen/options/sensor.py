"""The facts of a board's sensor and of what the firmware makes of its rows: columns, windows, memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from .. import included
from ..board.board_facts import Board
from ..graph import Graph
from ..optional_messages.sensor_messages import sensor_schema_hash
from ..section import SpecError, StrictJson
from ..spec import Experiment, FolderTask
from . import log_mel_facts
from .sample_source import CPP_SUFFIXES

FEWEST_ROWS = 16  # that a board keeps for the host while it records
KEPT_BYTES = 4096  # for these rows, if so many come in a second
STUCK_SECONDS_OF_SOUND = 2
STUCK_ROWS, STUCK_WINDOWS = 32, 2  # so many equal rows, and so many windows of them, are a stuck sensor
FEWEST_TIMED_ROWS = 8  # that a rate is measured over; else the rows of a second
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
PIPELINE_RAM_BYTES = 160  # besides rows and samples
REPLAY_RAM_BYTES = 280  # rows of a recording that are read at once, and the state of its file


SOUND_ROW_BYTES = 4  # a sample and the mark of its row
SOUND_COLUMNS = ("sample", "label")
_NEEDS_LABELS = "needs a model that predicts labels; take loss = 'softmax_cross_entropy'"


@dataclass(frozen=True)
class SensorFacts(StrictJson):
    """A board's sensor, and the windows that the firmware cuts its rows into.

    ``columns`` are those of a CSV file of rows, of which ``channels`` are numbers of the sensor; the first one has times, in so
    many parts ``per_second``, unless that is 0. ``rate``: rows per second, 0
    where the experiment names none. ``replayed``: a recording stands for the sensor. ``majority``: a window has the label of
    most of its rows, not that of all. The board keeps ``kept_rows`` for the host while it records. ``sound_bytes``: RAM of the
    front end for sounds, whose rows are single samples of 16 bits; 0 where rows are cut into windows.
    """

    columns: tuple[str, ...]
    per_second: int
    channels: int
    window: int
    stride: int
    majority: bool
    rate: float
    kept_rows: int
    replayed: bool
    sound_bytes: int = 0

    @property
    def sound(self) -> bool:
        """Whether the sensor is a microphone, whose sounds become spectrograms."""
        return self.sound_bytes > 0

    @property
    def row_bytes(self) -> int:
        """Bytes of a row on the line, and in the board's memory while it waits for the host: its mark and its numbers."""
        return SOUND_ROW_BYTES if self.sound else 2 + 4 * self.channels

    @property
    def header(self) -> str:
        """The first line of a CSV file of rows."""
        return ",".join(self.columns)

    @property
    def stuck_rows(self) -> int:
        """Equal rows of a stuck sensor."""
        if self.sound:  # between words, recordings may have digital silence
            return math.ceil(STUCK_SECONDS_OF_SOUND * self.rate)
        return max(STUCK_ROWS, STUCK_WINDOWS * self.window)

    @property
    def timed_rows(self) -> int:
        """Rows that a rate is measured over."""
        return max(FEWEST_TIMED_ROWS, math.ceil(self.rate))

    @property
    def summary(self) -> str:
        """What the firmware makes of rows, for people."""
        source = "a recording that is replayed" if self.replayed else "the sensor"
        if self.sound:
            return f"sensor: a sample is the spectrogram of a sound, heard by {source} at {self.rate:g} Hz"
        rows = f"{self.window} row{'s' * (self.window > 1)}" + (f" at {self.rate:g} Hz" if self.rate else "")
        numbers = f"{self.channels} number{'s' * (self.channels > 1)}"
        return f"sensor: a sample is {rows} of {numbers} of {source}, one every {self.stride}"

    @property
    def ram_bytes(self) -> int:
        """Bytes of RAM: a window, the newest sample, the rows kept for the host, and the state of the pipeline."""
        front_end = self.sound_bytes if self.sound else (2 * self.window + 1) * 4 * self.channels
        return front_end + self.kept_rows * self.row_bytes + PIPELINE_RAM_BYTES + REPLAY_RAM_BYTES * self.replayed


def facts(experiment: Experiment, board: Board, net: Graph, source: str) -> SensorFacts | None:
    """The facts of the experiment's sensor on a board; None without ``board.sensor``.

    Args:
        experiment: The complete experiment.
        board: The board.
        net: The model's graph.
        source: The experiment's name in errors.

    Raises:
        SpecError: The task or the model is none that a sensor can make samples for.
    """
    if experiment.board.sensor is None:
        return None
    what = f"{source}: board.sensor = {Path(experiment.board.sensor).name}"
    if (heard := log_mel_facts.of_experiment(experiment, source)) is not None:
        if not net.labels:
            raise SpecError(f"{what} {_NEEDS_LABELS}")
        return SensorFacts(
            columns=SOUND_COLUMNS,
            per_second=0,
            channels=1,
            window=1,
            stride=1,
            majority=False,
            rate=heard.rate,
            kept_rows=KEPT_BYTES // SOUND_ROW_BYTES,
            replayed=board.replays,
            sound_bytes=heard.ram + 4 * net.input.size,
        )
    task = experiment.task.own_files
    if task is None:
        raise SpecError(f"{what} needs task.kind = 'folder', whose files hold what the sensor records")
    if not net.labels:
        raise SpecError(f"{what} {_NEEDS_LABELS}")
    if len(net.input.shape) > 2:
        raise SpecError(
            f"{what} has rows, but the model takes {list(net.input.shape)}; a microphone needs "
            "task.sound.arithmetic = 'board', and a camera has no front end"
        )
    window = task.window or 1
    channels, rest = divmod(net.input.size, window)
    if rest or (len(net.input.shape) == 2 and net.input.shape[0] != window):
        raise SpecError(f"{what}: model.input = {list(net.input.shape)} does not hold task.window = {window} rows")
    rate = task.rate or 0.0
    kept = min(max(FEWEST_ROWS, math.ceil(rate)), max(FEWEST_ROWS, KEPT_BYTES // (4 * channels + 2)))
    majority = task.window is not None and task.window_label == "majority"
    names = columns(task, channels, what)
    per_second = PER_SECOND[task.time_unit] if task.time is not None and task.time_unit is not None else 0
    return SensorFacts(names, per_second, channels, window, task.stride or window, majority, rate, kept, replayed=board.replays)


def columns(task: FolderTask, channels: int, what: str) -> tuple[str, ...]:
    """The columns of a recording, so that the task reads it: time, features, columns that it ignores, label.

    Raises:
        SpecError: The task's columns are not those of a recording; ``what`` begins its text.
    """
    given = [task.label, task.time, *(task.features or ()), *task.ignore]
    if any(isinstance(name, int) for name in given):
        raise SpecError(f"{what} needs names of columns, as recordings have; write task.label, time, features by name")
    if isinstance(task.label, tuple):
        raise SpecError(f"{what} needs one column of labels, but task.label names {len(task.label)}")
    for key, value, usual in (
        ("client", task.client, None),
        ("delimiter", task.delimiter, ","),
        ("decimal", task.decimal, "."),
    ):
        if value not in (None, usual):
            raise SpecError(
                f"{what} records one file of comma-separated numbers per client, but task.{key} = '{value}'; leave it out"
            )
    if task.time is not None and (task.rate is None or task.time_unit is None):
        raise SpecError(f"{what} records times; set task.rate, and the unit of the column task.time: task.time_unit = 's'")
    features = tuple(map(str, task.features)) if task.features else tuple(f"x{i + 1}" for i in range(channels))
    if len(features) != channels:
        raise SpecError(f"{what}: task.features names {len(features)} columns, the model takes {channels} numbers of a row")
    time = () if task.time is None else (str(task.time),)
    names = (*time, *features, *map(str, task.ignore), "label" if task.label is None else str(task.label))
    if wrong := next((name for name in names if names.count(name) > 1 or any(c in name for c in ',"\n')), None):
        raise SpecError(f"{what}: the column '{wrong}' is named twice, or has a comma, a quote or a line break")
    return names


def description(experiment: Experiment) -> list[object] | None:
    """What counts in the model's hash: the messages, and what the firmware makes of rows; None without a sensor."""
    if experiment.board.sensor is None:
        return None
    options, rate = experiment.task.board_sound
    if options is not None:
        return [sensor_schema_hash().hex(), options.model_dump(mode="json"), rate]
    task = experiment.task.own_files
    if task is None:
        return None
    return [sensor_schema_hash().hex(), task.window, task.stride, task.window_label, task.rate]


def digest(file: Path) -> str:
    """Hexadecimal SHA-256 over the user's sensor and the files that it includes in quotes.

    Raises:
        SpecError: The file cannot be read, or has no class Sensor.
    """
    remedy = "board.sensor names a C++ file with a class Sensor, see firmware/core/sensor/sensor.hpp"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SpecError(f"{file}: cannot be read ({error.strerror}); {remedy}") from None
    if file.suffix not in CPP_SUFFIXES or not any(each in content for each in (b"class Sensor", b"struct Sensor")):
        raise SpecError(f"{file}: not a sensor in C++ ({', '.join(CPP_SUFFIXES)}); {remedy}")
    return included.digest(file)
