"""A run.db that somebody has made to do harm: reports and exports refuse it, or show it as text."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harmful_toml import HARMFUL_TOML
from run_values import evaluation, run_result
from stored_runs import WEIGHTS, begun, commit

from tinymetafed.runs import export, report, store
from tinymetafed.runs.run_data import StoreError
from tinymetafed.runs.store import read_run
from tinymetafed_codegen.errors import Error

HARMFUL = "x\n*/ int evil; //<script>alert(1)</script>\x1b[2J"
Value = Any  # of JSON


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with begun(tmp_path / "run") as run:
        for round_ in range(2):
            commit(run, round_)
        run.append(evaluation(2, 0.25))
        run.append(run_result("mse", 4.5, 0.25))
    return tmp_path / "run"


def craft(folder: Path, change: Callable[[str, dict[str, Value]], None], weights: bytes | None = None) -> None:
    """Changes entries of the journal, and makes all hashes fit."""
    chain = ""
    with closing(sqlite3.connect(folder / "run.db")) as database, database:
        for number, kind, content in database.execute("SELECT number, kind, content FROM journal ORDER BY number").fetchall():
            entry = json.loads(content)
            change(kind, entry)
            if weights is not None and "weights_sha256" in entry:
                entry["weights_sha256"] = hashlib.sha256(weights).hexdigest()
            content = json.dumps(entry)
            chain = hashlib.sha256(f"{chain}\n{kind}\n{content}".encode()).hexdigest()
            database.execute("UPDATE journal SET content = ?, chain = ? WHERE number = ?", (content, chain, number))
        if weights is not None:
            database.execute("UPDATE weights SET float32 = ?", (weights,))


def use(folder: Path) -> None:
    """Reports the run and exports its weights."""
    run = read_run(folder)
    report.write(run)
    for name in ("weights.h", "weights.npz"):
        export.write(run, folder / name)


def refused(folder: Path) -> str:
    with pytest.raises(StoreError, match=r"run\.db") as error:
        use(folder)
    return str(error.value)


def in_manifest(key: str, value: Value) -> Callable[[str, dict[str, Value]], None]:
    def change(kind: str, entry: dict[str, Value]) -> None:
        if kind == "run":
            entry["manifest"][key] = value

    return change


def in_tensor(key: str, value: Value) -> Callable[[str, dict[str, Value]], None]:
    def change(kind: str, entry: dict[str, Value]) -> None:
        if kind == "run":
            entry["manifest"]["parameters"][0][key] = value

    return change


def test_an_unchanged_run_is_used(folder: Path) -> None:
    craft(folder, lambda kind, entry: None)
    use(folder)
    assert "dense1_kernel[" in (folder / "weights.h").read_text()


@pytest.mark.parametrize(
    "change",
    [
        *(in_tensor("name", name) for name in (HARMFUL, "a b", "../x", "", "dense1.bias", "1a", "a;b", "a\n", "ä")),
        *(in_tensor("size", size) for size in (0, -1, 1 << 40)),
        *(in_tensor("offset", offset) for offset in (1, -1, 1 << 40)),
        *(in_tensor("shape", shape) for shape in ([], [0], [-1, -32], [1 << 40])),
        *(in_manifest(key, value) for key in ("n_global", "n_parameters") for value in (0, -1, 1, 1 << 40)),
        *(in_manifest(key, HARMFUL) for key in ("model_hash", "schema_hash")),
        in_manifest("parameters", []),
    ],
)
def test_a_model_that_does_not_fit_is_refused(change: Callable[[str, dict[str, Value]], None], folder: Path) -> None:
    craft(folder, change)
    refused(folder)


@pytest.mark.parametrize("weights", [b"", b"1234567", WEIGHTS.tobytes()[4:], WEIGHTS.tobytes() + bytes(4)])
def test_other_numbers_of_weights_are_refused(weights: bytes, folder: Path) -> None:
    craft(folder, lambda kind, entry: None, weights)
    assert " weights" in refused(folder)


@pytest.mark.parametrize("text", ["not TOML [", "\x00", "x = 1", "", "[model]\nlayers = 7", *HARMFUL_TOML.values()])
def test_an_experiment_that_is_none_is_refused(text: str, folder: Path) -> None:
    def change(kind: str, entry: dict[str, Value]) -> None:
        if kind == "run":
            entry["experiment"] = text

    craft(folder, change)
    with pytest.raises(Error):
        use(folder)


def leaves(value: Value, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all values in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    yield path
    for key, each in inner:
        yield from leaves(each, (*path, key))


VALUES: tuple[Value, ...] = (None, -1, 1 << 70, 1e308, float("nan"), HARMFUL, "", [], [[]], {}, True, 0, [1, 2, 3])
STEP = 11  # of all places; each run of the test takes the same ones


def test_any_value_in_any_place_is_refused_or_shown(folder: Path) -> None:
    whole = (folder / "run.db").read_bytes()
    with closing(sqlite3.connect(folder / "run.db")) as database:
        entries = database.execute("SELECT number, kind, content FROM journal").fetchall()
    places = [(number, path) for number, _, content in entries for path in leaves(json.loads(content)) if path]
    used = 0
    for at, (number, path) in enumerate(places[::STEP]):
        seen = iter(range(len(entries)))

        def change(kind: str, entry: dict[str, Value]) -> None:
            if next(seen) == number:  # noqa: B023
                inner: Value = entry
                for key in path[:-1]:  # noqa: B023
                    inner = inner[key]
                inner[path[-1]] = VALUES[at % len(VALUES)]  # noqa: B023

        (folder / "run.db").write_bytes(whole)
        craft(folder, change)
        try:
            use(folder)
        except Error as error:
            assert str(error)
            continue
        used += 1
        assert "<script>alert" not in (folder / "report.html").read_text(encoding="utf-8")
        header = (folder / "weights.h").read_text(encoding="utf-8")
        assert not any(re.search("evil", line) for line in header.splitlines() if not line.startswith("//"))
    assert used and len(places) > 200


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE journal RENAME TO old; "
        "CREATE VIEW journal AS WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n) "
        "SELECT i AS number, 'run' AS kind, '' AS content, '' AS chain FROM n",
        "ALTER TABLE weights RENAME TO old; CREATE VIEW weights AS SELECT * FROM old",
        "CREATE TRIGGER t AFTER INSERT ON journal BEGIN DELETE FROM weights; END",
        "CREATE VIEW best AS SELECT 1 AS round, x'' AS float32",
    ],
)
def test_sql_of_others_is_never_executed(statement: str, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "run.db")) as database:
        database.executescript(statement)
    refused(folder)
    with pytest.raises(StoreError), store.reopen(folder):
        pytest.fail("the run must not be continued")


def test_the_name_of_a_folder_is_one_line_of_a_header(folder: Path) -> None:
    harmful = folder.rename(folder.with_name("run\nint evil;\u2028x"))
    export.write(read_run(harmful), harmful / "weights.h")
    assert not any(line.startswith("int evil") for line in (harmful / "weights.h").read_text(encoding="utf-8").splitlines())
