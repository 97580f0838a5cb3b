"""A store in whose change its process was killed: it is read, and continued, as it was before the change."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

import tinymetafed as tmf

SHORT = {"run.rounds": 2, "evaluation.tasks": 2, "evaluation.every": 0}
PAGE_BYTES, SECTOR_BYTES = 4096, 512
END = bytes.fromhex("d9d505f920a163d7")  # of a journal that names another file


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tmf.Run:
    out = tmp_path_factory.mktemp("killed") / "run"
    return tmf.simulate(tmf.load(tmf.example("sine.toml"), SHORT), out=out, progress=False)


def killed_in_a_change(run: tmf.Run, killed: Path) -> Path:
    """Copies a run as a process leaves it that is killed while it changes the store."""
    with closing(sqlite3.connect(run.path / "run.db", isolation_level=None)) as database:
        database.execute("PRAGMA cache_size = 2")  # pages are written before the end, so that the journal is needed
        database.execute("BEGIN")
        database.execute("CREATE TABLE other (content)")
        database.executemany("INSERT INTO other VALUES (?)", [(bytes(5000),)] * 50)
        shutil.copytree(run.path, killed)  # what a kill would leave
        database.execute("ROLLBACK")
    assert (killed / "run.db-journal").stat().st_size > 0
    return killed


def test_a_change_that_was_killed_is_undone(run: tmf.Run, tmp_path: Path) -> None:
    killed = killed_in_a_change(run, tmp_path / "killed")
    assert tmf.open_run(killed).weights_sha256 == run.weights_sha256
    assert tmf.resume(killed, rounds=3, progress=False).rounds == 3


def name_in_journal(journal: Path, other: Path) -> None:
    """Makes a journal that of a change in several databases, whose common journal is ``other``."""
    name = str(other).encode()
    with journal.open("ab") as file:
        file.write(bytes(-file.tell() % SECTOR_BYTES))
        file.write(struct.pack(">I", 0x4000_0000 // PAGE_BYTES + 1) + name)
        file.write(struct.pack(">II", len(name), sum(name)) + END)


def test_a_journal_that_has_sqlite_delete_a_file_is_refused(run: tmf.Run, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    for use in (tmf.open_run, tmf.resume):
        folder = killed_in_a_change(run, tmp_path / use.__name__)
        name_in_journal(folder / "run.db-journal", precious)
        precious.write_text("not a run's")
        with pytest.raises(tmf.StoreError, match=r"run\.db-journal: names another file"):
            use(folder)
        assert precious.exists()
    with closing(sqlite3.connect(folder / "run.db")) as database:
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    assert not precious.exists(), "SQLite would not have deleted it, so nothing was tested"
