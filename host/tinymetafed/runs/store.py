"""The run store: a run in one SQLite file, written in transactions of whole rounds, with hashes that reveal any damage.

RUN/run.db holds a journal and the latest weights. Every journal entry has a hash over itself and all entries before it; the
last round's entry has the SHA-256 of the weights. One process writes the file; others can read it at the same time.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tomli_w

from tinymetafed_codegen import __version__
from tinymetafed_codegen.files import write_if_changed
from tinymetafed_codegen.hash import ARITHMETIC_VERSION
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.spec import Experiment, dump, portable, relative

from ..federation.result import Evaluation
from ..learn.server_optimiser import ServerState
from ..learn.weights import Floats, sha256
from .journal import Asked, Entry, RoundEntry, RunHeader, from_json, kind_of, to_json
from .run_data import Evaluating, RunData, StoreContent, StoreError
from .run_folder import UNFINISHED, find_store, require_plain
from .store_content import read_content
from .store_format import BEST, EVALUATING, FORMAT, RESTORE, SCHEMA, SERVER, named, seal
from .store_lock import alone, waiting
from .wal import lost_commits

_END_SECONDS = 1.0  # at the end of a run, which can do without the lock


@dataclass(frozen=True)
class _State:
    """Rounds trained, the weights after them, and what the server keeps besides."""

    trained: int
    weights: Floats
    server: ServerState


class RunStore:
    """A run that is being written; only ``append`` and ``begin_evaluation`` add to it.

    Rounds that end within ``hold_seconds`` of the last commit share a transaction, so a crash loses at most so much finished
    work. Any other entry, ``read`` and the end of the run commit it too. With 0 each round has a transaction of its own.
    Rounds are in the file alone, until they are read, so that a long run does not take more and more memory; the few other
    entries in memory too.
    """

    def __init__(self, path: Path, database: sqlite3.Connection, warning: str = "") -> None:
        self.path = path
        self.warning = warning  # one line about lost commits, "" if there are none
        self.hold_seconds = 0.0
        self._database = database
        self._others: list[Entry] = []  # all entries but rounds
        self._rounds: list[Entry] = []  # those that ``read`` has read; they are committed
        self._count = 0  # of all entries
        self._chain = ""
        self._committed = 0, 0, ""  # numbers of others and of all, and the last one's hash, at the last commit
        self._latest = np.zeros(0, np.float32)  # the committed weights
        self._server = ServerState()  # what the server keeps, committed
        self._best: Floats | None = None  # the committed weights of the best evaluation
        self._evaluating: Evaluating | None = None  # the committed evaluation that has begun
        self._next: _State | None = None  # written with the next commit
        self._since = time.monotonic()  # time of the last commit

    def append(self, entry: Entry, weights: Floats | None = None, server: ServerState | None = None) -> None:
        """Adds an entry.

        Args:
            entry: The entry.
            weights: For the header, for rounds, and for evaluations of weights that are kept: float32[n_global] at that point.
            server: For rounds, what the server keeps besides them.

        Raises:
            StoreError: It cannot be written; then everything since the last commit is rolled back.
        """
        kind, text = kind_of(entry), to_json(entry)
        chain = seal(self._chain, kind, text)
        with self._all_or_nothing():
            if not self._database.in_transaction:
                waiting(self.path, lambda: self._database.execute("BEGIN IMMEDIATE"))
            self._database.execute("INSERT INTO journal VALUES (?, ?, ?, ?)", (self._count, kind, text, chain))
            self._count, self._chain = self._count + 1, chain
            if not isinstance(entry, RoundEntry):
                self._others.append(entry)
            if isinstance(entry, Evaluation) and weights is not None:
                self._database.execute(BEST)
                stored = weights.astype("<f4").tobytes()
                self._database.execute("INSERT OR REPLACE INTO best VALUES (0, ?, ?)", (entry.round, stored))
            elif weights is not None:
                trained = entry.round + 1 if isinstance(entry, RoundEntry) else 0
                self._next = _State(trained, weights.astype(np.float32), server or ServerState())
            if isinstance(entry, Evaluation) and self._evaluating is not None:
                self._database.execute("DELETE FROM evaluating")
            if not isinstance(entry, RoundEntry) or time.monotonic() - self._since >= self.hold_seconds:
                self._commit()
            if isinstance(entry, Evaluation) and weights is not None:
                self._best = weights
            if isinstance(entry, Evaluation):
                self._evaluating = None

    def begin_evaluation(self, round_: int, weights: Floats) -> None:
        """Keeps the weights of an evaluation until its entry is added, so that it can be done again after a crash.

        Args:
            round_: Rounds trained.
            weights: float32[n_global], the weights that are evaluated.

        Raises:
            StoreError: As ``append``.
        """
        begun = Evaluating(round_, weights.astype(np.float32))
        with self._all_or_nothing():
            if not self._database.in_transaction:
                waiting(self.path, lambda: self._database.execute("BEGIN IMMEDIATE"))
            self._database.execute(EVALUATING)
            stored = begun.weights.astype("<f4").tobytes()
            self._database.execute("INSERT OR REPLACE INTO evaluating VALUES (0, ?, ?, ?)", (round_, stored, sha256(weights)))
            self._commit()
            self._evaluating = begun

    def commit(self) -> None:
        """Commits the open transaction, if any. Raises StoreError; then it is rolled back."""
        if self._database.in_transaction:
            with self._all_or_nothing():
                self._commit()

    def verify(self) -> RunData:
        """Reads and verifies the file, to which entries are then added, and returns its content. Raises StoreError."""
        with named(self.path, "damaged: {}; " + RESTORE):
            found = waiting(self.path, lambda: read_content(self._database, self.path))
        self._latest, self._best, self._server, self._chain = found.weights, found.best, found.server, found.chain
        self._evaluating = found.evaluating
        self._others = [entry for entry in found.entries if not isinstance(entry, RoundEntry)]
        self._rounds = [entry for entry in found.entries if isinstance(entry, RoundEntry)]
        self._count = len(found.entries)
        self._committed = len(self._others), self._count, self._chain
        return RunData.of(self.path, found)

    def read(self) -> RunData:
        """Commits and returns the content as it was written; it was verified when the file was opened. Raises StoreError."""
        self.commit()
        with named(self.path, "cannot be read: {}; " + RESTORE):
            written = "SELECT content FROM journal WHERE kind = 'round' ORDER BY number LIMIT -1 OFFSET ?"
            added = self._database.execute(written, (len(self._rounds),))
            self._rounds += [from_json("round", content) for (content,) in added]
        entries = [*self._others, *self._rounds]
        content = StoreContent(entries, self._latest, self._best, self._server, self._chain, self._evaluating)
        return RunData.of(self.path, content)

    @property
    def evaluations(self) -> list[Evaluation]:
        """All evaluations so far, without reading the file."""
        return [entry for entry in self._others if isinstance(entry, Evaluation)]

    def _commit(self) -> None:
        self._since = time.monotonic()
        if (state := self._next) is not None:
            stored = state.weights.astype("<f4").tobytes()
            self._database.execute("INSERT OR REPLACE INTO weights VALUES (0, ?, ?)", (state.trained, stored))
            vectors = [(name, state.trained, vector.astype("<f4").tobytes()) for name, vector in state.server.parts()]
            if vectors or any(self._server.parts()):
                self._database.execute(SERVER)
                self._database.execute("DELETE FROM server")
                self._database.executemany("INSERT INTO server VALUES (?, ?, ?)", vectors)
        waiting(self.path, lambda: self._database.execute("COMMIT"))
        if state is not None:
            self._latest, self._server, self._next = state.weights, state.server, None
        self._committed = len(self._others), self._count, self._chain

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Rolls back to the last commit when an error occurs."""
        try:
            with named(self.path, f"cannot be written: {{}}; make room there, then: tinymetafed train --resume {self.path}"):
                yield
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            others, self._count, self._chain = self._committed
            del self._others[others:]
            self._next = None
            raise


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
            stack.enter_context(alone(path))
            if (path / "run.db").exists():
                raise StoreError(f"{path}: holds a run already; choose another folder with --out")
            for file in path.iterdir():
                if UNFINISHED.fullmatch(file.name):
                    file.unlink()
            write_if_changed(path / "experiment.toml", text)
            begun = path / "run.db.new"  # renamed when it is complete
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}; choose another folder with --out") from None
        with (
            named(path, "cannot be written: {}; remove the folder, make room, start again"),
            closing(sqlite3.connect(begun, isolation_level=None)) as database,
        ):
            database.executescript(SCHEMA)
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
        StoreError: The folder is not a run or is in use; or the store is damaged, of another version, or of another experiment
            than the experiment.toml beside it.
    """
    require_plain(find_store(path))
    require_plain(path / "lock")
    with alone(path):
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


def _roll_back(file: Path) -> None:
    """Undoes the change in which a process was killed, as SQLite would do but where a store is opened only to be read."""
    if file.with_name("run.db-journal").exists():
        with suppress(sqlite3.Error), closing(sqlite3.connect(file, timeout=0)) as database:  # it may be in use, or not ours
            database.execute("SELECT count(*) FROM sqlite_master")


def read_run(path: Path) -> RunData:
    """Reads and verifies a run, even while another process writes it. Raises StoreError."""
    file = find_store(path)
    _roll_back(file)
    with (
        named(path, "cannot be read: {}; " + RESTORE),
        closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=0, isolation_level=None)) as database,
    ):

        def read() -> RunData:
            database.execute("BEGIN")  # all reads see the same state
            try:
                content = read_content(database, path)
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")
            return RunData.of(path, content)

        return waiting(path, read)


@contextmanager
def _writing(path: Path, check: Callable[[RunStore, RunData], None] = lambda store, run: None) -> Iterator[RunStore]:
    with named(path, "cannot be opened: {}; " + RESTORE):
        database = sqlite3.connect(path / "run.db", timeout=0, isolation_level=None)

    def set_journal(mode: str) -> str:
        (now,) = database.execute(f"PRAGMA journal_mode = {mode}").fetchone()
        return str(now)

    with closing(database):
        with named(path, "damaged: {}; " + RESTORE):
            store = RunStore(path, database)
            check(store, store.verify())  # before anything is written to it
            if waiting(path, lambda: set_journal("WAL")) != "wal":
                raise StoreError(f"{path}: SQLite can keep no write-ahead log there (a network folder?); use a local one")
            database.execute("PRAGMA synchronous = NORMAL")
        try:
            yield store
        finally:
            # Merges the log into run.db, so that the run is a single file; impossible while it is read or if the disk is full.
            with suppress(sqlite3.Error, StoreError):
                store.commit()
                waiting(path, lambda: set_journal("DELETE"), _END_SECONDS)
