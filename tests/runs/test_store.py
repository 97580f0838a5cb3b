"""The run store: committed entries are read back, flipped bits are reported or harmless, and there is one writer only."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from clocks import wait_until
from run_values import DEVICE, evaluation, round_entry, run_result
from stored_runs import EXPERIMENT, MANIFEST, WEIGHTS, after, begun, commit

from tinymetafed import __version__
from tinymetafed.learn.weights import sha256
from tinymetafed.runs import journal, run_folder, store, store_content, store_format, store_lock
from tinymetafed.runs.journal import ServedDevice
from tinymetafed.runs.run_data import RunData, StoreError
from tinymetafed.runs.run_folder import claimed
from tinymetafed.runs.store import read_run
from tinymetafed.runs.store_format import FORMAT
from tinymetafed_codegen import files
from tinymetafed_codegen.hash import ARITHMETIC_VERSION


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a run with 9 rounds and an evaluation; nobody writes to it any more."""
    with begun(tmp_path / "run") as run:
        for round_ in range(9):
            commit(run, round_)
            if round_ == 4:
                run.append(evaluation(5, None))
    return tmp_path / "run"


def same(run: RunData, other: RunData) -> bool:
    """Whether two reads are equal, bit for bit."""
    return {**vars(run), "weights": run.weights.tobytes(), "path": None} == {
        **vars(other),
        "weights": other.weights.tobytes(),
        "path": None,
    }


def read_or_refuse(path: Path) -> RunData | str:
    try:
        return read_run(path)
    except StoreError as error:
        return str(error)


# --- Writing and reading ---


def test_committed_entries_are_read_back(folder: Path) -> None:
    run = read_run(folder)
    assert run.experiment() == EXPERIMENT and run.manifest == MANIFEST and run.header.seed == EXPERIMENT.run.seed
    assert run.trained == 9 and [entry.round for entry in run.rounds] == list(range(9))
    np.testing.assert_array_equal(run.weights, after(8))
    assert run.weights.dtype == np.float32 and run.weights.flags.writeable
    assert [entry.round for entry in run.evaluations] == [5] and run.result is None and run.showcase is None
    assert run.devices == [ServedDevice(DEVICE.url, DEVICE.board, DEVICE.unique_id, DEVICE.receive_window, 9)]
    assert run.experiment(adapt=3).task.adapt == 3


def test_a_run_begins_with_its_initial_weights(tmp_path: Path) -> None:
    with begun(tmp_path / "run"):
        pass
    run = read_run(tmp_path / "run")
    assert run.trained == 0
    np.testing.assert_array_equal(run.weights, WEIGHTS)


def test_a_run_is_reopened_where_it_was_left(folder: Path, tmp_path: Path) -> None:
    with begun(tmp_path / "whole") as run:
        for round_ in range(3):
            commit(run, round_)
    with begun(tmp_path / "parts") as run:
        commit(run, 0)
    for round_ in (1, 2):
        with store.reopen(tmp_path / "parts") as run:
            assert run.read().trained == round_ and run.warning == ""
            commit(run, round_)
    assert same(read_run(tmp_path / "parts"), read_run(tmp_path / "whole"))


def test_held_rounds_share_a_transaction_that_anything_else_completes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with begun(folder) as run:
        run.hold_seconds = 1e6
        for round_ in range(3):
            commit(run, round_)
        assert read_run(folder).trained == 0
        run.append(evaluation(3, None))
        assert read_run(folder).trained == 3
        commit(run, 3)
        assert run.read().trained == read_run(folder).trained == 4
        commit(run, 4)
    assert read_run(folder).trained == 5


def test_rounds_are_held_for_a_limited_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(store.time, "monotonic", lambda: now)
    with begun(tmp_path / "run") as run:
        run.hold_seconds = 0.25
        for round_, (seconds, kept) in enumerate([(10.0, 1), (0.125, 1), (0.0625, 1), (0.125, 4), (0.125, 4), (60.0, 6)]):
            now += seconds
            commit(run, round_)
            assert read_run(tmp_path / "run").trained == kept


def test_an_error_rolls_back_all_held_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with begun(tmp_path / "run") as run:
        commit(run, 0)
        run.hold_seconds = 1e6
        for round_ in (1, 2):
            commit(run, round_)
        with monkeypatch.context() as patched:
            patched.setattr(store.time, "monotonic", lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):  # interrupted at an arbitrary point
                commit(run, 3)
        assert run.read().trained == 1 and same(run.read(), read_run(tmp_path / "run"))
        commit(run, 1)
    run_now = read_run(tmp_path / "run")
    assert run_now.trained == 2 and run_now.weights.tobytes() == after(1).tobytes()


def test_a_run_that_nobody_writes_is_one_file(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"experiment.toml", "run.db", "lock"}
    alone = folder.parent / "alone"
    alone.mkdir()
    shutil.copy(folder / "run.db", alone)
    assert same(read_run(alone), read_run(folder))


def test_people_with_an_sql_shell_see_tables(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "run.db")) as database:
        rounds = database.execute("SELECT round, alpha, weights_sha256 FROM rounds").fetchall()
        assert rounds == [(round_, 0.5, sha256(after(round_))) for round_ in range(9)]
        assert database.execute("SELECT count(*), min(device) FROM contributions").fetchone() == (9, "native#1")
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_the_writer_knows_what_is_in_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with begun(folder) as run:
        for round_ in range(3):
            commit(run, round_)
            assert same(run.read(), read_run(folder))
    with store.reopen(folder) as run:
        for entry in (evaluation(3, 0.5), run_result("mse", 4.5, 0.25)):
            run.append(entry)
            assert same(run.read(), read_run(folder))


def test_values_that_json_lacks_are_not_committed(folder: Path) -> None:
    with store.reopen(folder) as run:
        run.read()
        with pytest.raises(ValueError, match="JSON"):
            run.append(evaluation(9, float("nan")))
        run.append(run_result("mse", 4.5, 0.25))
    assert read_run(folder).result == run_result("mse", 4.5, 0.25)


# --- Folders ---


@pytest.mark.parametrize("name", ["run.db", "notes.txt", ".hidden"])
def test_a_folder_that_holds_anything_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(StoreError, match=r"not empty.*--out"), claimed(tmp_path):
        pytest.fail("must not be reached: the run cannot be written")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_claimed_folder_is_removed_if_no_run_began(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), claimed(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run").is_dir()
        raise RuntimeError
    assert not (tmp_path / "new" / "run").exists()
    with claimed(tmp_path / "run"), begun(tmp_path / "run"):
        pass
    assert read_run(tmp_path / "run").trained == 0


def test_two_runs_never_share_a_folder(folder: Path) -> None:
    before = read_run(folder)
    with pytest.raises(StoreError, match="--out"), begun(folder):
        pytest.fail("a run began in the folder of another run")
    assert same(read_run(folder), before)


def test_a_run_may_begin_in_an_empty_folder_but_not_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(StoreError, match=r"cannot be.*--out"), claimed(path):
            pytest.fail("must not be reached: the run cannot be written")
        with pytest.raises(StoreError, match=r"cannot be written.*--out"), begun(path):
            pytest.fail("a run was begun in a file")
    (tmp_path / "empty").mkdir()
    with claimed(tmp_path / "empty"), begun(tmp_path / "empty"):
        pass
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("read", [read_run, lambda path: store.reopen(path).__enter__()], ids=["read", "reopen"])
def test_a_path_that_is_no_run_is_named(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StoreError, match="not a run folder") as refused:
            read(path)
        assert str(path) in str(refused.value)
    for content in (b"", b"text", os.urandom(20_000)):
        (tmp_path / "run.db").write_bytes(content)
        with pytest.raises(StoreError, match=r"run\.db: .*(not a run store|not a database)"):
            read(tmp_path)
        assert (tmp_path / "run.db").read_bytes() == content


# --- Other versions and experiments ---


def alter(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "run.db")) as database, database:
        for statement in statements:
            database.execute(statement)


def test_another_format_is_named(folder: Path) -> None:
    alter(folder, f"PRAGMA user_version = {FORMAT + 1}")
    for said in (read_or_refuse(folder), reopen_or_refuse(folder)):
        assert f"run.db: a store of format {FORMAT + 1}, this version of tinymetafed knows format {FORMAT}" in said


def test_a_run_of_the_former_format_is_refused_and_told_why(folder: Path) -> None:
    """Format 1 had the same tables and the same first key; its manifest was another one."""
    with closing(sqlite3.connect(folder / "run.db")) as database, database:
        (content,) = database.execute("SELECT content FROM journal WHERE number = 0").fetchone()
        former = json.loads(content) | {
            "format": 1,
            "tinymetafed": "1.2.3",
            "manifest": {"model": {"hash": "50f024a22338cd57"}},
        }
        database.execute("UPDATE journal SET content = ? WHERE number = 0", (json.dumps(former),))
        database.execute("PRAGMA user_version = 1")
    before = (folder / "run.db").read_bytes()
    for said in (read_or_refuse(folder), reopen_or_refuse(folder)):
        assert isinstance(said, str) and "run.db: a store of format 1" in said
        assert "it has a hash of the generated C++ text, this version has a hash of the model" in said
        assert "finish it with the tinymetafed 1.2.3 that made it, or train again" in said
    assert (folder / "run.db").read_bytes() == before
    alter(folder, "DELETE FROM journal")
    assert "finish it with the version that made it, or train again" in str(read_or_refuse(folder))


def test_an_entry_of_another_version_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sealed entry with a key that this version does not know."""
    genuine = journal.to_json
    monkeypatch.setattr(store, "to_json", lambda entry: json.dumps(json.loads(genuine(entry)) | {"mood": "good"}))
    with store.reopen(folder) as run:
        run.append(evaluation(9, 1.0))
    said = read_or_refuse(folder)
    assert isinstance(said, str) and "run.db: entry 12 of its journal is an entry (evaluation)" in said
    assert "that is not of this version: mood" in said
    assert (
        f"finish it with the tinymetafed {__version__} that made it, an earlier state of {__version__}, or train again" in said
    )


def reopen_or_refuse(folder: Path) -> str:
    try:
        with store.reopen(folder):
            return ""
    except StoreError as error:
        return str(error)


def test_another_arithmetic_is_not_continued(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ARITHMETIC_VERSION", ARITHMETIC_VERSION + 1)
    assert "run.db: trained with arithmetic" in reopen_or_refuse(folder)
    assert read_run(folder).trained == 9  # its entries can still be read


def test_a_changed_experiment_is_not_continued(folder: Path) -> None:
    file = folder / "experiment.toml"
    text = file.read_text()
    file.write_text(text.replace("seed = 1", "seed = 2"))
    said = reopen_or_refuse(folder)
    assert str(file) in said and "delete the file" in said
    file.unlink()
    assert reopen_or_refuse(folder) == "" and file.read_text() == text


def test_an_experiment_of_another_version_is_named(folder: Path) -> None:
    run = read_run(folder)
    header = replace(run.header, experiment=run.header.experiment.replace("rounds", "laps"))
    other = RunData(**{**vars(run), "header": header})
    with pytest.raises(StoreError, match=r"run\.laps.*made by tinymetafed"):
        other.experiment()


# --- Damage ---


@pytest.mark.parametrize("keep", [0, 1, 16, 99, 100, 512, 4095, 4096, 5000, 8192, 0.5, 0.9, -4096, -2000])
def test_a_truncated_store_is_reported_or_complete(folder: Path, keep: float) -> None:
    file = folder / "run.db"
    whole, before = file.read_bytes(), read_run(folder)
    size = int(keep if keep >= 1 or keep == 0 else len(whole) * keep if keep > 0 else len(whole) + keep)
    file.write_bytes(whole[:size])
    read = read_or_refuse(folder)
    if isinstance(read, RunData):  # only the unused end of the last page was cut off
        assert len(whole) - size < 4096 and not any(whole[size:]) and same(read, before)
        return
    for said in (read, reopen_or_refuse(folder)):
        assert str(file) in said, size
        assert file.read_bytes() == whole[:size]


def test_a_flipped_bit_is_reported_or_harmless(folder: Path) -> None:
    file = folder / "run.db"
    whole, before = bytearray(file.read_bytes()), read_run(folder)
    draw = random.Random(5)
    named = 0
    for _ in range(600):
        at, bit = draw.randrange(len(whole)), 1 << draw.randrange(8)
        whole[at] ^= bit
        file.write_bytes(whole)
        whole[at] ^= bit
        found = read_or_refuse(folder)
        if isinstance(found, str):
            assert "run.db" in found and len(found) < 400, found
            named += 1
        else:
            assert same(found, before), f"bit {bit} of byte {at} changed what is read"
        for extra in ("run.db-wal", "run.db-shm", "run.db-journal"):  # a damaged header may make SQLite create these files
            (folder / extra).unlink(missing_ok=True)
    assert named > 200  # the rest of the file is free space


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE journal SET content = replace(content, '0.5', '0.6') WHERE number = 4", "entry 4 .* not what was written"),
        ("UPDATE journal SET kind = 'session' WHERE number = 3", "entry 3"),
        ("UPDATE journal SET number = 99 WHERE number = 5", "entry 5"),
        ("DELETE FROM journal WHERE number = 6", "entry 6"),
        ("DELETE FROM journal WHERE number = (SELECT max(number) FROM journal)", "weights are not those of its 8 rounds"),
        ("DELETE FROM journal", "journal is empty"),
        ("UPDATE weights SET float32 = zeroblob(4480)", "weights are not those"),
        ("UPDATE weights SET round = 8", "weights are not those"),
        ("DELETE FROM weights", "weights are not those"),
        ("DROP TABLE weights", "no such table"),
    ],
)
def test_a_changed_entry_is_named(folder: Path, statement: str, words: str) -> None:
    alter(folder, statement)
    with pytest.raises(StoreError, match=words) as refused:
        read_run(folder)
    assert str(folder / "run.db") in str(refused.value) and "train again" in str(refused.value)
    assert reopen_or_refuse(folder) != ""


def test_a_round_is_never_committed_twice(tmp_path: Path) -> None:
    with begun(tmp_path / "run") as run:
        commit(run, 0)
        commit(run, 0)
    with pytest.raises(StoreError, match="do not follow one another"):
        read_run(tmp_path / "run")


# --- Killed ---

WRITER = """
import sys, pathlib
sys.path[:0] = sys.argv[2:]
from test_store import begun, commit
with begun(pathlib.Path(sys.argv[1])) as run:
    for round_ in range(100_000):
        commit(run, round_)
        print(round_, flush=True)
"""


@pytest.fixture
def killed(tmp_path: Path) -> tuple[Path, int]:
    """A run whose writer was killed, and the last round that the writer reported as committed."""
    return killed_run(tmp_path / "run", 40)


def killed_run(folder: Path, rounds: int) -> tuple[Path, int]:
    command = [sys.executable, "-c", WRITER, str(folder), *map(str, Path(__file__).parents[:2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= rounds:
                writer.send_signal(signal.SIGKILL)
                break
        lines = [line, *writer.stdout]
    return folder, int(lines[-1])


def test_a_killed_writer_loses_nothing(killed: tuple[Path, int]) -> None:
    folder, last = killed
    assert (folder / "run.db-wal").exists()  # the test is meaningful only when the log is needed
    run = read_run(folder)
    assert run.trained - last in (1, 2)  # the last round may be committed and not reported yet
    with store.reopen(folder) as again:
        assert again.read().trained == run.trained and again.warning == ""
        commit(again, run.trained)
    assert read_run(folder).trained == run.trained + 1


def kill_at_line(number: int, path: Path) -> bool:
    """Begins a run in a process that is killed after ``number`` lines of our code; returns whether it was killed."""
    ours = {each.__file__ for each in (store, store_content, store_format, store_lock, run_folder, files)}
    child = os.fork()
    if child == 0:
        left = number

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            if frame.f_code.co_filename not in ours:
                return None
            left -= event == "line"
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        with begun(path):
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_wherever_the_start_of_a_run_is_killed_the_folder_can_be_used_again(tmp_path: Path) -> None:
    seen: set[frozenset[str]] = set()
    for number in range(0, 10_000, 3):
        path = tmp_path / str(number)
        if not kill_at_line(number, path):
            break
        if not path.exists():
            continue
        names = {re.sub(r"toml\w{8}", "toml.", file.name) for file in path.iterdir()}
        seen.add(frozenset(names))
        if "run.db" in names:
            assert read_run(path).trained == 0
            with store.reopen(path) as run:
                commit(run, 0)
            continue
        with pytest.raises(StoreError, match=f"the run was stopped before its first round.*train EXPERIMENT --out {path}"):
            read_run(path)
        with pytest.raises(StoreError, match="the run was stopped before its first round"), store.reopen(path):
            pytest.fail("there is nothing to continue")
        with claimed(path), begun(path) as run:
            commit(run, 0)
        assert read_run(path).trained == 1 and {file.name for file in path.iterdir()} == {"run.db", "lock", "experiment.toml"}
    lock_only, whole = frozenset({"lock"}), frozenset({"lock", "experiment.toml"})
    assert seen >= {frozenset(), lock_only, lock_only | {"experiment.toml."}, whole, whole | {"run.db.new"}, whole | {"run.db"}}


def test_a_journal_of_a_store_that_was_never_whole_is_not_played_back(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1\n")
    (tmp_path / "run.db.new").write_bytes(os.urandom(8192))
    (tmp_path / "run.db.new-journal").write_bytes(bytes.fromhex("d9d505f920a163d7ffffffff") + os.urandom(5000))
    with claimed(tmp_path), begun(tmp_path):
        pass
    assert read_run(tmp_path).trained == 0 and not (tmp_path / "run.db.new-journal").exists()


@pytest.mark.parametrize(
    "names", [["experiment.toml"], ["lock", "data"], ["lock", "run.db.new", "weights.npz"], ["run.db.new"]]
)
def test_a_folder_with_other_files_is_refused_and_unchanged(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("mine")
    with pytest.raises(StoreError, match=r"not empty.*--out"), claimed(tmp_path):
        pytest.fail("must not be reached: the run cannot be written")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == dict.fromkeys(names, "mine")


def test_a_folder_in_which_a_run_is_starting_is_refused(tmp_path: Path) -> None:
    with (
        files.locked(tmp_path / "lock"),
        pytest.raises(StoreError, match=r"process \d+ is training into this folder"),
        claimed(tmp_path),
    ):
        pytest.fail("another process is about to begin a run here")


def test_a_damaged_log_is_reported_and_gives_no_wrong_data(killed: tuple[Path, int], tmp_path: Path) -> None:
    folder, _ = killed
    before = read_run(folder)
    for extra in ("run.db-shm", "lock"):
        (folder / extra).unlink(missing_ok=True)
    log = (folder / "run.db-wal").read_bytes()
    draw = random.Random(3)
    shortened = 0
    for number in range(25):
        copy = Path(shutil.copytree(folder, tmp_path / f"copy{number}"))
        spoilt = bytearray(log)
        spoilt[draw.randrange(len(log))] ^= 1 << draw.randrange(8)
        (copy / "run.db-wal").write_bytes(spoilt)
        read_or_refuse(copy)  # as the command does before it continues a run; this must not hide the damage
        try:
            with store.reopen(copy) as run:
                found, warning = run.read(), run.warning
        except StoreError as error:
            assert "run.db" in str(error)
            continue
        assert list(found.rounds) == list(before.rounds)[: found.trained]
        if found.trained < before.trained:
            shortened += 1
            assert "run.db-wal" in warning and f"after {found.trained} rounds" in warning
        else:
            np.testing.assert_array_equal(found.weights, before.weights)
    assert shortened > 5


# --- Full disks ---


@contextmanager
def no_room(size: int) -> Iterator[None]:
    """Limits files to ``size`` bytes, which a writer sees as a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_round_without_disk_space_is_absent_and_can_be_written_later(tmp_path: Path) -> None:
    with begun(tmp_path / "run") as run:
        commit(run, 0)
        with no_room(20_000), pytest.raises(StoreError, match=r"run\.db: cannot be written.*make room.*--resume") as refused:
            for round_ in range(1, 40):
                commit(run, round_)
        assert str(tmp_path / "run") in str(refused.value)
        trained = run.read().trained
        assert 1 <= trained < 39
        commit(run, trained)
    assert read_run(tmp_path / "run").trained == trained + 1


def test_a_run_without_room_to_begin_leaves_no_store(tmp_path: Path) -> None:
    with no_room(2000), pytest.raises(StoreError, match="cannot be written"), begun(tmp_path / "run"):
        pytest.fail("a run was begun without room")
    assert not (tmp_path / "run" / "run.db").exists()


# --- Several processes ---


def test_a_second_writer_is_refused(folder: Path, tmp_path: Path) -> None:
    for open_ in (lambda: store.reopen(folder), lambda: begun(tmp_path / "new")):
        with open_() as run:
            said = reopen_or_refuse(run.path)
            assert said.startswith(f"{run.path}: process {os.getpid()} is training into this folder")
        assert reopen_or_refuse(run.path) == ""


def test_the_lock_of_a_process_that_died_is_free(killed: tuple[Path, int]) -> None:
    assert (killed[0] / "lock").exists() and reopen_or_refuse(killed[0]) == ""


def test_readers_see_complete_rounds_during_writing(tmp_path: Path) -> None:
    seen: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            run = read_run(tmp_path / "run")
            expected = WEIGHTS if run.trained == 0 else after(run.trained - 1)
            assert run.weights.tobytes() == expected.tobytes()
            seen.append(run.trained)

    with begun(tmp_path / "run") as run:
        failures: list[BaseException] = []

        def watch_or_fail() -> None:
            try:
                watch()
            except BaseException as error:
                failures.append(error)

        reader = threading.Thread(target=watch_or_fail)
        reader.start()
        for round_ in range(300):
            commit(run, round_)
            if round_ % 30 == 0:  # keeps reader and writer in step
                looked = len(seen)
                wait_until(lambda looked=looked: failures or len(seen) > looked + 1)  # type: ignore[misc]
        stop.set()
        reader.join()
    assert not failures
    assert len(set(seen)) > 5 and seen == sorted(seen)


def test_a_reader_writes_nothing(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder.chmod(0o555)
    try:
        read_run(folder)
    finally:
        folder.chmod(0o755)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_journal_is_json_that_any_program_reads(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "run.db")) as database:
        for (content,) in database.execute("SELECT content FROM journal"):
            assert json.dumps(json.loads(content), sort_keys=True, separators=(",", ":")) == content


def test_entries_of_runs_without_differences_are_as_they_were() -> None:
    plain, differing = round_entry(0, "ab" * 32), round_entry(0, "ab" * 32, bytes_down=3, bytes_down_full=9)
    assert "bytes_down_full" not in journal.to_json(plain)
    for entry in (plain, differing):
        assert journal.from_json("round", journal.to_json(entry)) == entry
