"""A run whose database another program has locked: the run waits, and then names that program; it is not called damaged."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from stored_runs import begun, commit

from tinymetafed.devices.link.clock import SYSTEM_CLOCK
from tinymetafed.runs import store, store_lock
from tinymetafed.runs.run_data import StoreError
from tinymetafed.runs.run_folder import claimed
from tinymetafed.runs.store import read_run

LOCK = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], isolation_level=None) as database:
    for statement in sys.argv[2:]:
        database.execute(statement).fetchall()
    print("locked", flush=True)
    sys.stdin.read()
"""
READER = ("BEGIN", "SELECT * FROM journal")
WRITER = ("BEGIN IMMEDIATE",)
ALONE = ("BEGIN EXCLUSIVE",)
Holding = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with begun(tmp_path / "run") as run:
        commit(run, 0)
    return tmp_path / "run"


@pytest.fixture
def holding(folder: Path) -> Iterator[Holding]:
    """``holding(*statements)`` starts another process that executes them on run.db and keeps the lock."""
    started: list[subprocess.Popen[str]] = []

    def hold(*statements: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", LOCK, str(folder / "run.db"), *statements]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "locked\n"
        return process

    yield hold
    for process in started:
        process.communicate()


def ended_by_the_first_pause(monkeypatch: pytest.MonkeyPatch, process: subprocess.Popen[str]) -> list[float]:
    """The other process gives its lock back while the run waits; the list has the pauses."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        process.communicate()

    # Of the module alone: threads of other tests may still sleep.
    monkeypatch.setattr(store_lock, "time", SimpleNamespace(monotonic=SYSTEM_CLOCK.monotonic, sleep=pause))
    return pauses


def read(folder: Path) -> None:
    assert read_run(folder).trained == 1


def resume(folder: Path) -> None:
    with store.reopen(folder) as run:
        commit(run, 1)
    assert read_run(folder).trained == 2


@pytest.mark.parametrize(
    ("use", "lock"),
    [(read, ALONE), (resume, READER), (resume, WRITER), (resume, ALONE)],
    ids=["report", "reader", "writer", "alone"],
)
def test_a_locked_store_is_waited_for(
    use: Callable[[Path], None], lock: tuple[str, ...], folder: Path, holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = ended_by_the_first_pause(monkeypatch, holding(*lock))
    use(folder)
    assert pauses


@pytest.mark.parametrize(
    ("use", "lock"), [(read, ALONE), (resume, READER), (resume, WRITER)], ids=["report", "reader", "writer"]
)
def test_who_has_locked_a_store_is_said(
    use: Callable[[Path], None], lock: tuple[str, ...], folder: Path, holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_lock, "BUSY_SECONDS", 0.0)
    process = holding(*lock)
    with pytest.raises(StoreError, match=rf"run\.db: locked by \S+ \(pid {process.pid}\).*--resume {folder}") as refused:
        use(folder)
    assert not any(word in str(refused.value) for word in ("damaged", "restore", "make room"))
    process.communicate()
    read(folder)


def test_a_training_waits_for_a_writer(folder: Path, holding: Holding, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.reopen(folder) as run:
        pauses = ended_by_the_first_pause(monkeypatch, holding(*WRITER))
        commit(run, 1)
        assert pauses
        monkeypatch.undo()
        monkeypatch.setattr(store_lock, "BUSY_SECONDS", 0.0)
        process = holding(*WRITER)
        with pytest.raises(StoreError, match=rf"locked by \S+ \(pid {process.pid}\)"):
            commit(run, 2)
        process.communicate()
        commit(run, 2)
    assert read_run(folder).trained == 3


def test_the_end_of_a_run_does_not_need_the_lock(folder: Path, holding: Holding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_END_SECONDS", 0.0)
    with store.reopen(folder) as run:
        commit(run, 1)
        holding(*READER)
    with closing(sqlite3.connect(folder / "run.db")) as database:
        assert database.execute("SELECT max(round) FROM rounds").fetchone() == (1,)


def test_a_start_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever create() had written: the same folder can be used by the next start, of another user too."""
    for failing in ("write_if_changed", "RunStore"):
        with monkeypatch.context() as patched, pytest.raises(StoreError, match="no room"), claimed(tmp_path / "run"):

            def fail(*_: object) -> None:
                raise StoreError("no room")

            patched.setattr(store, failing, fail)
            with begun(tmp_path / "run"):
                pytest.fail("the run cannot begin")
        assert not (tmp_path / "run").exists()
    with claimed(tmp_path / "run"), begun(tmp_path / "run"):
        pass
    assert read_run(tmp_path / "run").trained == 0
