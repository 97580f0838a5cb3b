"""First steps: a new project, an imported model, the line monitor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tinymetafed_codegen.errors import UsageError

from ..devices.device_urls import require_secure
from ..devices.key_file import KeyFile
from ..devices.link import monitor as line_monitor
from ..devices.link.transport import DEFAULT_BAUD
from ..projects import new as projects
from ..projects.importing import written_experiment as importing
from .number_ranges import require


def new_project(folder: str | Path, board: str = "native") -> None:
    """Creates a project: an experiment on CSV files, their data, a sample source and PlatformIO's files.

    Args:
        folder: The folder to create; an existing one must be empty.
        board: The board that `pio run` builds for by default.

    Raises:
        ProjectError: The folder is not empty, or cannot be made.
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
    outputs: int | None = None,
) -> list[str]:
    """Creates an experiment from a trained model: a TOML file to edit and, in the same folder, the weights.

    Args:
        model: FILE.keras, FILE.h5, FILE.tflite, or a SavedModel's folder.
        output: The experiment file to write; its weights get the same name with the suffix .npz.
        task: The experiment's task.
        loss: Its loss; None for that of the model file.
        freeze: How many of the first layers with weights to freeze, or the name of the last one; None for the first layers
            that are not trainable in the model file; of a quantised .tflite, for all but the last.
        local: Names of the local layers; empty for the last layer that trains.
        outputs: Outputs of a new last layer, which begins with random weights; None for that of the model file.

    Returns:
        Notes on the decisions.

    Raises:
        ModelFileError: The file cannot be read, or its network is not supported.
    """
    require("--outputs", outputs, 1)
    return importing.write(importing.read(Path(model)), Path(output), task, loss, freeze, local, outputs)


def monitor(source: str, baud: int | None = None, *, insecure: bool = False) -> Iterator[str]:
    """Shows the messages on a serial line, live or from a recording.

    Args:
        source: A serial line's URL, or a file that ``train`` recorded.
        baud: The line's speed in bit/s; None for DEFAULT_BAUD.
        insecure: As for ``board_status``.

    Yields:
        One line of text per message. In a recording of an authenticated board it says whether the MAC is right, wrong, or not
        checked, because this machine has no key of the board or the recording lacks the handshake.

    Raises:
        RecordingError: The file is not a recording. PortError: The line cannot be opened.
        Error: The key file is needed and cannot be used, for instance because others may read it.
        UsageError: ``baud`` is given for a file, or below 1.
    """
    require("--baud", baud, 1)
    if not Path(source).is_file():
        require_secure([source], "none", insecure)
    elif baud is not None:
        raise UsageError(f"--baud {baud} is the speed of a serial line, and {source} is a recording; leave --baud out")

    def keys_of(unique_id: bytes) -> tuple[bytes, ...]:
        board = KeyFile().of(unique_id.hex())
        return () if board is None else board.keys

    return line_monitor.lines(source, DEFAULT_BAUD if baud is None else baud, keys_of)
