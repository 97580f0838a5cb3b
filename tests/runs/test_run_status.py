"""What a run says it is doing: written while it trains, gone afterwards, and never in the way of the run."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from clocks import HUNG_SECONDS, wait_until
from small_runs import Quiet

from tinymetafed.federation.board_state import BoardState, Presence
from tinymetafed.runs import run_folder, run_status
from tinymetafed.runs.run_status import MAX_EVENTS, Watched, published, read_status, write_status

BOARD = BoardState("native#1", "native", "01", Presence.AWAY, "no answer", "", 10, 20, 3)


class Told(Quiet):
    """An observer that notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def stage(self, text: str, total: int = 0) -> None:
        self.calls.append((text, total))

    def event(self, text: str) -> None:
        self.calls.append(text)


class Boards:
    """Clients of whose boards one is away."""

    states = (BOARD,)


def watched() -> Watched:
    """A run that does its third step of five, watched by a clock that goes on by 1 s with each look."""
    ticks = iter(range(1000, 9999))
    found = Watched(Told(), lambda: float(next(ticks)))
    found.watch(Boards())  # type: ignore[arg-type]
    found.stage("meta-training", 5)
    found.advance()
    found.note("mse 0.5")
    found.advance()
    found.event("native#1: lost")
    return found


def test_it_says_stage_clock_note_events_and_boards_and_tells_the_other_observer() -> None:
    found = watched()
    said = found.status()
    assert (said.stage, said.done, said.total, said.note) == ("meta-training", 2, 5, "mse 0.5")
    assert said.stage_began == 1001 and said.step_began == 1003
    assert [event.text for event in said.events] == ["native#1: lost"] and said.boards == (BOARD,)
    assert found._observer.calls == [("meta-training", 5), "native#1: lost"]  # type: ignore[attr-defined]
    for _ in range(2 * MAX_EVENTS):
        found.event("again")
    assert len(found.status().events) == MAX_EVENTS


def test_it_is_read_as_it_was_written_and_nothing_else_is_taken_for_it(tmp_path: Path) -> None:
    said = watched().status()
    assert read_status(tmp_path) is None
    write_status(tmp_path, said)
    assert read_status(tmp_path) == said
    assert said.is_fresh(said.written + 5) and not said.is_fresh(said.written + 100)
    file = tmp_path / "status"
    plain = json.loads(file.read_text())
    for wrong in (
        {**plain, "more": 1},
        {**plain, "boards": [{}]},
        [],
        {**plain, "events": [{"at": 0.0, "text": "x" * (1 << 20)}]},
    ):
        file.write_text(json.dumps(wrong))
        assert read_status(tmp_path) is None
    file.unlink()
    (tmp_path / "elsewhere").write_text(json.dumps(plain))
    file.symlink_to(tmp_path / "elsewhere")
    assert read_status(tmp_path) is None


def test_it_is_there_while_a_run_trains_and_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_status, "FIRST_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt), published(tmp_path, Quiet()) as found:
        found.stage("starting native:2")
        wait_until(lambda: read_status(tmp_path) is not None)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_where_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()
    monkeypatch.setattr(run_status, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (tried.set(), _full())[1])
    with published(tmp_path, Quiet()) as found:
        assert tried.wait(HUNG_SECONDS)
        found.advance()
    assert found.status().done == 1


def _full() -> None:
    raise OSError(28, "No space left on device")


def test_a_folder_with_nothing_but_the_file_of_a_killed_run_is_used_again(tmp_path: Path) -> None:
    write_status(tmp_path, watched().status())
    with run_folder.claimed(tmp_path):
        pass
    assert not tmp_path.exists()
