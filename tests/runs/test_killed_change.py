"""A store in whose change its process was killed: it is read, and continued, as it was before the change."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import tinymetafed as tmf

SHORT = {"run.rounds": 2, "evaluation.tasks": 2, "evaluation.every": 0}


def test_a_change_that_was_killed_is_undone(tmp_path: Path) -> None:
    run = tmf.simulate(tmf.load(tmf.example("sine.toml"), SHORT), out=tmp_path / "run", progress=False)
    killed = tmp_path / "killed"
    with closing(sqlite3.connect(run.path / "run.db", isolation_level=None)) as database:
        database.execute("PRAGMA cache_size = 2")  # pages are written before the end, so that the journal is needed
        database.execute("BEGIN")
        database.execute("CREATE TABLE other (content)")
        database.executemany("INSERT INTO other VALUES (?)", [(bytes(5000),)] * 50)
        shutil.copytree(run.path, killed)  # what a kill would leave
        database.execute("ROLLBACK")
    assert (killed / "run.db-journal").stat().st_size > 0
    assert tmf.open_run(killed).weights_sha256 == run.weights_sha256
    assert tmf.resume(killed, rounds=3, progress=False).rounds == 3
