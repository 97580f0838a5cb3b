"""Creates a user's project: a folder with an experiment, data of four clients, a sample source and PlatformIO's files."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from tinymetafed_codegen.board import board_errors, boards
from tinymetafed_codegen.protocol import Stream

from ..devices.firmware_project import platformio_files
from ..learn import prng
from . import ProjectError

_TEMPLATES = Path(__file__).parent / "templates"
_FILES = {
    "experiment.toml.j2": "experiment.toml",
    "source.cpp.j2": "source.cpp",
    "README.md.j2": "README.md",
    "gitignore.j2": ".gitignore",  # named without a dot, because it would apply to this package's own files
}

# A synthetic motion sensor: tilt about three axes and swing along them, for an average person.
FEATURES = ("tilt_x", "tilt_y", "tilt_z", "swing_x", "swing_y", "swing_z")
GESTURES = {  # sorted by name, which is the order of the classes
    "circle": (0.0, 0.1, 0.3, 0.7, 0.7, 0.1),
    "shake": (0.1, 0.0, 0.3, 0.8, 0.2, 0.2),
    "turn": (0.5, -0.3, 0.1, 0.2, 0.3, 0.1),
}
TRAINED, HELD_OUT, VALIDATION = ("alice", "bob"), "carol", "dave"
CLIENTS = (*TRAINED, HELD_OUT, VALIDATION)
GAIN, OFFSET, NOISE = (0.6, 1.4), (-0.5, 0.5), (-0.25, 0.25)  # gain and offset per person and feature, noise per sample
ROWS = 60
_SEED = 1


def create(folder: Path, board: str) -> None:
    """Writes a project into a new or empty folder; after an error the folder is as before.

    Args:
        folder: The folder.
        board: The project's board, see ``files``.

    Raises:
        ProjectError: The folder is not empty, or cannot be made.
        BoardError: There is no such board.
        OSError: A file cannot be written.
    """
    contents = files(folder.resolve().name, board)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ProjectError(f"{folder}: exists and is not empty; name a new folder, or an empty one")
    is_new = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ProjectError(f"{folder}: cannot be made: {error.strerror}; name one in a folder that you may write to") from None
    try:
        for name, text in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    except BaseException:
        for child in folder.iterdir():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        if is_new:
            folder.rmdir()
        raise


def files(name: str, board: str) -> dict[str, str]:
    """A project's files by path, the same on every machine.

    Args:
        name: The project's name.
        board: A board of this package; or one of ``starters``, whose files are then part of the project.

    Returns:
        Texts by path.

    Raises:
        BoardError: There is no such board.
    """
    own = None if _is_ours(board) else own_board(board)
    facts = {
        "name": name,
        "board": board,
        "own_port": own is not None and own.port is not None,
        "features": len(FEATURES),
        "classes": len(GESTURES),
        "held_out": HELD_OUT,
        "validation": VALIDATION,
        "trained": " and ".join(TRAINED),
        "gestures": [(gesture, ", ".join(f"{value}f" for value in values)) for gesture, values in GESTURES.items()],
        "gain": _cpp(GAIN),
        "offset": _cpp(OFFSET),
        "noise": _cpp(NOISE),
    }
    texts = {file: _render(template, facts) for template, file in _FILES.items()}
    texts |= platformio_files(board, ".pio/core")
    if own is not None:
        texts["platformio.ini"] += f"[env:{board}]\n"
        texts["boards/environments.ini"] = own.environment
        texts["README.md"] += _render("own_board.md.j2", facts)
        texts[f"boards/{board}.json"] = own.facts
        if own.port is not None:
            texts[f"port/{board}/port.cpp"] = own.port
    return texts | {f"data/{client}.csv": recording(i) for i, client in enumerate(CLIENTS)}


@dataclass(frozen=True)
class OwnBoard:
    """The texts of a project's own board: its JSON, its PlatformIO environment, and its port, None where one of ours serves."""

    facts: str
    environment: str
    port: str | None


def starters() -> list[str]:
    """Boards with an Arduino core that this package does not support itself, but has files for a project to start from."""
    return sorted(folder.name for folder in (_TEMPLATES / "boards").iterdir() if folder.is_dir())


def own_board(board: str) -> OwnBoard:
    """The texts of one of ``starters``."""
    folder = _TEMPLATES / "boards" / board
    port = folder / "port.cpp"
    return OwnBoard(
        (folder / "board.json").read_text(encoding="utf-8"),
        (folder / "environment.ini").read_text(encoding="utf-8"),
        port.read_text(encoding="utf-8") if port.is_file() else None,
    )


def _is_ours(board: str) -> bool:
    """Whether a board is one of this package, not one of ``starters``. Raises BoardError if it is neither, or unusable."""
    if board in boards.names():
        boards.load(board)
    elif board not in starters():
        known = [*boards.names(), *starters()]
        near = difflib.get_close_matches(board, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}; docs/own-board.md is about any other"
        raise board_errors.BoardError(f"no board '{board}'; {hint}")
    return board in boards.names()


def _render(template: str, facts: Mapping[str, object]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(facts)


def recording(person: int) -> str:
    """CSV of a person's gestures, simulated like those of the project's source.cpp; the same text every time."""
    n = len(FEATURES)
    words, _ = prng.draw(_SEED, person, 0, Stream.CLIENT_TASK, np.arange(2 * n))
    own = prng.uniform(words).reshape(n, 2)
    words, _ = prng.draw(_SEED, person, 0, Stream.SUPPORT, np.arange(ROWS * n))
    noise = _between(NOISE, prng.uniform(words)).reshape(ROWS, n)
    labels = np.arange(ROWS) % len(GESTURES)
    values = _between(GAIN, own[:, 0]) * np.array([*GESTURES.values()])[labels] + _between(OFFSET, own[:, 1]) + noise
    rows = [[*(f"{value:.3f}" for value in row), list(GESTURES)[label]] for row, label in zip(values, labels, strict=True)]
    return "".join(",".join(row) + "\n" for row in [[*FEATURES, "gesture"], *rows])


def _between(span: tuple[float, float], uniform: np.typing.NDArray[np.float32]) -> np.typing.NDArray[np.float64]:
    return span[0] + (span[1] - span[0]) * uniform.astype(np.float64)


def _cpp(span: tuple[float, float]) -> str:
    return f"{span[0]}f, {span[1]}f"
