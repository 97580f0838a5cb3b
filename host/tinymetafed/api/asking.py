"""Questions to a board that runs already: its status, and what it predicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.boards import Catalogue

from ..devices import asked_board
from ..devices.asked_board import BoardStatus as BoardStatus


def board_status(device: str) -> BoardStatus:
    """What a running board says of itself: what it is, the state of its last round, what its own program has learned.

    Args:
        device: Its serial port, for instance "/dev/ttyACM0" or "COM5"; with "@BOARD" where the port does not tell the board.

    Raises:
        LinkError: The board does not answer, or has other firmware.
        UsageError: The URL names processes.
    """
    return asked_board.status(device, Catalogue.near(Path.cwd()))


def board_classes(device: str) -> tuple[str, ...]:
    """The names of the classes that a running board tells apart, as ``adapt(keep=True)`` has saved them.

    Args:
        device: As for ``board_status``.

    Returns:
        The names in the order of the classes' indices; () if there are none, or the board has no store.

    Raises:
        LinkError: The board does not answer, or has other firmware.
        UsageError: The URL names processes.
    """
    return asked_board.classes(device, Catalogue.near(Path.cwd()))


def board_predict(device: str, features: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """The scores of samples, computed by a running board with the weights that it has.

    Args:
        device: As for ``board_status``.
        features: Numbers of one sample or of several, [features] or [samples, features], in the order of the model's input.

    Returns:
        Scores, float32 [samples, outputs]: logits where the model's loss takes logits.

    Raises:
        LinkError: The board does not answer, has other firmware, or no weights yet.
        UsageError: The URL names processes, or the model takes another number of features.
    """
    rows = np.atleast_2d(np.asarray(features, np.float32))
    return asked_board.predict(device, list(rows), Catalogue.near(Path.cwd()))
