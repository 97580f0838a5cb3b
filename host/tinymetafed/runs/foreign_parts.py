"""What a run brings that could act on this machine: code, boards, device URLs. Only what the user has used himself is accepted.

A run may come from anybody. Its experiment names Python and C++ files, the project around it describes boards, with their own
compilers and programs, and its journal has the URLs of its devices. Each such part is known by a SHA-256, which a file of the
user's remembers when he trains with it: an experiment file that the user names is code of his own. A part of a run that is
not remembered is refused until he says --trust.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen import included, ops, own_class
from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.files import is_only_ours
from tinymetafed_codegen.locate import user_state
from tinymetafed_codegen.section import TomlTable
from tinymetafed_codegen.spec import Experiment, anchored, dump
from tinymetafed_codegen.toml_text import decoded

from .run_errors import UntrustedError

_PROCESSES = re.compile(r"(native|qemu|renode):\d+(@[\w-]+)?")  # device URLs that reach nothing outside this program
_OF_PROJECTS = ("boards", "port", "platform", "platformio.ini")  # what a build runs, in a project with boards
_LINE = re.compile(r"([0-9a-f]{64}) .*")
_accepted: set[str] = set()  # by this process; also those that the file could not take


@dataclass(frozen=True)
class Part:
    """Something that acts on this machine.

    Attributes:
        what: What it is, in words.
        sha256: The SHA-256 that it is known by, hexadecimal.
        files: Files that can be restored where they have changed.
    """

    what: str
    sha256: str
    files: tuple[Path, ...] = ()


def record_file() -> Path:
    """The user's file of known parts, a line for each: its SHA-256 and what it was."""
    return user_state() / "known-parts"


def python_of(experiment: TomlTable) -> list[Part]:
    """The Python code that is run when an experiment is validated.

    Args:
        experiment: Decoded sections, with absolute paths; their values may be anything.

    Raises:
        UntrustedError: What should be a Python file is something else, such as a device.
    """
    sections = [(key, experiment.get(key)) for key in ("task", "strategy")]
    named = [(f"{key}.kind", section.get("kind")) for key, section in sections if isinstance(section, dict)]
    model = experiment.get("model")
    layers = model.get("layers") if isinstance(model, dict) else None
    for at, layer in enumerate(layers if isinstance(layers, list) else ()):
        if isinstance(layer, dict):
            named.append((f"model.layers.{at}.op", layer.get("op")))
    parts = []
    for key, reference in named:
        if isinstance(reference, str) and own_class.is_reference(reference):
            code = reference.rpartition(own_class.SEPARATOR)[0]
            if code.endswith(".py"):
                parts += _file(f"the file of {key} = '{reference}'", Path(code))
            else:
                parts.append(_text(f"the module of {key} = '{reference}'", f"module {code}"))
    return parts


def cpp_of(experiment: Experiment) -> list[Part]:
    """The C++ files that are compiled and run for an experiment, with what they include. Raises UntrustedError."""
    named = [("task.source", experiment.task.own_source), ("board.sensor", experiment.board.sensor)]
    found: list[tuple[str, Path, tuple[Path, ...]]] = []
    for key, name in named:
        if name is not None:
            found.append((f"the file of {key} = '{name}'", Path(name), (Path(name),)))
    for op in dict.fromkeys(experiment.model.own_ops):
        if (header := ops.own_op.header(op)) is not None:
            found.append((f"the file of op {op.kind}", header, tuple(ops.own_op.files(op))))
    parts = []
    for what, file, files in found:
        if _is_readable(what, file):
            with suppress(OSError):
                parts.append(Part(what, included.digest(file), files))
    return parts


def project_around(run: Path) -> list[Part]:
    """The boards of the project around a run's folder; none where that is the project of the working directory, too."""
    project = Catalogue.near(run).project
    return [] if project == Catalogue.near(Path.cwd()).project else _project(project)


def _project(project: Path | None) -> list[Part]:
    if project is None:
        return []
    total = hashlib.sha256()
    for file in _project_files(project):
        with suppress(OSError), file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").digest()
            total.update(os.fsencode(file.relative_to(project)) + b"\0" + digest)
    return [Part(f"the boards of {project / 'boards'}, with their compilers and programs", total.hexdigest())]


def of_experiment(experiment: Experiment, source: str) -> list[Part]:
    """All code of an experiment, and the boards of the project around its file. Raises UntrustedError."""
    return [*python_of(dump(experiment)), *cpp_of(experiment), *_project(Catalogue.near(Path(source).parent).project)]


def devices_of(urls: Sequence[str]) -> list[Part]:
    """The device URLs that reach ports, other machines or the user's files."""
    return [_text(f"device '{url}'", f"device {url}") for url in urls if not _PROCESSES.fullmatch(url)]


def remember(parts: Sequence[Part]) -> None:
    """Accepts parts from now on. Where the user's file cannot be written, this process accepts them."""
    new = {part.sha256: part.what for part in parts if part.sha256 not in _known()}
    _accepted.update(new)
    if not new:
        return
    lines = "".join(f"{sha256} {' '.join(what.split())}\n" for sha256, what in new.items())
    with suppress(OSError):
        file = record_file()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(file, flags, 0o600), "ab", buffering=0) as record:
            record.write(lines.encode(errors="replace"))


def require_known(parts: Sequence[Part], whose: Path, remedy: str = "give the command again with --trust") -> None:
    """Raises UntrustedError unless the user has used all parts himself, or has accepted them."""
    known = _known() if parts else set()
    if foreign := [part for part in parts if part.sha256 not in known]:
        named = "; ".join(
            f"{part.what} has changed since you used it on this machine, or you never have (sha256 {part.sha256[:16]}…)"
            for part in foreign
        )
        files = " and ".join(dict.fromkeys(str(file) for part in foreign for file in part.files))
        restore = f"restore {files} and give the command again, or, if somebody else has made it, " if files else ""
        raise UntrustedError(f"{whose}: {named}; {restore}look at what it does, as it can do whatever you can, and {remedy}")


def require_own_code(file: Path, remedy: str) -> None:
    """Raises UntrustedError if an experiment file that the user has not named runs code that he has not used."""
    with suppress(OSError, ValueError):  # whoever loads the file says what is wrong with it
        require_known(python_of(anchored(decoded(file.read_text(encoding="utf-8")), file.parent)), file, remedy)


def _known() -> set[str]:
    file = record_file()
    if not is_only_ours(file):
        return set(_accepted)
    with suppress(OSError), file.open(encoding="utf-8", errors="replace") as lines:
        return _accepted | {match[1] for line in lines if (match := _LINE.match(line))}
    return set(_accepted)


def _file(what: str, file: Path) -> list[Part]:
    if not _is_readable(what, file):
        return []  # whoever opens it says so
    try:
        return [Part(what, hashlib.sha256(file.read_bytes()).hexdigest(), (file,))]
    except OSError:
        return []


def _is_readable(what: str, file: Path) -> bool:
    """Whether a file exists. Raises UntrustedError for a device or a pipe, whose content may never end."""
    try:
        if file.exists() and not file.is_file():
            raise UntrustedError(f"{file}: {what} names no regular file; name a file")
        return file.exists()
    except (OSError, ValueError):
        return False


def _text(what: str, text: str) -> Part:
    return Part(what, hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest())


def _project_files(project: Path) -> Iterator[Path]:
    for name in _OF_PROJECTS:
        place = project / name
        files = place.rglob("*") if place.is_dir() else (place,)
        yield from sorted(file for file in files if file.is_file() and "__pycache__" not in file.parts)
