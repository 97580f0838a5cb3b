"""Questions to a board that runs already: what it is, how it does, and what it predicts. Nothing on it changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinymetafed_codegen.boards import Catalogue
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.protocol import State, Status

from ..wire import class_names
from ..wire.messages import ArrayLike, FloatArray
from .board_stores import problem
from .device import Device
from .launch import launch, parse
from .link.link_errors import DeviceRefused, LinkError


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
class BoardStatus:
    """What a board says of itself.

    ``state`` is that of its last cycle with a host, in words of docs/protocol.md; "IDLE" without one, and where its own program
    has learned since. ``step`` counts the cycle's training steps. ``learning`` is None where its own program has learned
    nothing. ``classes`` are the names of the classes in its store, in the order of their indices; () if there are none.
    ``store`` is the state of the store, in words of docs/store.md; "" without one. ``problem`` says what is wrong with it, ""
    if nothing is.
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
        learning = None if found is None else Learning(found.learned, found.error, bool(found.drifted))
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
        )


def classes(url: str, boards: Catalogue) -> tuple[str, ...]:
    """The names of the classes in a board's store, () if there are none. Takes and raises what ``status`` does."""
    with _asked(url, boards) as device:
        stored = device.session.look()
        return () if stored is None else class_names.decode(stored.names)


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
        # A board takes several samples in one message, so a row of six numbers could be two samples of three.
        for fewer in (number for number in range(1, width) if width % number == 0):
            if _scores(device, np.zeros(fewer, np.float32)) is not None:
                raise AskError(f"{device.url}: its model takes {fewer} features, a sample here has {width}")
        found = [_scores(device, row) for row in rows]
        scores = [each for each in found if each is not None]
        if len(scores) < len(found):
            raise AskError(f"{device.url}: its model does not take {width} features")
        return np.stack(scores)


def _scores(device: Device, row: ArrayLike) -> FloatArray | None:
    """The scores of one sample; None if the model takes another number of features."""
    try:
        return device.session.scores(row)
    except DeviceRefused as refusal:
        if refusal.status == Status.BAD_LENGTH:
            return None
        if refusal.status == Status.BAD_STATE:
            remedy = f"train on it, or let it adapt: `tinymetafed adapt RUN -d {device.url}`"
            raise LinkError(f"{device.url}: has no weights since its start; {remedy}") from None
        raise


@contextmanager
def _asked(url: str, boards: Catalogue) -> Iterator[Device]:
    (spec,) = parse([url], boards)
    if spec.kind != "serial":
        raise AskError(f"device '{url}': names processes that would be started now; give the port of a board that is running")

    def no_program(_: str) -> Path:
        raise AssertionError("a port needs no program")

    with launch([spec], no_program, boards=boards) as (device,):
        yield device
