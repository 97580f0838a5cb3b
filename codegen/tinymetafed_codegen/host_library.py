"""Compiles C++ of the firmware into shared libraries for this machine, which are cached."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from .toolchain import SHOWN_LINES, BuildError

# On Windows the compiler's libraries are linked in, because Python looks for those of a library only where it is installed.
SHARED = ("-shared", "-fPIC", "-fvisibility=hidden", *(("-static",) if sys.platform == "win32" else ()))


def shared_library(stem: Path, command: Sequence[str], files: Iterable[Path], what: str) -> Path:
    """Compiles a shared library, unless there is one of the same sources and flags. The caller holds the folder's lock.

    Args:
        stem: Folder of the library and the beginning of its name, to which a digest is added.
        command: The compiler's command without the output file.
        files: All files that the compiler reads.
        what: What is compiled, for errors.

    Returns:
        The library's path.

    Raises:
        BuildError: The compiler is missing or failed.
    """
    # Machines may share the folder, so the name depends on the machine's architecture.
    digest = hashlib.sha256(json.dumps([platform.machine(), *command]).encode())
    for file in files:
        digest.update(file.read_bytes())
    library = stem.with_name(f"{stem.name}-{digest.hexdigest()[:16]}.so")
    if not library.exists():
        begun = library.with_suffix(".new")
        run_compiler([*command, "-o", str(begun)], what)
        begun.replace(library)
    return library


def run_compiler(command: Sequence[str], what: str) -> str:
    """Runs a compiler and returns its standard output. Raises BuildError, which names ``what`` was compiled."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError("\n".join([f"{what}: the compiler failed", *done.stderr.strip().splitlines()[-SHOWN_LINES:]]))
    return done.stdout
