"""Views: whoever is told what has changed since a version has the whole page, and stores are read as often as they may be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from clocks import FakeClock
from hypothesis import given
from hypothesis import strategies as st
from watched_runs import BAD_NAME, grow, make_run, status

from tinymetafed.pages import views
from tinymetafed.pages.run_watch import Look, RunWatch
from tinymetafed.pages.views import PAUSE_SECONDS, SHARE, View, Views, order
from tinymetafed.runs.run_status import STATUS, write_status

PARTS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "x", "y"]))


@given(st.lists(st.tuples(PARTS, st.booleans())))
def test_a_browser_that_is_told_now_and_then_has_the_whole_page(updates: list[tuple[dict[str, str], bool]]) -> None:
    view, has, version, told = View(), dict[str, str](), 0, 0
    for parts, looks in [*updates, ({}, True)]:
        before = view.version
        view.update(parts)
        assert view.version == before + any(has_changed(view, before))
        if looks:
            has |= view.since(version)
            told += len(view.since(version))
            version = view.version
    assert has == view.since(0) and view.since(version) == {}
    assert told <= 3 * len(updates)


def has_changed(view: View, version: int) -> list[bool]:
    return [True for _ in view.since(version)]


def shown(made: Views, key: str = "", at_once: bool = False) -> dict[str, str]:
    found = asyncio.run(made.view(key, at_once))
    assert found is not None
    return dict(order(found.since(0)))


def views_of(folder: Path, clock: FakeClock) -> Views:
    return Views(RunWatch(folder), clock.monotonic)


def test_the_page_of_a_run_is_its_report_and_what_it_does(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    write_status(tmp_path / "a", status())
    parts = shown(views_of(tmp_path, FakeClock()), "a")
    assert list(parts) == ["run_summary", "live_status", "run_charts", "live_boards", "run_tables", "run_model"]
    assert "4 of 9 rounds" in parts["run_summary"] and "unfinished" not in parts["run_summary"]
    assert "meta-training, 4 of 9" in parts["live_status"] and "J (Arduino Nano 33 BLE)" in parts["live_status"]
    boards = parts["live_boards"]
    assert boards.index("native#2: no answer") < boards.index("client 7")  # what needs help comes first
    assert "not used: " in boards and "A round on a board, estimated" in parts["run_tables"]
    for html in parts.values():
        assert BAD_NAME not in html and " style=" not in html


def test_the_page_of_several_runs_has_their_table_and_their_curves(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_run(tmp_path / name)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run.db").write_text("no store")
    parts = shown(views_of(tmp_path, FakeClock()))
    assert all(f'href="/run/{name}"' in parts["live_runs"] for name in "abc")
    assert "<strong>c</strong>: " in parts["live_runs"] and "run.db" in parts["live_runs"]
    assert parts["live_curves"].count("<polyline") == 4  # of two runs, over rounds and over bytes


def test_a_run_is_read_again_after_a_while_but_what_it_does_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path)
    write_status(tmp_path, status())
    clock, reads = FakeClock(), 0
    genuine = views.look

    def slow(path: Path) -> Look:
        nonlocal reads
        reads += 1
        clock.sleep(2.0)
        return genuine(path)

    monkeypatch.setattr(views, "look", slow)
    made = views_of(tmp_path, clock)
    assert "4 of 9 rounds" in shown(made)["run_summary"]
    grow(tmp_path)
    write_status(tmp_path, status(note="mse 0.25"))
    assert "mse 0.5" in shown(made)["live_status"]  # looked at a moment ago
    clock.sleep(PAUSE_SECONDS)
    parts = shown(made)
    assert "mse 0.25" in parts["live_status"] and "4 of 9 rounds" in parts["run_summary"] and reads == 1
    clock.sleep(SHARE * 2.0)
    assert "5 of 9 rounds" in shown(made)["run_summary"] and reads == 2
    grow(tmp_path)
    (tmp_path / STATUS).unlink()
    clock.sleep(PAUSE_SECONDS)
    parts = shown(made)  # the training has ended: the last state is read at once
    assert "6 of 9 rounds" in parts["run_summary"] and "Stopped" in parts["live_status"] and reads == 3


def test_the_last_state_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    make_run(tmp_path)
    made = views_of(tmp_path, FakeClock())
    shown(made)
    grow(tmp_path)
    assert "5 of 9 rounds" in shown(made, at_once=True)["run_summary"]


def test_a_page_of_nothing_becomes_that_of_the_run_that_begins(tmp_path: Path) -> None:
    clock = FakeClock()
    made = views_of(tmp_path / "new", clock)
    assert "No run has begun" in shown(made)["live_runs"] and made.several
    write_status(make_run(tmp_path / "new"), status())
    clock.sleep(PAUSE_SECONDS)
    parts = shown(made)
    assert parts["live_runs"] == "" and "4 of 9 rounds" in parts["run_summary"] and not made.several


def test_there_is_no_page_of_a_run_that_is_not_in_the_folder(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "a")
    make_run(tmp_path / "other")
    made = views_of(tmp_path / "runs", FakeClock())
    for key in ("b", "../other", "a/../../other", str(tmp_path / "other")):
        assert asyncio.run(made.view(key)) is None
