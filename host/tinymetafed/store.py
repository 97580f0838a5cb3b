"""The run store: all that a run is and did in one SQLite file, in transactions of whole rounds, sealed: no bit flips unseen.

RUN/run.db holds a journal, in which every entry carries a hash over itself and all before it, and the latest weights, whose
SHA-256 the last round's entry names. One process writes it, any number read it meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import struct
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tomli_w

from tinymetafed_codegen.emit import write_if_changed
from tinymetafed_codegen.generate import ARITHMETIC_VERSION
from tinymetafed_codegen.spec import Experiment, SpecError, anchor, anchored, dump, parse, portable, relative

from . import __version__
from .learn.weights import Floats, sha256
from .lock import LockedError, locked

Json = Mapping[str, Any]
Kind = Literal["run", "session", "round", "evaluation", "showcase", "result"]

FORMAT = 1  # raised when this file would misread what a former version wrote
APPLICATION = 0x544D4631  # "TMF1" in the file's header
BUSY_SECONDS = 1.0
READ_AT_ONCE = 1000  # entries; what is parsed together shares its keys, which would else be most of the memory

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


class StoreError(Exception):
    """A run that cannot be written or read; the text names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class RunData:
    """What a store holds at one moment; its lists are in the order in which things happened.

    ``run`` is what the run was begun with, ``weights`` float32[n_global] is what ``len(rounds)`` rounds made of them, and
    ``result`` is None as long as the run has not finished.
    """

    path: Path
    run: Json
    sessions: list[Json]
    rounds: list[Json]
    evaluations: list[Json]
    showcase: Json | None
    result: Json | None
    weights: Floats = field(repr=False)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def trained(self) -> int:
        """Rounds trained."""
        return len(self.rounds)

    @property
    def experiment_text(self) -> str:
        """The complete experiment, TOML."""
        return str(self.run["experiment"])

    @property
    def settings(self) -> dict[str, Any]:
        """The experiment as plain values, whichever version wrote it; paths are absolute."""
        return anchored(tomllib.loads(self.experiment_text), *self._folders)

    @property
    def _folders(self) -> tuple[Path, ...]:
        """What its paths may be relative to: where it lies now, together with its files or without them."""
        return (self.path.resolve(), Path(self.run.get("folder", self.path)))

    @property
    def manifest(self) -> dict[str, Any]:
        """The model's facts on the first device's board."""
        return dict(self.run["manifest"])

    @property
    def data(self) -> Path | None:
        """Where the task's data are that the run began with instead of those that its experiment names."""
        asked = self.run["asked"]["data"]
        return None if asked is None else anchor(asked, *self._folders)

    @property
    def devices(self) -> list[Json]:
        """Every device of every session, with the client rounds that it served; its URL and id tell it from others."""
        known: dict[tuple[str, str], Json] = {}
        there: dict[str, tuple[str, str]] = {}  # which device a URL means at this point of the run
        served: Counter[tuple[str, str]] = Counter()
        for entry in sorted([*self.sessions, *self.rounds], key=lambda entry: (entry["round"], "contributions" in entry)):
            for device in entry["devices"]:
                there[device["url"]] = (device["url"], device["unique_id"])
                known.setdefault(there[device["url"]], device)
            served.update(there[part["device"]] for part in entry.get("contributions", []) if part["device"])
        return [{**device, "rounds": served[key]} for key, device in known.items()]

    def experiment(self, **task: Any) -> Experiment:
        """The run's experiment, with keys of its task replaced. Raises StoreError, and SpecError for what was replaced."""
        raw = self.settings
        try:
            experiment = parse(raw, str(self.path))
        except SpecError as error:
            raise StoreError(f"{error}; the run was made by tinymetafed {self.run['tinymetafed']}, use that") from None
        return parse({**raw, "task": {**raw["task"], **task}}, str(self.path)) if task else experiment


class RunStore:
    """A run being written; ``append`` is the only way anything enters it.

    Rounds that end within ``hold_seconds`` of the last commit share a transaction, which anything else, ``read`` and the end
    of the run complete as well: no more than so much finished work is done again after a crash. 0: each round is one by itself.
    """

    def __init__(self, path: Path, database: sqlite3.Connection, warning: str = "") -> None:
        self.path = path
        self.warning = warning  # one line about what SQLite had to leave out, "" otherwise
        self.hold_seconds = 0.0
        self._database = database
        self._number, self._chain = 0, ""
        self._committed = self._number, self._chain
        self._weights: tuple[int, bytes] | None = None  # rounds trained and what they made, to be written with the next commit
        self._since = time.monotonic()  # of the last commit: what is held has been worked on from then on

    def append(self, kind: Kind, content: Json, weights: Floats | None = None) -> None:
        """Adds an entry, with a round's the weights after it. Raises StoreError, and takes all since the last commit back."""
        text = _canonical(content)
        chain = _seal(self._chain, kind, text)
        with self._all_or_nothing():
            if not self._database.in_transaction:
                self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("INSERT INTO journal VALUES (?, ?, ?, ?)", (self._number, kind, text, chain))
            self._number, self._chain = self._number + 1, chain
            if weights is not None:
                self._weights = (content["round"] + 1 if kind == "round" else 0, weights.astype("<f4").tobytes())
            if kind != "round" or time.monotonic() - self._since >= self.hold_seconds:
                self._commit()

    def commit(self) -> None:
        """Completes the transaction, if one is open. Raises StoreError; then nothing is added since the last one."""
        if self._database.in_transaction:
            with self._all_or_nothing():
                self._commit()

    def read(self) -> RunData:
        """All that was written, verified. Raises StoreError."""
        self.commit()
        with _named(self.path, "damaged: {}; " + _RESTORE):
            data, self._number, self._chain = _read(self._database, self.path)
        self._committed = self._number, self._chain
        return data

    def _commit(self) -> None:
        self._since = time.monotonic()
        if self._weights is not None:
            self._database.execute("INSERT OR REPLACE INTO weights VALUES (0, ?, ?)", self._weights)
        self._database.execute("COMMIT")
        self._committed, self._weights = (self._number, self._chain), None

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Takes all back to the last commit when anything goes wrong."""
        try:
            with _named(self.path, f"cannot be written: {{}}; make room there, then: tinymetafed train --resume {self.path}"):
                yield
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            (self._number, self._chain), self._weights = self._committed, None
            raise


_RESTORE = "restore the run folder from a copy, or train again"


@contextmanager
def create(path: Path, experiment: Experiment, manifest: Json, weights: Floats, asked: Json) -> Iterator[RunStore]:
    """Begins a run in a folder that must not hold one yet; other aggregators are kept out until the end.

    ``weights`` are the initial ones, ``asked`` is what a resumed run does unless told otherwise. Raises StoreError.
    """
    complete = dump(experiment)
    written = portable(complete, path)
    text = tomli_w.dumps(written)
    if asked.get("data") is not None:
        asked = {**asked, "data": relative(Path(asked["data"]), path)}
    header = {
        "format": FORMAT,
        "arithmetic": ARITHMETIC_VERSION,
        "tinymetafed": __version__,
        "seed": experiment.run.seed,
        "experiment": text,
        "manifest": manifest,
        "asked": asked,
        "weights_sha256": sha256(weights),
    }
    if written != complete or asked.get("data") is not None:
        header["folder"] = str(path.resolve())  # what paths were relative to when they were written
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
            begun = path / "run.db.new"  # a store is there whole or not at all
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}; choose another folder with --out") from None
        with (
            _named(path, "cannot be written: {}; remove the folder, make room, start again"),
            closing(sqlite3.connect(begun, isolation_level=None)) as database,
        ):
            database.executescript(_SCHEMA)
            RunStore(path, database).append("run", header, weights)
        begun.replace(path / "run.db")
        yield stack.enter_context(_writing(path))


@contextmanager
def reopen(path: Path) -> Iterator[RunStore]:
    """Opens a run to continue it, once all of it is verified; other aggregators are kept out until the end.

    Raises StoreError for a folder that is no run or is being written, and for a store that is damaged, of another version,
    or of another experiment than the experiment.toml beside it.
    """
    _find(path)
    with _alone(path):
        torn = lost_commits(path)

        def check(store: RunStore, run: RunData) -> None:
            _check(run)
            if torn:
                store.warning = (
                    f"{path / 'run.db-wal'}: its end is not what was written (a power failure, or a flipped bit); "
                    f"what came after {run.trained} rounds is done again"
                )

        with _writing(path, check) as store:
            yield store


def _check(run: RunData) -> None:
    """Whether this version can continue the run, with the experiment that lies beside it."""
    file = run.path / "experiment.toml"
    if not file.exists():
        write_if_changed(file, run.experiment_text)
    elif file.read_bytes() != run.experiment_text.encode():
        raise StoreError(
            f"{file}: not the experiment that this run was begun with; delete the file to continue the run as it was "
            "begun, or train the new experiment into a folder of its own"
        )
    if run.run["arithmetic"] != ARITHMETIC_VERSION:
        raise StoreError(
            f"{run.path / 'run.db'}: trained with arithmetic {run.run['arithmetic']}, this version has {ARITHMETIC_VERSION}; "
            f"continue it with tinymetafed {run.run['tinymetafed']}"
        )


def read_run(path: Path) -> RunData:
    """The run in a folder as it is at this moment, also while it is written. Raises StoreError."""
    file = _find(path)
    with (
        _named(path, "cannot be read: {}; " + _RESTORE),
        closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)) as database,
    ):
        database.execute("BEGIN")  # one snapshot for all that is read
        return _read(database, path)[0]


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Makes the folder of a new run before any work is done for it; takes it away again if nothing came of it.

    What a start that was killed has left is nothing: no round was begun, and the new run takes its place. Raises StoreError
    when anything else is there, another process is at work on it, or the folder cannot be made.
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
        with suppress(OSError):
            path.rmdir()  # only succeeds when it is empty


def lost_commits(path: Path) -> bool:
    """Whether the write-ahead log has commits behind a frame that is not what was written: SQLite stops reading there.

    A power failure leaves such a log, and so does a flipped bit. Called before the store is opened, which forgets them.
    (Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log)
    """
    try:
        log = (path / "run.db-wal").read_bytes()
    except OSError:
        return False
    if len(log) < 32:
        return False
    magic, _, page = struct.unpack_from(">3I", log)
    order = ">" if magic & 1 else "<"
    sums = _checksum(log[:24], (0, 0), order)
    if sums != struct.unpack_from(">2I", log, 24):
        return len(log) > 32
    salts, whole = log[16:24], True
    for at in range(32, len(log) - page - 23, 24 + page):
        frame = log[at : at + 24 + page]
        if frame[8:16] != salts:
            continue  # from before the log was begun anew
        sums = _checksum(frame[24:], _checksum(frame[:8], sums, order), order)
        whole = whole and sums == struct.unpack_from(">2I", frame, 16)
        if not whole and frame[4:8] != bytes(4):
            return True
    return False


def _checksum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


_UNFINISHED = re.compile(r"run\.db\.new(-journal)?|experiment\.toml\w{8}")  # what create() replaces or renames when it is whole


def _never_begun(path: Path) -> bool:
    """Whether a folder is empty or holds only what create() leaves when it is killed before run.db is there."""
    names = {file.name for file in path.iterdir()}
    # The lock comes first: without it an experiment.toml is somebody's own.
    return not names or (
        "lock" in names and all(name in ("lock", "experiment.toml") or _UNFINISHED.fullmatch(name) for name in names)
    )


def _find(path: Path) -> Path:
    file = path / "run.db"
    if not file.is_file():
        if path.is_dir() and _never_begun(path):
            raise StoreError(
                f"{path}: not a run folder yet: it was stopped before any round was begun, so there is nothing to continue; "
                f"start the run again, into this folder too: tinymetafed train EXPERIMENT --out {path}"
            )
        raise StoreError(f"{path}: not a run folder (it has no run.db); give the folder that train wrote")
    return file


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
        database = sqlite3.connect(path / "run.db", timeout=BUSY_SECONDS, isolation_level=None)
    with closing(database):
        with _named(path, "damaged: {}; " + _RESTORE):
            store = RunStore(path, database)
            check(store, store.read())  # before anything is written to it
            if database.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                raise StoreError(f"{path}: SQLite can keep no write-ahead log there (a network folder?); use a local one")
            database.execute("PRAGMA synchronous = NORMAL")
        try:
            yield store
        finally:
            # A run that nobody writes is a single file again; a reader, or a full disk, keeps its log.
            with suppress(sqlite3.Error, StoreError):
                store.commit()
                database.execute("PRAGMA journal_mode = DELETE")


def _recognise(database: sqlite3.Connection, path: Path) -> None:
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise StoreError(f"{path / 'run.db'}: not a run store, or its first bytes are damaged; {_RESTORE}")
    if version != FORMAT:
        raise StoreError(f"{path / 'run.db'}: a store of format {version}, this version of tinymetafed knows format {FORMAT}")


def _read(database: sqlite3.Connection, path: Path) -> tuple[RunData, int, str]:
    """The run, the number of its entries and the last one's chain. Raises StoreError for what was not written so."""

    def damaged(what: str) -> StoreError:
        return StoreError(f"{path / 'run.db'}: damaged: {what}; {_RESTORE}")

    _recognise(database, path)
    database.text_factory = lambda raw: raw.decode(errors="replace")  # text that is none does not fit its seal
    database.execute("PRAGMA cell_size_check = ON")
    (finding,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise damaged(finding.removeprefix("*** in database main ***\n"))
    chain, number = "", 0
    found: dict[str, list[Json]] = {kind: [] for kind in get_args(Kind)}
    entries = database.execute("SELECT number, kind, content, chain FROM journal ORDER BY number")
    while part := entries.fetchmany(READ_AT_ONCE):
        for at, kind, content, seal in part:
            chain = _seal(chain, kind, content)
            if at != number or seal != chain:
                raise damaged(f"entry {number} of its journal ({kind}) is not what was written")
            number += 1
        for (_, kind, _, _), entry in zip(part, json.loads(f"[{','.join(row[2] for row in part)}]"), strict=True):
            found[kind].append(entry)
    if not found["run"]:
        raise damaged("its journal is empty")
    trained = len(found["round"])
    if [entry["round"] for entry in found["round"]] != list(range(trained)):
        raise damaged("its rounds do not follow one another")
    row = database.execute("SELECT round, float32 FROM weights").fetchone()
    named = (found["round"] or found["run"])[-1]["weights_sha256"]
    if row is None or row[0] != trained or not isinstance(row[1], bytes) or hashlib.sha256(row[1]).hexdigest() != named:
        raise damaged(f"the weights are not those of its {trained} rounds")
    return (
        RunData(
            path=path,
            run=found["run"][0],
            sessions=found["session"],
            rounds=found["round"],
            evaluations=found["evaluation"],
            showcase=found["showcase"][-1] if found["showcase"] else None,
            result=found["result"][-1] if found["result"] else None,
            weights=np.frombuffer(row[1], "<f4").astype(np.float32),
        ),
        number,
        chain,
    )


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def _seal(chain: str, kind: str, content: str) -> str:
    return hashlib.sha256(f"{chain}\n{kind}\n{content}".encode()).hexdigest()


@contextmanager
def _named(path: Path, text: str) -> Iterator[None]:
    """SQLite's errors as StoreErrors that name the file."""
    try:
        yield
    except (sqlite3.Error, UnicodeError, OverflowError, MemoryError) as error:
        raise StoreError(f"{path / 'run.db'}: {text.format(error)}") from None
