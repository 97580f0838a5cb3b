"""A PlatformIO project folder for one experiment: platformio.ini, its platform, and the experiment file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import jinja2
import tomli_w

from tinymetafed_codegen.board import boards
from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.files import locked, write_if_changed
from tinymetafed_codegen.locate import PLATFORMIO_CONFIG
from tinymetafed_codegen.spec import dump
from tinymetafed_codegen.toolchain import build_root

_TEMPLATES = Path(__file__).parent / "templates"
_FILES = {
    "platformio.ini.j2": "platformio.ini",
    "platform/platform.json": "platform/platform.json",
    "platform/platform.py.j2": "platform/platform.py",
}


def platformio_files(board: str, core_dir: str) -> dict[str, str]:
    """The files that let PlatformIO build a folder with an experiment.toml.

    Args:
        board: The board that `pio run` builds for by default.
        core_dir: Folder for PlatformIO's packages.

    Returns:
        Texts by path within the folder.
    """
    facts = {
        "boards": [known.name for known in boards.usable()],
        "board": board,
        "core_dir": core_dir,
        "installation": PLATFORMIO_CONFIG,
    }
    return {name: _environment().get_template(template).render(facts) for template, name in _FILES.items()}


@cache
def _environment() -> jinja2.Environment:
    """Reads our templates; one for all boards that are checked when they come back."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def build_folder_of(project: Path) -> Path:
    """The folder that PlatformIO builds a user's project in; it wants to write there.

    Args:
        project: The project.

    Returns:
        The project; where this user may not write to it, a folder of this user's with links to all that it has.

    Raises:
        BuildError: There is no folder for builds.
        OSError: The folder cannot be made.
    """
    places = (project, *(place for place in (project / ".pio",) if place.exists()))
    if all(os.access(place, os.W_OK | os.X_OK) for place in places):
        return project
    digest = hashlib.sha256(str(project).encode()).hexdigest()[:8]
    folder = build_root() / f"project-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{folder.name}.lock")):
        there = {entry.name: entry for entry in project.iterdir() if entry.name != ".pio"}
        for link in folder.iterdir():
            if link.is_symlink() and link.name not in there:
                link.unlink()
        for name, entry in there.items():
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(entry)
    return folder


def flashing(experiment: Path, board: Board) -> str:
    """The command that builds and flashes firmware of an ``experiment`` written by ``writing_project``."""
    if board.project is None:
        return f"pio run -d {experiment.parent} -e {board.name} -t upload"
    project = build_folder_of(board.project)
    return f"TINYMETAFED_EXPERIMENT={experiment} pio run -d {project} -e {board.name} -t upload"


@contextmanager
def writing_project(design: Design) -> Iterator[Path]:
    """Writes the complete experiment and its PlatformIO project, so that a user can flash it by hand.

    The folder is named after the model's hash, so that no two models share one. Two experiments of one model may name
    different files with the same weights; no other process writes the folder until the caller has finished.

    Yields:
        Path of the experiment file.
    """
    folder = build_root() / design.manifest.model_hash
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "project.lock"):
        write_if_changed(folder / "experiment.toml", tomli_w.dumps(dump(design.experiment)))
        packages = (build_root() / "core").as_posix()  # shared by all projects: a real board's compiler is large
        for name, text in platformio_files("native", packages).items():
            write_if_changed(folder / name, text)
        yield folder / "experiment.toml"
