"""Boards and their keys: enrolling, the list of enrolled boards, forgetting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen.board.boards import Catalogue

from ..devices import board_keys
from ..devices.asked_board import connected
from ..devices.board_keys import Enrollment as Enrollment
from ..devices.device_urls import require_secure
from ..devices.key_file import EnrolledBoard, KeyFile


@dataclass(frozen=True)
class KnownBoard:
    """A board that this machine has a key of: its name here, its id in hexadecimal, and its kind."""

    name: str
    unique_id: str
    board: str


def enroll(
    device: str, name: str, *, compiled_in: str | Path | None = None, again: bool = False, insecure: bool = False
) -> Enrollment:
    """Gives a running board a fresh key over its cable, and keeps the key in this machine's key file.

    Args:
        device: Its serial port, for instance "/dev/ttyACM0"; with "@BOARD" where the port does not tell the board.
        name: Its name on this machine, for instance "kitchen".
        compiled_in: For firmware without a store: the header to write, by which the next build has the key.
        again: Whether a board that this machine has enrolled gets another key and this name.
        insecure: Accept a line that leaves this machine without TLS: whoever reads there has the key.

    Returns:
        What was enrolled; not the key.

    Raises:
        LinkError: The board does not answer, its firmware does not authenticate, it has a key of another host, or it cannot
            keep one.
        UsageError: The name is taken, or the board is enrolled already, or the URL names processes.
        Error: The key file cannot be used, for instance because others may read it.
    """
    require_secure([device], "none", insecure)
    with connected(device, Catalogue.near(Path.cwd())) as board:
        if compiled_in is not None:
            return board_keys.enroll_compiled_in(board, name, Path(compiled_in), again=again)
        return board_keys.enroll(board, name, again=again)


def enrolled_boards() -> tuple[KnownBoard, ...]:
    """The boards that this machine has keys of.

    Returns:
        Their names and ids, without the keys.

    Raises:
        Error: The key file cannot be used.
    """
    return tuple(map(_known, KeyFile().boards()))


def forget_board(name: str, device: str | None = None, *, insecure: bool = False) -> KnownBoard:
    """Removes a board's key from this machine, and from the board if its port is given.

    Args:
        name: Its name on this machine.
        device: Its serial port; None if it is not connected, and keeps its key.
        insecure: Accept a line that leaves this machine without TLS.

    Returns:
        What was removed.

    Raises:
        UsageError: No board has the name, another board is on the port, or the line leaves this machine and is not secured.
        LinkError: The board does not answer, or cannot forget its key.
        Error: The key file cannot be used.
    """
    if device is None:
        return _known(board_keys.forget(name, None))
    require_secure([device], "none", insecure)
    with connected(device, Catalogue.near(Path.cwd())) as board:
        return _known(board_keys.forget(name, board))


def _known(board: EnrolledBoard) -> KnownBoard:
    return KnownBoard(board.name, board.unique_id, board.board)
