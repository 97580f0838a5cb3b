"""`bench board` measures every kind of device, streamed or not; the times here are too short to be exact."""

from __future__ import annotations

import pytest
from rig import Board, Boards, board_of
from small_runs import Quiet

from tinymetafed.bench import board_speed
from tinymetafed.bench.board_speed import EMULATOR_CLOCK, PROCESS_CLOCK
from tinymetafed.runs.setup import design_of


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STEP_SECONDS", 0.01), ("LINE_BYTES", 1500), ("ROUND_TRIPS", 3), ("MOST_STEPS", 500)):
        monkeypatch.setattr(board_speed, name, value)


def measured(board: Board, url: str) -> board_speed.BoardSpeed:
    found = board_speed.of_device(design_of(board.experiment, "test", board_of(url)), "test", board.device, Quiet())
    assert found.board == board_of(url) and not found.real
    assert set(found.steps) == {"local", "global", "full"}
    assert all(0 < step.us_least <= step.us <= step.us_most and step.steps >= 8 for step in found.steps.values())
    assert found.line_down > 0 and found.line_up > 0 and found.round_trip_ms > 0 and found.predict_ms > 0
    return found


def test_every_board_is_measured_by_its_own_clock(board: Board, url: str) -> None:
    found = measured(board, url)
    assert set(found.not_measured) == {"ram_high_water_bytes", "flash_write_us", "flash_erase_ms", "volts"}
    assert set(found.not_measured.values()) == {board_speed.NO_MEASUREMENTS}
    assert found.clock == (PROCESS_CLOCK if board_of(url) == "native" else EMULATOR_CLOCK)
    assert all(step.cycles_per_mac is None for step in found.steps.values())


@pytest.mark.xdist_group("emulator-native:1")
def test_a_streamed_task_needs_no_data(boards: Boards) -> None:
    measured(boards("native:1", "streamed"), "native:1")
