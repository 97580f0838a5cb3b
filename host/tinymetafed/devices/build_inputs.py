"""What a program is built from, as one digest: where it has not changed, PlatformIO need not look at it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.toolchain import compiler_flags

_PROGRAMS, _LIBRARIES = ("cc1plus", "as", "ld"), ("libc.a", "libgcc.a", "libstdc++.a")  # of a g++
# Words of a rule of make, as a compiler writes it, and what stands for a space, # or $ in them.
_WORDS, _ESCAPED = re.compile(r"(?:\\[ #]|\S)+"), re.compile(r"\\([ #])|\$(\$)")
# Compilers read these variables, and PlatformIO all that begin with its name.
_COMPILERS_READ = {"CPATH", "CPLUS_INCLUDE_PATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX"}


def inputs_digest(board: Board, generated: Path, command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """The SHA-256 of all that a build reads: our sources and scripts, generated files, the command, compilers, variables.

    Args:
        board: The board.
        generated: The folder with the generated files.
        command: The command that builds.
        environment: Its environment variables.

    Returns:
        The digest; None for a board of a user's project, whose build may read anything, and where a user's file cannot be
        compiled.
    """
    if board.project is not None or (theirs := _included_by_theirs(board, generated)) is None:
        return None
    variables = {
        name: value
        for name, value in environment.items()
        if name in _COMPILERS_READ or name.startswith(("PLATFORMIO_", "TINYMETAFED_"))
    }
    digest = hashlib.sha256(json.dumps([list(command), sorted(variables.items()), list(_tools(board))]).encode())
    for file in [*_files(find("firmware")), *_files(find("boards")), *_files(generated), *theirs]:
        content = file.read_bytes()
        digest.update(f"\n{file} {len(content)}\n".encode(errors="surrogateescape"))
        digest.update(content)
    return digest.hexdigest()


def compilers_digest(board: Board, environment: Mapping[str, str]) -> str:
    """The SHA-256 of what object files depend on beside sources and flags: the board's tools and the compilers' variables."""
    variables = sorted((name, value) for name, value in environment.items() if name in _COMPILERS_READ)
    return hashlib.sha256(json.dumps([variables, list(_tools(board))]).encode()).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)


def _included_by_theirs(board: Board, generated: Path) -> list[Path] | None:
    """All files that a user's sample source or sensor includes, as the board's compiler finds them; none without one.

    None if it does not find them, cannot be asked, or names them in a way that is not understood.
    """
    manifest, firmware = ModelManifest.read(generated / "manifest.json"), find("firmware")
    sources = [firmware / "app" / "source_own.cpp"] if manifest.sample_source == "own" else []
    if manifest.sensor is not None and not manifest.sensor.replayed:
        sources.append(firmware / "app" / "sensor_own.cpp")
    if not sources:
        return []
    if (compiler := shutil.which(f"{board.toolchain_prefix}g++")) is None:
        return None
    folders = (generated, firmware / "core", firmware / "app")
    command = [compiler, *compiler_flags(board.name), *(f"-I{folder}" for folder in folders), "-M", *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", check=False)
    if done.returncode != 0:
        return None
    words = _WORDS.findall(done.stdout.replace("\\\n", " "))
    named = [Path(_ESCAPED.sub(r"\1\2", word)) for word in words if not word.endswith(":")]
    return named if all(file.is_file() for file in named) else None


def _tools(board: Board) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of change of each tool and library that the board is built with.

    A package of headers has a library, too, which changes with them.
    """
    compiler = shutil.which(f"{board.toolchain_prefix}g++")
    named = [shutil.which(need.name) for need in board.requirements if need.is_command]
    of_gcc = [("prog", name) for name in _PROGRAMS]
    of_gcc += [("file", name) for name in (*_LIBRARIES, *(need.name for need in board.requirements if not need.is_command))]
    for path in (compiler, *named, *(_of_gcc(compiler, *each) for each in of_gcc if compiler is not None)):
        if path is not None and Path(path).is_file():
            state = Path(path).resolve().stat()
            yield path, state.st_size, state.st_mtime_ns


def _of_gcc(compiler: str, kind: str, name: str) -> str | None:
    """Where a compiler finds one of its programs ("prog") or libraries ("file")."""
    command = [compiler, f"-print-{kind}-name={name}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return found if os.sep in found else shutil.which(found)


def is_built(stamp: Path, inputs: str | None, program: Path) -> bool:
    """Whether ``stamp`` says that the program, as it is now, was built from these inputs."""
    try:
        return inputs is not None and stamp.read_text(encoding="ascii") == _stamp(inputs, program)
    except (OSError, UnicodeDecodeError):
        return False


def write_stamp(stamp: Path, inputs: str | None, program: Path) -> None:
    """Writes down what the program was built from."""
    if inputs is not None:
        stamp.write_text(_stamp(inputs, program), encoding="ascii")


def _stamp(inputs: str, program: Path) -> str:
    return f"{inputs} {hashlib.sha256(program.read_bytes()).hexdigest()}\n"
