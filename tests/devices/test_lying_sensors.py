"""A board lies about its sensor while it is recorded: the recording ends with a reason, and no row of it is forged."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from small_runs import Quiet
from test_recording_trouble import Board

from tinymetafed.devices import asked_board
from tinymetafed.devices.asked_board import record as record_asked
from tinymetafed.devices.device import Device
from tinymetafed.devices.link.link_errors import LinkError
from tinymetafed.devices.recording import NO_ROW_SECONDS, SAY_SECONDS, Limits, record
from tinymetafed_codegen.board.boards import INSTALLED
from tinymetafed_codegen.optional_messages.sensor_messages import Columns, RowFormat, Rows, SensorState

LIMITS = Limits(rows=3000, seconds=3600)
Lie = Callable[[Rows, int], Rows]  # what is said instead of the rows of the n-th answer


class Events(Quiet):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def event(self, text: str) -> None:
        self.seen.append(text)


class LyingBoard(Board):
    """A board that changes its columns and its rows."""

    def __init__(self, lie: Lie = lambda rows, n: rows, **columns: Any) -> None:
        super().__init__(columns.get("format", RowFormat.F32))
        self.form = Columns.unpack(replace(self.form, **columns).encode())
        self.lie, self.asked = lie, 0

    def pull_rows(self, recording: int, row: int) -> Rows:
        assert 0 <= row < 1 << 32, "a number that PullRows can carry"
        self.asked += 1
        rows = super().pull_rows(recording, row)
        return Rows.unpack(self.lie(rows, self.asked).encode()) if recording else rows


def recorded(board: LyingBoard, folder: Path, events: Quiet) -> list[Path]:
    return list(record(cast(Device, board), folder, "anna", None, LIMITS, events).files)


SOUND = {"format": RowFormat.I16}
COLUMNS: dict[str, dict[str, Any]] = {
    "rows among the names of the columns": {"names": b"x\n1,0\n2,0\nx,label"},
    "escape sequences among them": {"names": b"\x1b[2Jx,label"},
    "zeros among them": {"names": b"x\0,label"},
    "no names": {"names": b""},
    "more numbers than names": {"channels": 65535},
    "no rate, and times": {"rate": 0.0, "per_second": 1000},
    "a sound of two channels": {**SOUND, "channels": 2, "names": b"x,y,label"},
    "a sound without a rate": {**SOUND, "rate": 0.0},
    "a sound below 1 Hz": {**SOUND, "rate": 0.2},
    "a sound of 3 GHz": {**SOUND, "rate": 3e9},
    "a sound of 3e38 Hz": {**SOUND, "rate": 3e38},
}


@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS.keys())
def test_columns_that_cannot_be_are_refused_before_a_file_is_written(tmp_path: Path, columns: dict[str, Any]) -> None:
    with pytest.raises(LinkError, match=r"board: (its|the names of its) "):
        recorded(LyingBoard(**columns), tmp_path, Quiet())
    assert list(tmp_path.iterdir()) == []


def row(mark: int, number: float) -> bytes:
    return mark.to_bytes(2, "little") + np.float32(number).tobytes()


REFUSED_ROWS: dict[str, Lie] = {
    "a number that is NaN": lambda rows, n: replace(rows, data=rows.data + row(1, np.nan)),
    "an infinite number": lambda rows, n: replace(rows, data=row(0, -np.inf)),
    "a label that the model does not have": lambda rows, n: replace(rows, data=row(4, 1.0)),
    "the largest label": lambda rows, n: replace(rows, data=row(0xFFFF, 1.0)),
    "half a row": lambda rows, n: replace(rows, data=rows.data[:-1]),
    "rows again": lambda rows, n: replace(rows, first=0),
    "the last row that can be counted": lambda rows, n: replace(rows, first=2**32 - 1) if n > 1 else rows,
    "no row, and nothing wrong": lambda rows, n: replace(rows, data=b"") if n > 1 else rows,
    "no row, and a sensor that waits": lambda rows, n: replace(rows, data=b"", state=SensorState.WAITING) if n > 1 else rows,
    "no row, and a sensor that is stuck": lambda rows, n: replace(rows, data=b"", state=SensorState.STUCK) if n > 1 else rows,
}


@pytest.mark.parametrize("lie", REFUSED_ROWS.values(), ids=REFUSED_ROWS.keys())
def test_rows_that_cannot_be_end_the_recording_and_leave_those_before_them(tmp_path: Path, lie: Lie) -> None:
    board, events = LyingBoard(lambda rows, n: lie(rows, n) if n > 1 else rows), Events()
    with pytest.raises(LinkError, match="board: "):
        recorded(board, tmp_path, events)
    assert board.clock.now < 100 + 2 * NO_ROW_SECONDS
    head, *rows, rest = (tmp_path / "anna" / "0001.csv").read_text().split("\n")
    assert (head, rest) == ("x,label", "") and rows == [f"{float(i)},1" for i in range(len(rows))]
    assert len(events.seen) <= 3, "a liar fills no terminal"


def test_a_sensor_without_a_rate_may_take_its_time(tmp_path: Path) -> None:
    board = LyingBoard(lambda rows, n: rows if n > 3000 else replace(rows, data=b""), rate=0.0)
    assert len(recorded(board, tmp_path, Quiet())) == 1
    assert board.clock.now > 100 + NO_ROW_SECONDS


def test_a_sensor_that_changes_its_state_all_the_time_is_reported_now_and_then(tmp_path: Path) -> None:
    states = (SensorState.STUCK, SensorState.OK, SensorState.RATE_OFF, SensorState.BAD_LABEL)

    def lie(rows: Rows, n: int) -> Rows:
        board.clock.sleep(0.01)
        return replace(rows, state=states[n % 4], data=rows.data[:6])

    board, events = LyingBoard(lie), Events()
    (file,) = recorded(board, tmp_path, events)
    assert len(file.read_text().splitlines()) == 3001
    seconds = board.clock.now - 100
    assert seconds > 2 * SAY_SECONDS and 3 < len(events.seen) <= 3 * (1 + seconds / SAY_SECONDS)


@pytest.mark.parametrize("name", ["../../x", "/tmp/evil", "..", "a/b", "\x1b[2J", "", "nano33ble"])
def test_the_name_of_a_board_leads_out_of_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    board = LyingBoard()
    board.__dict__.update(board=name, hello=SimpleNamespace(unique_id=b"12345678"))

    class Line:
        def __enter__(self) -> LyingBoard:
            return board

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(asked_board, "_asked", lambda url, boards: Line())
    found = record_asked(
        "/dev/ttyACM0",
        tmp_path / "rows",
        client=None,
        label=None,
        limits=Limits(rows=5),
        design=None,
        boards=INSTALLED,
        observer=Quiet(),
    )
    (file,) = found.files
    assert [path.name for path in tmp_path.iterdir()] == ["rows"] and file.parent.parent == tmp_path / "rows"
    assert re.fullmatch(r"\w*-363738", file.parent.name)
