"""`bench board` asks a board for its stack, the time of its flash and its voltage; every kind of board answers what it can."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import Quiet, sine

from tinymetafed.bench import board_speed
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen.board import board_requirements, boards


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STEP_SECONDS", 0.01), ("LINE_BYTES", 1500), ("ROUND_TRIPS", 3), ("MOST_STEPS", 500)):
        monkeypatch.setattr(board_speed, name, value)


def missing(found: board_speed.BoardSpeed) -> set[str]:
    """The figures that are not measured; each has a reason."""
    names = {"ram_high_water_bytes", "flash_write_us", "flash_erase_ms", "volts"}
    assert all(found.not_measured.values())
    assert all((getattr(found, name) is None) == (name in found.not_measured) for name in names)
    return set(found.not_measured)


@pytest.mark.parametrize("board", ["native", "mps2", "rv32", "esp32isa"])
def test_a_board_says_what_it_has_measured_of_itself(board: str, built_once: None, tmp_path: Path) -> None:
    if lacking := boards.missing_tools(board):
        pytest.skip(f"{lacking[0].name} is not installed: {board_requirements.remedy(lacking)}")
    kind = "native" if board == "native" else "qemu"
    experiment = sine("board.store=true", "model.layers=[{op='dense',units=5,activation='relu'},{op='dense',units=1}]")
    url = f"{kind}:1@{board}?store={tmp_path}"
    found = board_speed.measure(experiment, "test", url, Quiet())
    told = {"volts", "ram_high_water_bytes"} if board == "native" else {"volts"}
    assert missing(found) == told and set(found.not_measured.values()) == {board_speed.NO_FIGURE}
    if found.ram_high_water_bytes is not None:
        assert 300 < found.ram_high_water_bytes - design_of(experiment, "test", board).manifest.memory.ram_static < 4096


def test_what_a_store_holds_is_not_replaced(built_once: None, tmp_path: Path) -> None:
    experiment = sine("board.store=true", "model.layers=[{op='dense',units=5,activation='relu'},{op='dense',units=1}]")
    url = f"native:1?store={tmp_path}"
    assert board_speed.measure(experiment, "test", url, Quiet()).flash_write_us is not None
    again = board_speed.measure(experiment, "test", url, Quiet())
    assert again.not_measured["flash_write_us"] == again.not_measured["flash_erase_ms"] == board_speed.STORE_IN_USE
