"""The files that a user's C++ file includes from the user's folders, and a hash over all of them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_INCLUDE = re.compile(rb'(?m)^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"')


def digest(own: Path) -> str:
    """Hexadecimal SHA-256 over a file and the files that it includes in quotes, also indirectly. Raises OSError."""
    total = hashlib.sha256()
    for file in with_included(own):
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def with_included(own: Path) -> list[Path]:
    """The file and all files that it includes in quotes, also indirectly, in the order of their first mention.

    Headers of firmware/core are not among them; ARITHMETIC_VERSION covers those in hashes. Raises OSError.
    """
    found = [own.resolve()]
    for file in found:  # the loop itself appends to the list
        for quoted in _INCLUDE.findall(file.read_bytes()):
            included = (file.parent / quoted.decode(errors="replace")).resolve()
            if included.is_file() and included not in found:
                found.append(included)
    return found
