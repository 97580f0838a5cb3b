"""What a user begins with: a project folder, an imported model, an example, a check of this machine, a look at a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tinymetafed_codegen.boards import Board, Catalogue, Requirement
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.ops import LOSSES as _LOSSES
from tinymetafed_codegen.spec import TASKS as _TASKS

from ..devices.link import monitor as line_monitor
from ..devices.link.transport import DEFAULT_BAUD
from ..projects import doctor as machine
from ..projects import new as projects
from ..projects.doctor import Finding
from ..projects.importing import experiment as importing

TASKS = tuple(_TASKS)
LOSSES = tuple(_LOSSES)


def new_project(folder: str | Path, board: str = "native") -> None:
    """Begins a project: an experiment on CSV files, their data, a sample source and what PlatformIO needs.

    Args:
        folder: The folder to create; an empty one may be there already.
        board: The board that `pio run` builds for unless told otherwise.

    Raises:
        ProjectError: There is something in the folder, or it cannot be made.
        BoardError: There is no such board.
    """
    projects.create(Path(folder), board)


def import_model(
    model: str | Path,
    output: str | Path,
    *,
    task: str = "folder",
    loss: str | None = None,
    freeze: str | None = None,
    local: Sequence[str] = (),
) -> list[str]:
    """Begins an experiment from a trained model: a TOML file to edit and, beside it, the weights.

    Args:
        model: FILE.keras, FILE.h5, a float FILE.tflite, or a SavedModel's folder.
        output: The experiment to write; its weights go beside it, as .npz.
        task: The task that the experiment names.
        loss: Its loss; None for the one that the file tells.
        freeze: How many of the first layers with weights are frozen, or the name of the last of them; None for the first
            ones that are not trainable in the file.
        local: Names of local layers; none for the last that trains.

    Returns:
        Notes on what was decided.

    Raises:
        ModelFileError: The file cannot be read, or its network is none of ours.
    """
    return importing.write(importing.read(Path(model)), Path(output), task, loss, freeze, local)


def example(name: str) -> Path:
    """The path of an example that comes with the package, for instance "sine.toml". Raises FileNotFoundError."""
    return find("examples") / name


def examine() -> list[Finding]:
    """Looks at this machine: Python, compilers, emulators, boards (the working directory's project's too) and serial ports.

    Installs and opens nothing.
    """
    return machine.examine(Catalogue.near(Path.cwd()))


def missing_tools(board: str) -> list[Requirement]:
    """What building for a board and running it needs and this machine lacks. Raises BoardError."""
    return Catalogue.near(Path.cwd()).load(board).missing_tools()


def board(name: str) -> Board:
    """The facts of a board: one of the working directory's project, or one of ours.

    Raises BoardError for an unknown one, or one whose file is not usable.
    """
    return Catalogue.near(Path.cwd()).load(name)


def monitor(source: str, baud: int = DEFAULT_BAUD) -> Iterator[str]:
    """One line of text per message on a serial line, live, or in a file that ``train`` recorded.

    Args:
        source: A serial line's URL, or a recording.
        baud: The line's speed.

    Raises:
        RecordingError: The file is no recording. PortError: The line cannot be opened.
    """
    return line_monitor.lines(source, baud)
