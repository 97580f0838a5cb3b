"""The tables of a run's file, the hashes that chain its entries, and errors that name it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .run_data import StoreError

FORMAT = 2  # raised when this version would misread the files of an earlier one
APPLICATION = 0x544D4631  # "TMF1" in the file's header
SCHEMA = f"""
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
# A run has this table if it keeps its best weights.
BEST = """
CREATE TABLE IF NOT EXISTS best (
  only INTEGER PRIMARY KEY CHECK (only = 0),
  round INTEGER NOT NULL,      -- rounds trained
  float32 BLOB NOT NULL        -- little-endian, in manifest order
) STRICT
"""
# A run has this table if an evaluation has run beside its rounds; it has a row while one does.
EVALUATING = """
CREATE TABLE IF NOT EXISTS evaluating (
  only INTEGER PRIMARY KEY CHECK (only = 0),
  round INTEGER NOT NULL,      -- rounds trained
  float32 BLOB NOT NULL,       -- the weights that are evaluated, little-endian, in manifest order
  sha256 TEXT NOT NULL         -- of these bytes
) STRICT
"""
# A run has this table if its server keeps more than the weights.
SERVER = """
CREATE TABLE IF NOT EXISTS server (
  name TEXT PRIMARY KEY,       -- momentum, variance, average
  round INTEGER NOT NULL,      -- rounds trained
  float32 BLOB NOT NULL        -- little-endian, in manifest order
) STRICT
"""
OPTIONAL = ("best", "evaluating", "server")  # tables that only some runs have
RESTORE = "restore the run folder from a copy, or train again"


def seal(chain: str, kind: str, content: str) -> str:
    """The hash of a journal's entry: SHA-256 over the hash of the entry before it, its kind and its content."""
    return hashlib.sha256(f"{chain}\n{kind}\n{content}".encode()).hexdigest()


@contextmanager
def named(path: Path, text: str) -> Iterator[None]:
    """Raises SQLite's errors as StoreErrors that name the file."""
    try:
        yield
    except (sqlite3.Error, UnicodeError, OverflowError, MemoryError) as error:
        raise StoreError(f"{path / 'run.db'}: {text.format(error)}") from None
