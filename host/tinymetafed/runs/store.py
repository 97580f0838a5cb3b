"""The run store: a run in one SQLite file, written in transactions of whole rounds, with hashes that reveal any damage.

RUN/run.db holds a journal and the latest weights. Every journal entry has a hash over itself and all entries before it; the
last round's entry has the SHA-256 of the weights. One process writes the file; others can read it at the same time.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import tomli_w

from tinymetafed_codegen import __version__
from tinymetafed_codegen.files import LockedError, holders, locked, suggestion, write_if_changed
from tinymetafed_codegen.hash import ARITHMETIC_VERSION
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.spec import Experiment, dump, portable, relative

from ..federation.result import Evaluation
from ..learn.weights import Floats, sha256
from .journal import Asked, Entry, JournalError, RoundEntry, RunHeader, from_json, kind_of, to_json
from .run_data import RunData, StoreError
from .wal import lost_commits

Result = TypeVar("Result")

FORMAT = 2  # raised when this version would misread the files of an earlier one
APPLICATION = 0x544D4631  # "TMF1" in the file's header
BUSY_SECONDS = 30.0  # that another program may lock run.db: a backup, a browser of databases
_END_SECONDS = 1.0  # at the end of a run, which can do without the lock
_PAUSE_SECONDS = 0.05

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
BEGIN;
CREATE TABLE journal (
  number INTEGER PRIMARY KEY,  -- 0, 1, 2, ...
  kind TEXT NOT NULL,          -- run, session, round, evaluation, showcase, result
  content TEXT NOT NULL,       -- canonical JSON
  chain TEXT NOT NULL          -- SHA-256 over the former entry's chain, kind and content
) STRICT;
CREATE TABLE weights (
  only INTEGER PRIMARY KEY CHECK (only = 0),
  round INTEGER NOT NULL,      -- rounds trained
  float32 BLOB NOT NULL        -- little-endian, in manifest order
) STRICT;
CREATE VIEW rounds AS SELECT
  json_extract(content, '$.round') AS round, json_extract(content, '$.alpha') AS alpha,
  json_extract(content, '$.weights_sha256') AS weights_sha256, json_extract(content, '$.bytes_down') AS bytes_down,
  json_extract(content, '$.bytes_up') AS bytes_up, json_extract(content, '$.seconds') AS seconds
  FROM journal WHERE kind = 'round';
CREATE VIEW contributions AS SELECT
  json_extract(content, '$.round') AS round, json_extract(value, '$.client') AS client,
  json_extract(value, '$.device') AS device, json_extract(value, '$.status') AS status,
  json_extract(value, '$.digest') AS digest, json_extract(value, '$.note') AS note
  FROM journal, json_each(content, '$.contributions') WHERE kind = 'round';
COMMIT;
"""

_VIRTUAL = re.compile(r"\s*CREATE\s+VIRTUAL\b", re.IGNORECASE)

# A run has this table if it keeps its best weights.
_BEST = """
CREATE TABLE IF NOT EXISTS best (
  only INTEGER PRIMARY KEY CHECK (only = 0),
  round INTEGER NOT NULL,      -- rounds trained
  float32 BLOB NOT NULL        -- little-endian, in manifest order
) STRICT
"""


class RunStore:
    """A run that is being written; only ``append`` adds to it.

    Rounds that end within ``hold_seconds`` of the last commit share a transaction, so a crash loses at most so much finished
    work. Any other entry, ``read`` and the end of the run commit it too. With 0 each round has a transaction of its own.
    Rounds are in the file alone, so that a long run does not take more and more memory; the few other entries in memory too.
    """

    def __init__(self, path: Path, database: sqlite3.Connection, warning: str = "") -> None:
        self.path = path
        self.warning = warning  # one line about lost commits, "" if there are none
        self.hold_seconds = 0.0
        self._database = database
        self._others: list[Entry] = []  # all entries but rounds
        self._count = 0  # of all entries
        self._chain = ""
        self._committed = 0, 0, ""  # numbers of others and of all, and the last one's hash, at the last commit
        self._latest = np.zeros(0, np.float32)  # the committed weights
        self._best: Floats | None = None  # the committed weights of the best evaluation
        self._weights: tuple[int, Floats] | None = None  # rounds trained and their weights, written with the next commit
        self._since = time.monotonic()  # time of the last commit

    def append(self, entry: Entry, weights: Floats | None = None) -> None:
        """Adds an entry.

        Args:
            entry: The entry.
            weights: For the header, for rounds, and for evaluations of weights that are kept: float32[n_global] at that point.

        Raises:
            StoreError: It cannot be written; then everything since the last commit is rolled back.
        """
        kind, text = kind_of(entry), to_json(entry)
        chain = _seal(self._chain, kind, text)
        with self._all_or_nothing():
            if not self._database.in_transaction:
                _waiting(self.path, lambda: self._database.execute("BEGIN IMMEDIATE"))
            self._database.execute("INSERT INTO journal VALUES (?, ?, ?, ?)", (self._count, kind, text, chain))
            self._count, self._chain = self._count + 1, chain
            if not isinstance(entry, RoundEntry):
                self._others.append(entry)
            if isinstance(entry, Evaluation) and weights is not None:
                self._database.execute(_BEST)
                stored = weights.astype("<f4").tobytes()
                self._database.execute("INSERT OR REPLACE INTO best VALUES (0, ?, ?)", (entry.round, stored))
            elif weights is not None:
                self._weights = (entry.round + 1 if isinstance(entry, RoundEntry) else 0, weights.astype(np.float32))
            if not isinstance(entry, RoundEntry) or time.monotonic() - self._since >= self.hold_seconds:
                self._commit()
            if isinstance(entry, Evaluation) and weights is not None:
                self._best = weights

    def commit(self) -> None:
        """Commits the open transaction, if any. Raises StoreError; then it is rolled back."""
        if self._database.in_transaction:
            with self._all_or_nothing():
                self._commit()

    def verify(self) -> RunData:
        """Reads and verifies the file, to which entries are then added, and returns its content. Raises StoreError."""
        with _named(self.path, "damaged: {}; " + _RESTORE):
            found = _waiting(self.path, lambda: _read(self._database, self.path))
        entries, self._latest, self._best, self._chain = found
        self._others = [entry for entry in entries if not isinstance(entry, RoundEntry)]
        self._count = len(entries)
        self._committed = len(self._others), self._count, self._chain
        return RunData.of(self.path, entries, self._latest, self._best)

    def read(self) -> RunData:
        """Commits and returns the content as it was written; it was verified when the file was opened. Raises StoreError."""
        self.commit()
        with _named(self.path, "cannot be read: {}; " + _RESTORE):
            written = self._database.execute("SELECT content FROM journal WHERE kind = 'round' ORDER BY number")
            rounds = [from_json("round", content) for (content,) in written]
        return RunData.of(self.path, [*self._others, *rounds], self._latest, self._best)

    @property
    def evaluations(self) -> list[Evaluation]:
        """All evaluations so far, without reading the file."""
        return [entry for entry in self._others if isinstance(entry, Evaluation)]

    def _commit(self) -> None:
        self._since = time.monotonic()
        trained, weights = self._weights or (0, None)
        if weights is not None:
            stored = weights.astype("<f4").tobytes()
            self._database.execute("INSERT OR REPLACE INTO weights VALUES (0, ?, ?)", (trained, stored))
        _waiting(self.path, lambda: self._database.execute("COMMIT"))
        if weights is not None:
            self._latest, self._weights = weights, None
        self._committed = len(self._others), self._count, self._chain

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Rolls back to the last commit when an error occurs."""
        try:
            with _named(self.path, f"cannot be written: {{}}; make room there, then: tinymetafed train --resume {self.path}"):
                yield
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            others, self._count, self._chain = self._committed
            del self._others[others:]
            self._weights = None
            raise


_RESTORE = "restore the run folder from a copy, or train again"
_WHY_NOT_1 = "it has a hash of the generated C++ text, this version has a hash of the model, and they cannot be compared"


@contextmanager
def create(path: Path, experiment: Experiment, manifest: ModelManifest, weights: Floats, asked: Asked) -> Iterator[RunStore]:
    """Creates a run and locks its folder against other processes.

    Args:
        path: The run folder, which must not hold a run yet.
        experiment: The complete experiment.
        manifest: The model on the first device's board.
        weights: The initial global weights, float32[n_global].
        asked: The options of this call.

    Yields:
        The store.

    Raises:
        StoreError: The folder is in use or cannot be written.
    """
    complete = dump(experiment)
    written = portable(complete, path)
    if asked.data is not None:
        asked = replace(asked, data=relative(Path(asked.data), path))
    moves = written != complete or asked.data is not None
    text = tomli_w.dumps(written)
    header = RunHeader(
        format=FORMAT,
        arithmetic=ARITHMETIC_VERSION,
        tinymetafed=__version__,
        seed=experiment.run.seed,
        experiment=text,
        manifest=manifest,
        asked=asked,
        weights_sha256=sha256(weights),
        folder=str(path.resolve()) if moves else None,
    )
    with ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_alone(path))
            if (path / "run.db").exists():
                raise StoreError(f"{path}: holds a run already; choose another folder with --out")
            for file in path.iterdir():
                if _UNFINISHED.fullmatch(file.name):
                    file.unlink()
            write_if_changed(path / "experiment.toml", text)
            begun = path / "run.db.new"  # renamed when it is complete
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}; choose another folder with --out") from None
        with (
            _named(path, "cannot be written: {}; remove the folder, make room, start again"),
            closing(sqlite3.connect(begun, isolation_level=None)) as database,
        ):
            database.executescript(_SCHEMA)
            RunStore(path, database).append(header, weights)
        begun.replace(path / "run.db")
        yield stack.enter_context(_writing(path))


@contextmanager
def reopen(path: Path) -> Iterator[RunStore]:
    """Verifies a run, opens it to continue it, and locks its folder against other processes.

    Args:
        path: The run folder.

    Yields:
        The store.

    Raises:
        StoreError: The folder is no run or is in use; or the store is damaged, of another version, or of another experiment
            than the experiment.toml beside it.
    """
    _require_plain(_find(path))
    _require_plain(path / "lock")
    with _alone(path):
        torn = lost_commits(path)

        def check(store: RunStore, run: RunData) -> None:
            _check(run)
            if torn:
                store.warning = (
                    f"{path / 'run.db-wal'}: its end is damaged (by a power failure or a flipped bit); "
                    f"everything after {run.trained} rounds is done again"
                )

        with _writing(path, check) as store:
            yield store


def _check(run: RunData) -> None:
    """Raises StoreError if this version cannot continue the run, or experiment.toml is not that of the run."""
    run.require_model()
    file = run.path / "experiment.toml"
    if not file.exists():
        write_if_changed(file, run.header.experiment)
    elif file.read_bytes() != run.header.experiment.encode():
        raise StoreError(
            f"{file}: not the experiment that this run was begun with; delete the file to continue the run with its own "
            "experiment, or train the new experiment into another folder"
        )
    if run.header.arithmetic != ARITHMETIC_VERSION:
        raise StoreError(
            f"{run.path / 'run.db'}: trained with arithmetic {run.header.arithmetic}, this version has {ARITHMETIC_VERSION}; "
            f"continue it with tinymetafed {run.header.tinymetafed}"
        )


def read_run(path: Path) -> RunData:
    """Reads and verifies a run, even while another process writes it. Raises StoreError."""
    file = _find(path)
    with (
        _named(path, "cannot be read: {}; " + _RESTORE),
        closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=0, isolation_level=None)) as database,
    ):

        def read() -> RunData:
            database.execute("BEGIN")  # all reads see the same state
            try:
                entries, weights, best, _ = _read(database, path)
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")
            return RunData.of(path, entries, weights, best)

        return _waiting(path, read)


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Creates the folder of a new run before any work is done; removes it at the end if no run was begun in it.

    A folder with the files of a run that was killed before its first round may be used again.

    Args:
        path: The run folder.

    Raises:
        StoreError: The folder has other content, another process uses it, or it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not _never_begun(path):
            raise StoreError(f"{path}: exists already and is not empty; choose another folder with --out")
        if any(path.iterdir()):
            with _alone(path):
                pass
    except OSError as error:
        raise StoreError(f"{path}: cannot be a run folder: {error.strerror}; choose another with --out") from None
    try:
        yield
    finally:
        with suppress(OSError, StoreError):  # another process may be starting there
            _abandon(path)


def _abandon(path: Path) -> None:
    """Removes the folder of a run that was not begun; raises OSError or StoreError if it has other content or is in use."""
    if (path / "lock").exists() and _never_begun(path):
        with _alone(path):
            if _never_begun(path):
                for file in sorted(path.iterdir(), key=lambda file: file.name == "lock"):  # without it they are the user's
                    file.unlink()
    path.rmdir()


_UNFINISHED = re.compile(r"run\.db\.new(-journal)?|experiment\.toml\w{8}")  # temporary files of create()


def _never_begun(path: Path) -> bool:
    """Whether a folder is empty, or holds only the files that create() leaves if it is killed before run.db exists."""
    names = {file.name for file in path.iterdir()}
    # create() makes the lock first: without it an experiment.toml is the user's own.
    return not names or (
        "lock" in names and all(name in ("lock", "experiment.toml") or _UNFINISHED.fullmatch(name) for name in names)
    )


def _find(path: Path) -> Path:
    file = path / "run.db"
    if not file.is_file():
        if path.is_dir() and _never_begun(path):
            raise StoreError(
                f"{path}: not a run folder yet: the run was stopped before its first round, so there is nothing to continue; "
                f"start it again, the folder may be the same: tinymetafed train EXPERIMENT --out {path}"
            )
        remedy = "give the folder that train wrote"
        remedy = remedy if path.exists() else suggestion(path, remedy)
        raise StoreError(f"{path}: not a run folder (it has no run.db); {remedy}")
    for beside in ("-wal", "-shm", "-journal"):  # SQLite also writes these when it only reads
        _require_plain(path / f"run.db{beside}")
    return file


def _require_plain(file: Path) -> None:
    """Raises StoreError for a link or a pipe: a folder from somebody else would have us write into files outside it."""
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise StoreError(f"{file}: a link or no regular file, which no run has; remove it, or get the run again as plain files")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path / "lock", wait=False))
        except LockedError as taken:
            raise StoreError(
                f"{path}: process {taken.holder or '(starting)'} is training into this folder; wait for its end, or stop it"
            ) from None
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from None
        yield


@contextmanager
def _writing(path: Path, check: Callable[[RunStore, RunData], None] = lambda store, run: None) -> Iterator[RunStore]:
    with _named(path, "cannot be opened: {}; " + _RESTORE):
        database = sqlite3.connect(path / "run.db", timeout=0, isolation_level=None)

    def set_journal(mode: str) -> str:
        (now,) = database.execute(f"PRAGMA journal_mode = {mode}").fetchone()
        return str(now)

    with closing(database):
        with _named(path, "damaged: {}; " + _RESTORE):
            store = RunStore(path, database)
            check(store, store.verify())  # before anything is written to it
            if _waiting(path, lambda: set_journal("WAL")) != "wal":
                raise StoreError(f"{path}: SQLite can keep no write-ahead log there (a network folder?); use a local one")
            database.execute("PRAGMA synchronous = NORMAL")
        try:
            yield store
        finally:
            # Merges the log into run.db, so that the run is a single file; impossible while it is read or if the disk is full.
            with suppress(sqlite3.Error, StoreError):
                store.commit()
                _waiting(path, lambda: set_journal("DELETE"), _END_SECONDS)


def _waiting(path: Path, act: Callable[[], Result], seconds: float | None = None) -> Result:
    """Does what needs a lock of run.db, and tries again while another program has it.

    SQLite's own wait cannot be interrupted, and does not wait in some cases.

    Args:
        path: The run folder.
        act: The work; it is done again from its beginning.
        seconds: How long to wait; None for BUSY_SECONDS.

    Raises:
        StoreError: The file is still locked; the text names the programs that have it open.
    """
    seconds = BUSY_SECONDS if seconds is None else seconds
    until = time.monotonic() + seconds
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if time.monotonic() >= until:
                file = path / "run.db"
                who = ", ".join(holders(file)) or "another program"
                raise StoreError(
                    f"{file}: locked by {who} for more than {seconds:g} s; close that program, then give the command again "
                    f"(an interrupted training: tinymetafed train --resume {path})"
                ) from None
        time.sleep(_PAUSE_SECONDS)


def _recognise(database: sqlite3.Connection, path: Path) -> None:
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise StoreError(f"{path / 'run.db'}: not a run store, or its first bytes are damaged; {_RESTORE}")
    if version != FORMAT:
        why = f": {_WHY_NOT_1}" if version == 1 else ""
        raise StoreError(
            f"{path / 'run.db'}: a store of format {version}, this version of tinymetafed knows format {FORMAT}{why}; "
            f"{_maker(database)}"
        )


def _require_tables(database: sqlite3.Connection, path: Path) -> None:
    """Raises StoreError unless the tables are plain ones: SQL in a file that anybody has made could run for ever."""
    database.execute("PRAGMA trusted_schema = OFF")
    made = database.execute("SELECT type, lower(name), sql FROM sqlite_master").fetchall()
    tables = {name for kind, name, sql in made if kind == "table" and not _VIRTUAL.match(sql or "")}
    best = {name for _, name, _ in made if name == "best"}
    if lacking := sorted(({"journal", "weights"} | best) - tables):
        raise StoreError(f"{path / 'run.db'}: damaged: no such table: {', '.join(lacking)}; {_RESTORE}")
    if any(kind == "trigger" for kind, _, _ in made):
        raise StoreError(f"{path / 'run.db'}: has SQL that runs when it is written, which no run has; {_RESTORE}")


def _read(database: sqlite3.Connection, path: Path) -> tuple[list[Entry], Floats, Floats | None, str]:
    """The journal, the latest and the best weights, and the last entry's hash. Raises StoreError if anything is damaged."""

    def damaged(what: str) -> StoreError:
        return StoreError(f"{path / 'run.db'}: damaged: {what}; {_RESTORE}")

    _recognise(database, path)
    _require_tables(database, path)
    database.text_factory = lambda raw: raw.decode(errors="replace")  # invalid text is found by its hash
    database.execute("PRAGMA cell_size_check = ON")
    (finding,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise damaged(finding.removeprefix("*** in database main ***\n"))
    chain, entries = "", list[Entry]()
    for at, kind, content, seal in database.execute("SELECT number, kind, content, chain FROM journal ORDER BY number"):
        if not isinstance(kind, str) or not isinstance(content, str):
            raise damaged(f"entry {len(entries)} of its journal is not text")
        chain = _seal(chain, kind, content)
        if at != len(entries) or seal != chain:
            raise damaged(f"entry {len(entries)} of its journal ({kind}) is not what was written")
        try:
            entries.append(from_json(kind, content))
        except JournalError as error:
            raise StoreError(f"{path / 'run.db'}: entry {at} of its journal is {error}; {_maker(database)}") from None
    if not entries or not isinstance(header := entries[0], RunHeader):
        raise damaged("its journal is empty")
    if any(isinstance(entry, RunHeader) for entry in entries[1:]):
        raise damaged("its journal has two beginnings")
    rounds = [entry for entry in entries if isinstance(entry, RoundEntry)]
    if [entry.round for entry in rounds] != list(range(len(rounds))):
        raise damaged("its rounds do not follow one another")
    named = (rounds[-1] if rounds else header).weights_sha256
    row = database.execute("SELECT round, float32 FROM weights").fetchone()
    if row is None or row[0] != len(rounds) or not isinstance(row[1], bytes) or _sha256(row[1]) != named:
        raise damaged(f"the weights are not those of its {len(rounds)} rounds")
    if (weights := _floats(row[1])) is None:
        raise damaged("its weights are no float32 numbers")
    kept = next((entry for entry in reversed(entries) if isinstance(entry, Evaluation) and entry.kept_sha256), None)
    if kept is None:
        return entries, weights, None, chain
    there = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'best'").fetchone()
    row = database.execute("SELECT round, float32 FROM best").fetchone() if there else None
    if row is None or row[0] != kept.round or not isinstance(row[1], bytes) or _sha256(row[1]) != kept.kept_sha256:
        raise damaged(f"the best weights are not those after {kept.round} rounds")
    if (best := _floats(row[1])) is None or best.size != weights.size:
        raise damaged(f"the best weights are not {weights.size:,} float32 numbers")
    return entries, weights, best, chain


def _floats(content: bytes) -> Floats | None:
    return None if len(content) % 4 else np.frombuffer(content, "<f4").astype(np.float32)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _maker(database: sqlite3.Connection) -> str:
    """The remedy for a run of another version; the first entry names that version in every format."""
    found = database.execute("SELECT json_extract(content, '$.tinymetafed') FROM journal WHERE number = 0").fetchone()
    maker = "the version that made it"
    if found and found[0]:
        same = f", an earlier state of {__version__}" if found[0] == __version__ else ""
        maker = f"the tinymetafed {found[0]} that made it{same}"
    return f"finish it with {maker}, or train again"


def _seal(chain: str, kind: str, content: str) -> str:
    return hashlib.sha256(f"{chain}\n{kind}\n{content}".encode()).hexdigest()


@contextmanager
def _named(path: Path, text: str) -> Iterator[None]:
    """Raises SQLite's errors as StoreErrors that name the file."""
    try:
        yield
    except (sqlite3.Error, UnicodeError, OverflowError, MemoryError) as error:
        raise StoreError(f"{path / 'run.db'}: {text.format(error)}") from None
