"""Questions to a board that runs already: its status, what it predicts and senses. Starts boards that run as processes."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.spec import DataSpec

from ..devices import asked_board
from ..devices.asked_board import BoardStatus as BoardStatus
from ..devices.asked_board import Sensing as Sensing
from ..devices.device_urls import DEFAULT_BOARDS, require_secure, some
from ..devices.recording import Limits
from ..devices.recording import Recorded as Recorded
from ..devices.running import running
from ..runs.setup import design_of, measured_design
from .loaded_experiment import Experiment
from .progress import ProgressOption, watching


def board_status(device: str, *, insecure: bool = False) -> BoardStatus:
    """What a running board says of itself: what it is, the state of its last round, what its own program has learned.

    Args:
        device: Its serial port, for instance "/dev/ttyACM0" or "COM5"; with "@BOARD" where the port does not tell the board.
        insecure: Accept a line that leaves this machine without TLS, such as socket://HOST:PORT: whoever is on the network
            may then answer for the board.

    Returns:
        The board, its firmware, and the figures of its round and of its own learning.

    Raises:
        LinkError: The board does not answer, or has other firmware.
        UsageError: The URL names processes.
    """
    require_secure([device], "none", insecure)
    return asked_board.status(device, Catalogue.near(Path.cwd()))


def board_classes(device: str, *, insecure: bool = False) -> tuple[str, ...]:
    """The names of the classes that a running board tells apart, as ``adapt(keep=True)`` has saved them.

    Args:
        device: As for ``board_status``.
        insecure: As for ``board_status``.

    Returns:
        The names in the order of the classes' indices; () if there are none, or the board has no store.

    Raises:
        LinkError: The board does not answer, or has other firmware.
        UsageError: The URL names processes.
    """
    require_secure([device], "none", insecure)
    return asked_board.classes(device, Catalogue.near(Path.cwd()))


def board_predict(device: str, features: npt.ArrayLike, *, insecure: bool = False) -> npt.NDArray[np.float32]:
    """The scores of samples, computed by a running board with the weights that it has.

    Args:
        device: As for ``board_status``.
        features: Numbers of one sample or of several, [features] or [samples, features], in the order of the model's input.
        insecure: As for ``board_status``.

    Returns:
        Scores, float32 [samples, outputs]: logits where the model's loss takes logits.

    Raises:
        LinkError: The board does not answer, has other firmware, or no weights yet.
        UsageError: The URL names processes, or the model takes another number of features.
    """
    require_secure([device], "none", insecure)
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are refused as such
        rows = np.atleast_2d(np.asarray(features).astype(np.float32))
    return asked_board.predict(device, list(rows), Catalogue.near(Path.cwd()))


def record(
    device: str,
    folder: str | Path,
    *,
    client: str | None = None,
    label: str | None = None,
    rows: int | None = None,
    seconds: float | None = None,
    experiment: Experiment | None = None,
    insecure: bool = False,
    progress: ProgressOption = True,
) -> Recorded:
    """Records a board's sensor into CSV files, which the task ``folder`` of its experiment reads; Ctrl-C ends it.

    Args:
        device: As for ``board_status``; or one native or emulated board that is started now, "qemu:1?replay=DIR".
        folder: The folder for recordings: FOLDER/CLIENT/0001.csv, 0002.csv, …; no file there is ever written over.
        client: Name of the client; None for the board's name and id.
        label: Label of all rows; None for those that the sensor gives, by a button for instance.
        rows: Rows to record; None for no limit.
        seconds: Seconds to record; None for no limit.
        experiment: The experiment whose firmware a board that is started now gets.
        insecure: As for ``board_status``.
        progress: As in ``simulate``.

    Returns:
        The files; how many rows they have, and how many were lost; the measured rate; why the recording ended.

    Raises:
        LinkError: The board does not answer, or was lost: what was recorded until then is in the files.
        UsageError: The firmware has no sensor, a name cannot be one, or the label is a number that the model does not have.
        Error: BuildError, LaunchError, SpecError and DataError for a board that is started now.
    """
    require_secure([device], "none", insecure)
    for option, name in (("--client", client), ("--label", label)):
        if name is not None and (name != name.strip() or not name or name[0] == "." or set(name) & set('/\\,;"\t\r\n')):
            raise UsageError(
                f"{option} '{name}': expected a name without slashes, commas or quotes that does not begin with a dot"
            )
    if label is not None and label.casefold() == "nan":
        raise UsageError(f"--label '{label}': means a missing label in data files; choose another label")
    if (rows is not None and rows < 1) or (seconds is not None and not seconds > 0):
        raise UsageError(f"--rows {rows}, --seconds {seconds}: expected numbers above 0")
    design = None
    if experiment is not None:
        # Rows are recorded as they are; the numbers of the normalisation are measured in recordings.
        as_they_are = experiment.spec.model_copy(update={"data": DataSpec(normalise="none")})
        design = design_of(as_they_are, experiment.source)
    with watching(progress) as observer:
        return asked_board.record(
            device,
            Path(folder),
            client=client,
            label=label,
            limits=Limits(rows, seconds),
            design=design,
            boards=Catalogue.near(Path.cwd()),
            observer=observer,
        )


def label_sample(device: str, label: int | str, *, keep: bool = False, insecure: bool = False) -> Sensing:
    """Labels the newest sample of a running board's sensor; the board learns it, one step of SGD.

    Args:
        device: As for ``board_status``.
        label: The label: the index of the class, a whole number from 0 on, or its name in the board's store.
        keep: Whether the board saves its weights then, for after a reset; its firmware needs a store.
        insecure: As for ``board_status``.

    Returns:
        What the sensor does.

    Raises:
        LinkError: The board does not answer, or cannot learn now.
        UsageError: The URL names processes, or the model does not have the label, or the firmware has no sensor or no store.
    """
    require_secure([device], "none", insecure)
    return asked_board.label(device, label, Catalogue.near(Path.cwd()), keep=keep)


@contextmanager
def started(experiment: Experiment, devices: Sequence[str], *, progress: ProgressOption = True) -> Iterator[dict[str, str]]:
    """Starts native or emulated boards with an experiment's firmware; they run until the context ends.

    Args:
        experiment: The experiment; that of a run has the numbers of its normalisation.
        devices: Device URLs, for instance "qemu:1?store=flash&replay=recordings".
        progress: As in ``simulate``.

    Yields:
        The port of each board, by its name (qemu#1), for ``board_status``, ``board_predict`` and ``label_sample``.

    Raises:
        Error: BuildError, LaunchError, LinkError, SpecError, DataError.
        UsageError: A URL is a serial port.
    """
    urls = some(devices)
    if ports := [url for url in urls if url.partition(":")[0] not in DEFAULT_BOARDS]:
        raise UsageError(f"device '{ports[0]}': a port of a board that is running already; give native:N or qemu:N")
    design = measured_design(experiment.spec, experiment.source)
    ids = (secrets.randbits(64) for _ in itertools.count())  # boards of several such calls may serve one run
    with watching(progress) as observer, running(design, urls, observer, authenticates=False, ids=ids) as fleet:
        lines = {device.url: device.line for device in fleet.devices}
        for device in fleet.devices:
            device.close()  # others open the line now; the process goes on
        yield lines
