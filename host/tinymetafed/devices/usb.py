"""USB boards and USB-serial bridges by their ids, from the board files, and the settings of their serial lines."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from serial.tools import list_ports

from tinymetafed_codegen.board.board_facts import Line
from tinymetafed_codegen.board.boards import INSTALLED, Catalogue

from .link.transport import UNKNOWN_START_SECONDS


@dataclass(frozen=True)
class UsbSerial:
    """A USB device by vendor and product id: ``title`` names it, ``board`` is the board behind it."""

    board: str
    title: str
    line: Line
    start_seconds: float


@dataclass(frozen=True)
class UsbPort:
    """A serial port of a USB device; ``serial_number`` is None for a device without one, as many bridges are."""

    path: str
    vendor: int
    product: int
    serial_number: str | None

    def looks_like(self, other: UsbPort) -> bool:
        """Whether both may be ports of one USB device: nothing that tells devices apart differs."""
        return (self.vendor, self.product, self.serial_number) == (other.vendor, other.product, other.serial_number)

    @property
    def title(self) -> str:
        """Its ids, for an error's text."""
        number = "without a serial number" if self.serial_number is None else f"serial number {self.serial_number}"
        return f"{self.vendor:04x}:{self.product:04x} {number}"


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
    ports = [] if "://" in path else usb_ports()
    there = next((port for port in ports if port.path == file_of(path)), None)
    return None if there is None else known_usb(boards).get((there.vendor, there.product))


def usb_ports() -> list[UsbPort]:
    """The serial ports of USB devices on this machine, sorted by path."""
    return sorted(
        (
            UsbPort(file_of(port.device), port.vid, port.pid, port.serial_number)
            for port in list_ports.comports()
            if port.vid is not None and port.pid is not None
        ),
        key=lambda port: port.path,
    )


def file_of(path: str) -> str:
    """The path of the file behind a port's name: links such as those in /dev/serial/by-id are followed."""
    if "://" in path or not path.startswith("/"):
        return path
    return os.path.realpath(path).replace("/dev/tty.", "/dev/cu.")  # macOS has two files for each port
