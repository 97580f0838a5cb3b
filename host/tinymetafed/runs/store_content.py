"""Reads the content of a run's file, and verifies every entry and the weights."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tinymetafed_codegen import __version__

from ..federation.result import Evaluation
from ..learn.server_optimiser import ServerState
from ..learn.weights import Floats
from .journal import Entry, JournalError, RoundEntry, RunHeader, from_json
from .run_data import Evaluating, StoreContent, StoreError
from .store_format import APPLICATION, FORMAT, OPTIONAL, RESTORE, seal

_VIRTUAL = re.compile(r"\s*CREATE\s+VIRTUAL\b", re.IGNORECASE)
_WHY_NOT_1 = "it has a hash of the generated C++ text, this version has a hash of the model, and they cannot be compared"


def _recognise(database: sqlite3.Connection, path: Path) -> None:
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise StoreError(f"{path / 'run.db'}: not a run store, or its first bytes are damaged; {RESTORE}")
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
    optional = {name for _, name, _ in made if name in OPTIONAL}
    if lacking := sorted(({"journal", "weights"} | optional) - tables):
        raise StoreError(f"{path / 'run.db'}: damaged: no such table: {', '.join(lacking)}; {RESTORE}")
    if any(kind == "trigger" for kind, _, _ in made):
        raise StoreError(f"{path / 'run.db'}: has SQL that runs when it is written, which no run has; {RESTORE}")


def read_content(database: sqlite3.Connection, path: Path) -> StoreContent:
    """The content of a run's file. Raises StoreError if anything is damaged."""

    def damaged(what: str) -> StoreError:
        return StoreError(f"{path / 'run.db'}: damaged: {what}; {RESTORE}")

    _recognise(database, path)
    _require_tables(database, path)
    database.text_factory = lambda raw: raw.decode(errors="replace")  # invalid text is found by its hash
    database.execute("PRAGMA cell_size_check = ON")
    (finding,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise damaged(finding.removeprefix("*** in database main ***\n"))
    chain, entries = "", list[Entry]()
    for at, kind, content, written in database.execute("SELECT number, kind, content, chain FROM journal ORDER BY number"):
        if not isinstance(kind, str) or not isinstance(content, str):
            raise damaged(f"entry {len(entries)} of its journal is not text")
        chain = seal(chain, kind, content)
        if at != len(entries) or written != chain:
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
        raise damaged("its weights are not float32 numbers")
    server = _server(database, rounds, weights.size, damaged)
    evaluating = _evaluating(database, len(rounds), weights.size, damaged)
    kept = next((entry for entry in reversed(entries) if isinstance(entry, Evaluation) and entry.kept_sha256), None)
    if kept is None:
        return StoreContent(entries, weights, None, server, chain, evaluating)
    row = database.execute("SELECT round, float32 FROM best").fetchone() if _has(database, "best") else None
    if row is None or row[0] != kept.round or not isinstance(row[1], bytes) or _sha256(row[1]) != kept.kept_sha256:
        raise damaged(f"the best weights are not those after {kept.round} rounds")
    if (best := _floats(row[1])) is None or best.size != weights.size:
        raise damaged(f"the best weights are not {weights.size:,} float32 numbers")
    return StoreContent(entries, weights, best, server, chain, evaluating)


def _evaluating(
    database: sqlite3.Connection, trained: int, size: int, damaged: Callable[[str], StoreError]
) -> Evaluating | None:
    """The evaluation that was going on when the file was written last."""
    row = database.execute("SELECT round, float32, sha256 FROM evaluating").fetchone() if _has(database, "evaluating") else None
    if row is None:
        return None
    round_, content, written = row
    weights = _floats(content) if isinstance(content, bytes) and _sha256(content) == written else None
    if weights is None or weights.size != size or not isinstance(round_, int) or not 0 < round_ <= trained:
        raise damaged(f"the weights that were evaluated are not {size:,} float32 numbers of one of its {trained} rounds")
    return Evaluating(round_, weights)


def _server(
    database: sqlite3.Connection, rounds: Sequence[RoundEntry], size: int, damaged: Callable[[str], StoreError]
) -> ServerState:
    """What the server keeps after the last round."""
    named = rounds[-1].server if rounds else None
    if named is None:
        return ServerState()
    rows = database.execute("SELECT name, round, float32 FROM server").fetchall() if _has(database, "server") else []
    vectors: dict[str, Floats] = {}
    for name, trained, content in rows:
        vector = _floats(content) if isinstance(content, bytes) else None
        if not isinstance(name, str) or trained != len(rounds) or vector is None or vector.size != size:
            raise damaged(f"the server's {name} is not {size:,} float32 numbers after {len(rounds)} rounds")
        vectors[name] = vector
    server = ServerState.of(vectors, named.averaged)
    if server.sha256 != named.sha256:
        raise damaged(f"what the server keeps is not that of its {len(rounds)} rounds")
    return server


def _has(database: sqlite3.Connection, table: str) -> bool:
    found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()
    return found is not None


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
