"""USB boards and USB-serial bridges by their ids, from the board files, and the settings of their serial lines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from serial.tools import list_ports

from tinymetafed_codegen.boards import INSTALLED, Catalogue, Line

from .link.transport import UNKNOWN_START_SECONDS


@dataclass(frozen=True)
class UsbSerial:
    """A USB device by vendor and product id: ``title`` names it, ``board`` is the board behind it."""

    board: str
    title: str
    line: Line
    start_seconds: float


@cache
def known_usb(boards: Catalogue = INSTALLED) -> dict[tuple[int, int], UsbSerial]:
    """The USB devices of all usable board files, by (vendor id, product id).

    Boards with the same bridge share ids; then a board of the user's project takes precedence over ours.
    """
    own_last = sorted(boards.usable(), key=lambda board: board.project is not None)
    return {
        ids: UsbSerial(board.name, title, board.line, board.start_seconds)
        for board in own_last
        for ids, title in board.usb.items()
    }


def line_of(path: str, board: str | None = None, boards: Catalogue = INSTALLED) -> Line:
    """Settings of a serial line: those of ``board``, else those of the USB device at ``path``, else the default.

    Args:
        path: Name or URL of the port.
        board: Name of the board, if known.
        boards: The boards to look in.

    Returns:
        Speed, DTR, RTS and settle time.

    Raises:
        BoardError: The board is unknown.
    """
    if board is not None:
        return boards.load(board).line
    known = _known_at(path, boards)
    return Line() if known is None else known.line


def start_seconds_of(path: str, board: str | None = None, boards: Catalogue = INSTALLED) -> float:
    """Seconds in which a board on a serial line answers after its start; its arguments are those of ``line_of``.

    Where the board is not known: the longest time of all real boards.
    """
    if board is not None:
        return boards.load(board).start_seconds
    known = _known_at(path, boards)
    if known is not None:
        return known.start_seconds
    return max((each.start_seconds for each in boards.usable() if each.real), default=UNKNOWN_START_SECONDS)


def _known_at(path: str, boards: Catalogue) -> UsbSerial | None:
    """The known USB device at ``path``."""
    ports = [] if "://" in path else list_ports.comports()
    ids = next(((port.vid, port.pid) for port in ports if port.device == path), (None, None))
    return None if ids[0] is None or ids[1] is None else known_usb(boards).get((ids[0], ids[1]))


def other_ports(path: str) -> list[str]:
    """USB serial ports other than ``path``, on which a lost board may come back; none if ``path`` is a URL."""
    if "://" in path:
        return []
    return sorted(port.device for port in list_ports.comports() if port.vid is not None and port.device != path)
