"""USB boards and USB-serial bridges by their ids, from the board files, and the settings of their serial lines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from serial.tools import list_ports

from tinymetafed_codegen.boards import INSTALLED, Catalogue, Line


@dataclass(frozen=True)
class UsbSerial:
    """A USB device by vendor and product id: ``title`` names it, ``board`` is the board behind it."""

    board: str
    title: str
    line: Line


@cache
def known_usb(boards: Catalogue = INSTALLED) -> dict[tuple[int, int], UsbSerial]:
    """The USB devices of all usable board files, by (vendor id, product id).

    Boards with the same bridge share ids; then a board of the user's project takes precedence over ours.
    """
    own_last = sorted(boards.usable(), key=lambda board: board.project is not None)
    return {ids: UsbSerial(board.name, title, board.line) for board in own_last for ids, title in board.usb.items()}


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
    if "://" not in path:
        for port in list_ports.comports():
            if port.device == path and port.vid is not None and port.pid is not None:
                known = known_usb(boards).get((port.vid, port.pid))
                return known.line if known is not None else Line()
    return Line()


def other_ports(path: str) -> list[str]:
    """USB serial ports other than ``path``, on which a lost board may come back; none if ``path`` is a URL."""
    if "://" in path:
        return []
    return sorted(port.device for port in list_ports.comports() if port.vid is not None and port.device != path)
