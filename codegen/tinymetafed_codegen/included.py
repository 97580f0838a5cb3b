"""A user's C++ file and all that it includes from the user's own folders, as files and as a hash."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_INCLUDE = re.compile(rb'(?m)^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"')


def digest(own: Path) -> str:
    """Hexadecimal SHA-256 of a file and of the files that it includes by quotes. Raises OSError."""
    total = hashlib.sha256()
    for file in with_included(own):
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def with_included(own: Path) -> list[Path]:
    """The file and, in the order of their first mention, all that it includes by quotes from the user's own folders.

    Headers of firmware/core are found elsewhere; ARITHMETIC_VERSION stands for them. Raises OSError.
    """
    found = [own.resolve()]
    for file in found:  # grows while it is walked
        for quoted in _INCLUDE.findall(file.read_bytes()):
            included = (file.parent / quoted.decode(errors="replace")).resolve()
            if included.is_file() and included not in found:
                found.append(included)
    return found
