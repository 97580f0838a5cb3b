"""USB boards and bridges by their ids, from the boards' files, and how each wants its serial line to be opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from serial.tools import list_ports

from tinymetafed_codegen.boards import INSTALLED, Catalogue, Line


@dataclass(frozen=True)
class UsbSerial:
    """What is behind a vendor and product id: ``title`` says what it is, ``board`` which board it has or leads to."""

    board: str
    title: str
    line: Line


@cache
def known_usb(boards: Catalogue = INSTALLED) -> dict[tuple[int, int], UsbSerial]:
    """What the boards' files tell of USB vendor and product ids; a file that cannot be used tells nothing.

    Where boards share ids, as all with the same bridge do, a project's own counts more than ours.
    """
    own_last = sorted(boards.usable(), key=lambda board: board.project is not None)
    return {ids: UsbSerial(board.name, title, board.line) for board in own_last for ids, title in board.usb.items()}


def line_of(path: str, board: str | None = None, boards: Catalogue = INSTALLED) -> Line:
    """How to open a port: as ``board`` says, else as the USB device behind it does, else as most boards want it.

    Raises BoardError for an unknown board.
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
    """USB serial ports other than ``path``, where a board may turn up that was on it; none when that is no such port."""
    if "://" in path:
        return []
    return sorted(port.device for port in list_ports.comports() if port.vid is not None and port.device != path)
