"""Recordings that something goes wrong with: a full disk, a folder that cannot be one, labels that the model does not have."""

from __future__ import annotations

import resource
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from clocks import FakeClock
from small_runs import Quiet

import tinymetafed as tmf
from tinymetafed.devices.device import Device
from tinymetafed.devices.recording import CannotWrite, Limits, WrongLabel, record
from tinymetafed_codegen.optional_messages.sensor_messages import Columns, RowFormat, Rows, SensorReport, SensorState

MOST = 2000  # bytes of a file, on the disk that is full


class Board:
    """A board whose sensor gives as many rows as are asked for: the numbers of the rows."""

    url = "board"

    def __init__(self, layout: RowFormat) -> None:
        self.session, self.clock = self, FakeClock()
        self.number = np.dtype("<i2" if layout == RowFormat.I16 else "<f4")
        self.form = Columns(1, layout, 8000.0, 0, b"x,label")

    def columns(self) -> Columns:
        return self.form

    def sensor(self) -> SensorReport:
        return SensorReport(SensorState.OK, 0, 0.0, 0, 0, 0, 0xFFFF, 0.0, 3)

    def pull_rows(self, recording: int, row: int) -> Rows:
        numbers = np.arange(row, row + 100)
        rows = np.zeros(100, [("mark", "<u2"), ("number", self.number)])
        rows["mark"], rows["number"] = 2, numbers
        return Rows(row, 0, SensorState.OK, 0.0, rows.tobytes() if recording else b"")


def board(layout: RowFormat = RowFormat.F32) -> Device:
    return cast(Device, Board(layout))


@contextmanager
def full_disk() -> Iterator[None]:
    """No file becomes larger than MOST bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("rows", [500, 100_000])
def test_a_full_disk_leaves_whole_rows_in_a_file(tmp_path: Path, rows: int) -> None:
    with full_disk(), pytest.raises(CannotWrite, match=r"anna: cannot be written: File too large; the whole rows .*0001\.csv"):
        record(board(), tmp_path, "anna", None, Limits(rows), Quiet())
    (file,) = (tmp_path / "anna").iterdir()
    head, *lines, rest = file.read_text().split("\n")
    assert (head, rest) == ("x,label", "") and lines == [f"{float(i)},1" for i in range(len(lines))] and len(lines) > 200


@pytest.mark.parametrize("rows", [1500, 100_000])
def test_a_full_disk_leaves_a_sound_that_can_be_read(tmp_path: Path, rows: int) -> None:
    with full_disk(), pytest.raises(CannotWrite, match=r"0001\.wav"):
        record(board(RowFormat.I16), tmp_path, "anna", "yes", Limits(rows), Quiet())
    (file,) = (tmp_path / "anna" / "yes").iterdir()
    assert [path.name for path in (tmp_path / "anna").iterdir()] == ["yes"]
    with wave.open(str(file)) as sound:
        heard = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    assert len(heard) == (MOST - 44) // 2 and (heard == np.arange(len(heard))).all()


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "anna").write_text("mine")
    with pytest.raises(CannotWrite, match="anna: cannot be written: "):
        record(board(), tmp_path, "anna", None, Limits(10), Quiet())
    assert (tmp_path / "anna").read_text() == "mine"


def test_a_folder_without_hard_links_takes_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError("a memory card has no hard links")

    monkeypatch.setattr("os.link", link)
    for _ in range(2):
        found = record(board(), tmp_path, "anna", None, Limits(10), Quiet())
    assert [file.name for file in found.files] == ["0002.csv"]
    assert sorted(path.name for path in (tmp_path / "anna").iterdir()) == ["0001.csv", "0002.csv"]


def test_a_number_that_is_no_class_of_the_model_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    with pytest.raises(WrongLabel, match="label 3: its model has the labels 0 to 2"):
        record(board(), tmp_path, "anna", "3", Limits(10), Quiet())
    assert not list(tmp_path.iterdir())
    for label in ("2", "wave"):
        assert record(board(), tmp_path, "anna", label, Limits(10), Quiet()).rows == 10


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"label": "NaN"}, "--label 'NaN': means a missing label"),
        ({"rows": 0}, "expected numbers above 0"),
        ({"seconds": float("nan")}, "expected numbers above 0"),
    ],
)
def test_options_that_make_no_recording_are_refused(tmp_path: Path, options: dict[str, object], why: str) -> None:
    with pytest.raises(tmf.UsageError, match=why.replace("?", r"\?")):
        tmf.record("/dev/nothing", tmp_path, progress=False, **options)  # type: ignore[arg-type]
