"""Checks SQLite's write-ahead log before SQLite opens it, because SQLite drops damaged commits silently.

Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
from pathlib import Path


def lost_commits(path: Path) -> bool:
    """Whether the log of a run folder has commits after a damaged frame, which SQLite will not read.

    A power failure or a flipped bit causes this. Must be called before the store is opened, because that removes them.
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
            continue  # left from before the log was restarted
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
