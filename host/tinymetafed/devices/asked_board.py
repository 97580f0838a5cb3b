"""Questions to a board that runs already: what it is, how it does, and what it predicts. Nothing on it changes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.optional_messages.sensor_messages import SensorReport
from tinymetafed_codegen.protocol import State, Status
from tinymetafed_codegen.whole_numbers import whole_number

from ..federation.observer import Observer
from ..wire import class_names
from ..wire.messages import ArrayLike, FloatArray
from .board_keys import authenticate_if_enrolled
from .board_stores import problem
from .device import Device
from .device_urls import parse
from .key_file import KeyFile
from .launch import launch
from .link.link_errors import DeviceGarbled, DeviceRefused, LinkError
from .recording import Limits, NoSensor, Recorded, describe
from .recording import record as record_rows
from .running import running

NO_LABEL = 0xFFFF  # in a SensorReport: no prediction
LEVEL_TOLERANCE = 0.02  # of a level: numbers in a file may have only four decimals


class AskError(UsageError):
    """The board cannot be asked that; wrong usage."""


@dataclass(frozen=True)
class Learning:
    """What a board's own program has learned: samples, running error, whether the error has grown; a store keeps that.

    ``error`` is that of predictions before learning, older ones counting less: the share of wrong labels, or for values the
    mean distance to them. ``drifted``: by the Page-Hinkley test.
    """

    learned: int
    error: float
    drifted: bool


@dataclass(frozen=True)
class Sensing:
    """What a board's sensor does, and what the board makes of its rows.

    ``state`` is a name of docs/sensors.md, ``problem`` says what is wrong with the sensor, "" if nothing is. ``rows`` counts
    from the sensor's start, ``rate`` is measured, in rows per second, 0 where it is not. ``samples`` are made of the rows;
    ``learned`` counts those that were learned by the labels of their rows, ``refused`` the rows with a label that the model
    does not have. ``label`` is the prediction for the newest sample, None without one or without weights; ``confidence`` the
    probability that the model gives to it. Labels are below ``labels``.
    """

    state: str
    problem: str
    rows: int
    rate: float
    samples: int
    learned: int
    refused: int
    label: int | None
    confidence: float
    labels: int


@dataclass(frozen=True)
class BoardStatus:
    """What a board says of itself.

    ``state`` is that of its last cycle with a host, in words of docs/protocol.md; "IDLE" without one, and where its own program
    has learned since. ``step`` counts the cycle's training steps. ``learning`` is None where its own program has learned
    nothing. ``classes`` are the names of the classes in its store, in the order of their indices; () if there are none.
    ``store`` is the state of the store, in words of docs/store.md; "" without one. ``problem`` says what is wrong with it, ""
    if nothing is. ``sensing`` is None where its firmware has no sensor. ``enrolled`` is the name by which this machine has the
    key of authenticated firmware, "" for any other; it has dropped ``forged`` and ``replayed`` frames since its start.
    """

    device: str
    board: str
    unique_id: str
    model_hash: str
    receive_window: int
    state: str
    step: int
    learning: Learning | None
    classes: tuple[str, ...] = ()
    store: str = ""
    problem: str = ""
    sensing: Sensing | None = None
    enrolled: str = ""
    forged: int = 0
    replayed: int = 0


def status(url: str, boards: Catalogue) -> BoardStatus:
    """Asks a board for its status.

    Args:
        url: Its serial port, as PORT or PORT@BOARD.
        boards: The known boards.

    Returns:
        The status.

    Raises:
        AskError: The URL names processes. LinkError: The board does not answer, or has other firmware.
    """
    with _asked(url, boards) as device:
        hello, at, found, stored = device.hello, device.session.position(), device.session.inspect(), device.session.look()
        learning = None if found is None or not found.learned else Learning(found.learned, found.error, bool(found.drifted))
        state, step = (State.IDLE, 0) if at is None else (at.state, at.step)
        return BoardStatus(
            device.url,
            device.board,
            hello.unique_id.hex(),
            hello.model_hash.hex(),
            hello.receive_window,
            state.name,
            step,
            learning,
            class_names.decode(stored.names) if stored is not None else (),
            stored.state.name if stored is not None else "",
            problem(stored.state) if stored is not None else "",
            _sensing(device.session.sensor()),
            *_authentication(device),
        )


def _authentication(device: Device) -> tuple[str, int, int]:
    """``enrolled``, ``forged`` and ``replayed`` of a status."""
    board = KeyFile().of(device.hello.unique_id.hex())
    if board is None or not device.session.mac_bytes:
        return "", 0, 0
    found = device.session.refusals()
    return board.name, found.forged, found.replayed


def label(url: str, label: int | str, boards: Catalogue, *, keep: bool = False) -> Sensing:
    """Labels the newest sample of a board's sensor, which the board learns.

    Args:
        url: Its serial port, as PORT or PORT@BOARD.
        label: The label: the index of the class, or its name in the board's store.
        boards: The known boards.
        keep: Whether the board saves its weights then, for after a reset.

    Returns:
        What its sensor does.

    Raises:
        AskError: The URL names processes, the model does not have the label, or the firmware has no store to keep weights in.
        NoSensor: The firmware has no sensor.
        LinkError: The board does not answer, or cannot learn now.
    """
    with _asked(url, boards) as device:
        before = device.session.sensor()
        if before is None:
            raise NoSensor(f"{device.url}: its firmware has no sensor, so it has no sample to label; set board.sensor")
        index = _label_index(label, device, before.classes)
        if not before.samples:
            why = describe(before.state) or f"only {before.rows:,} rows have come so far; try again later"
            raise LinkError(f"{device.url}: has no sample yet to label: {why}")
        try:
            found = device.session.label_sample(index)
        except DeviceRefused as refusal:
            if refusal.status == Status.NOT_FINITE:
                raise LinkError(f"{device.url}: its weights have diverged; let it adapt, or load weights") from None
            if refusal.status != Status.BAD_STATE:
                raise
            raise LinkError(
                f"{device.url}: cannot learn now: it has had no weights since its start, or a round of a host is in progress, "
                "or its experiment has no [adaptation] to learn by"
            ) from None
        if keep:
            _keep(device)
        sensing = _sensing(found)
        assert sensing is not None
        return sensing


def record(
    url: str,
    folder: Path,
    *,
    client: str | None,
    label: str | None,
    limits: Limits,
    design: Design | None,
    boards: Catalogue,
    observer: Observer,
) -> Recorded:
    """Records a board's sensor into CSV files; see ``recording.record``.

    Args:
        url: Its serial port; or a URL of one process, which is started with the firmware of ``design``.
        folder: The folder for recordings.
        client: Name of the client, a folder in it; None for the board's name and id.
        label: Label of all rows; None for those that the sensor gives.
        limits: When to end.
        design: The experiment's model, for a process.
        boards: The known boards.
        observer: Is told of progress, and of what is wrong with the sensor.

    Raises:
        AskError: The URL names several processes, or processes without ``design``.
        Error: As ``recording.record``; and BuildError, LaunchError and DataError for a process.
    """

    def recorded(device: Device) -> Recorded:
        plain = re.sub(r"\W", "_", device.board, flags=re.ASCII)  # what a board says is no path
        name = client or f"{plain}-{device.hello.unique_id.hex()[-6:]}"
        return record_rows(device, folder, name, label, limits, observer)

    (spec,) = parse([url], boards)
    if spec.kind == "serial":
        with _asked(url, boards) as device:
            return recorded(device)
    if design is None:
        raise AskError(f"device '{url}': starts a process, which needs firmware; name its experiment too (--experiment FILE)")
    if spec.count != 1:
        raise AskError(f"device '{url}': one board is recorded at a time; give {spec.kind}:1")
    with running(design, [url], observer) as fleet:
        return recorded(fleet.devices[0])


def _sensing(report: SensorReport | None) -> Sensing | None:
    if report is None:
        return None
    return Sensing(
        report.state.name,
        describe(report.state),
        report.rows,
        report.rate,
        report.samples,
        report.learned,
        report.refused,
        None if report.label == NO_LABEL else report.label,
        report.confidence,
        report.classes,
    )


def _label_index(label: int | str, device: Device, labels: int) -> int:
    """The index of a label that is a number or a name. A name goes first: classes may be called 3, 7 and 1. Raises AskError."""
    text, names = str(label), _names(device) if isinstance(label, str) else ()
    if names.count(text) > 1:
        raise AskError(f"{device.url}: label {text}: {names.count(text)} classes have this name; give the number of the class")
    index = names.index(text) if text in names else whole_number(text)
    if index is None or index >= labels:
        of_names = f" or a name of {', '.join(names)}" if names else ""
        raise AskError(f"{device.url}: label {label}: its model has the labels 0 to {labels - 1}{of_names}")
    return index


def _names(device: Device) -> tuple[str, ...]:
    """The names of the classes in a board's store; () without."""
    stored = device.session.look()
    return () if stored is None else class_names.decode(stored.names)


def _keep(device: Device) -> None:
    """Lets a board save its weights. Raises AskError or LinkError."""
    try:
        report = device.session.keep(_names(device))
    except DeviceRefused as refusal:
        if refusal.status != Status.UNKNOWN_TYPE:
            raise
        raise AskError(f"{device.url}: has learned, but its firmware has no store to keep it; set board.store = true") from None
    if wrong := problem(report.state):
        raise LinkError(f"{device.url}: has learned, but {wrong}")


def classes(url: str, boards: Catalogue) -> tuple[str, ...]:
    """The names of the classes in a board's store, () if there are none. Takes and raises what ``status`` does."""
    with _asked(url, boards) as device:
        return _names(device)


def predict(url: str, rows: Sequence[ArrayLike], boards: Catalogue) -> FloatArray:
    """Lets a board predict samples with the weights that it has.

    Args:
        url: Its serial port, as PORT or PORT@BOARD.
        rows: The features of each sample, float32.
        boards: The known boards.

    Returns:
        The scores, float32 [rows, outputs].

    Raises:
        AskError: The URL names processes, or a sample has another number of features than the model.
        LinkError: The board does not answer, has other firmware, or no weights yet.
    """
    for number, row in enumerate(rows):
        if not np.isfinite(row).all():
            raise AskError(f"sample {number + 1}: a feature is NaN or infinite; a board predicts finite numbers only")
    with _asked(url, boards) as device:
        width = np.size(rows[0])
        if _reads_bytes(device):
            return np.stack([_scores_of_bytes(device, row, number + 1) for number, row in enumerate(rows)])
        # A board takes several samples in one message, so a row of six numbers could be two samples of three.
        for fewer in (number for number in range(1, width) if width % number == 0):
            if _scores(device, np.zeros(fewer, np.float32)) is not None:
                raise AskError(f"{device.url}: its model takes {fewer} features, a sample here has {width}")
        found = [_scores(device, row) for row in rows]
        scores = [each for each in found if each is not None]
        if len(scores) < len(found):
            raise AskError(f"{device.url}: its model does not take {width} features")
        return np.stack(scores)


def _reads_bytes(device: Device) -> bool:
    """Whether the first layer of a board's model reads bytes."""
    try:
        _scores(device, np.zeros(1, np.float32))
    except DeviceRefused as refusal:
        return refusal.status == Status.BAD_VALUE
    return False


def _scores_of_bytes(device: Device, row: ArrayLike, number: int) -> FloatArray:
    """The scores of one sample of a board whose model reads bytes. Raises AskError, LinkError.

    Its features are levels from 0 to 255, or these divided by 255, as the inputs of images are.
    """
    features = np.asarray(row, np.float64)
    for scale in (1.0, 1 / 255):
        levels = features / scale
        nearest = np.rint(levels)
        if nearest.min() >= 0 and nearest.max() <= 255 and np.abs(levels - nearest).max() < LEVEL_TOLERANCE:
            try:
                return device.session.scores_of_bytes(nearest.astype(np.uint8), float(np.float32(scale)))
            except (DeviceGarbled, DeviceRefused) as refusal:
                if isinstance(refusal, DeviceRefused) and refusal.status != Status.BAD_LENGTH:
                    raise
                raise AskError(f"{device.url}: its model does not take {features.size} features") from None
    raise AskError(
        f"{device.url}: its model reads bytes, and sample {number} has a feature that is not a byte; give whole numbers from 0 "
        "to 255, or these divided by 255"
    )


def _scores(device: Device, row: ArrayLike) -> FloatArray | None:
    """The scores of one sample; None if the model takes another number of features."""
    try:
        return device.session.scores(row)
    except DeviceRefused as refusal:
        if refusal.status == Status.BAD_LENGTH:
            return None
        if refusal.status == Status.BAD_STATE:
            remedy = f"train on it, or let it adapt: `tinymetafed adapt RUN -d {device.url}`"
            raise LinkError(f"{device.url}: has had no weights since its start; {remedy}") from None
        raise


@contextmanager
def _asked(url: str, boards: Catalogue) -> Iterator[Device]:
    with connected(url, boards) as device:
        device.check(authenticate_if_enrolled)
        yield device


@contextmanager
def connected(url: str, boards: Catalogue) -> Iterator[Device]:
    """A board that is running, without authentication.

    Raises:
        AskError: The URL names processes. LinkError: The board does not answer.
    """
    (spec,) = parse([url], boards)
    if spec.kind != "serial":
        raise AskError(f"device '{url}': would start processes; give the port of a running board")
    if spec.is_search:
        raise AskError(f"device '{url}': means all boards below a topic; name one of them")

    def no_program(_: str) -> Path:
        raise AssertionError("a port needs no program")

    with launch([spec], no_program, boards=boards) as (device,):
        yield device
