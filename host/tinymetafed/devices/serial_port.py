"""The serial port of a board: how it is opened, and how a lost board is found again, under whatever name its port has then."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial

from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.protocol import HelloAnswer

from .device import Reconnection, Stop
from .link.exchange import RETRIES
from .link.link_errors import LinkError, PortError, PortHeld, WrongFirmware
from .link.questions import board_name
from .link.transport import Transport, holders, open_transport
from .ports import Wrapping
from .usb import UsbPort, file_of, line_of, start_seconds_of, usb_ports


class UsbBus:
    """The USB serial ports of this machine, and which of them this run's boards have."""

    def __init__(self, ports: Callable[[], list[UsbPort]] = usb_ports) -> None:
        self.ports = ports
        self._claims: dict[SerialPort, str] = {}  # the port that each board has, or that it is being searched at
        self._lock = threading.Lock()

    def claim(self, board: SerialPort, path: str | None) -> bool:
        """Gives a port to a board in place of the one it had (None: in place of it none); False if another board has it."""
        with self._lock:
            self._claims.pop(board, None)
            if path is not None and file_of(path) in self._claims.values():
                return False
            if path is not None:
                self._claims[board] = file_of(path)
            return True


class SerialPort:
    """A board's serial port.

    A lost board on USB is searched where a USB device has its vendor id, product id and serial number, at the port that it
    had first. No byte is sent to any other port: it belongs to somebody else. Any other board is searched at its own port.
    """

    process = None
    key = None
    retries = RETRIES

    def __init__(
        self,
        url: str,
        wrapping: Wrapping,
        declared: str | None,
        boards: Catalogue,
        bus: UsbBus,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self.name = self._path = url
        self.arm = wrapping.arm
        self.injector = wrapping.injector
        self._wrap = wrapping.wrap
        self._clock = wrapping.clock
        self._declared = declared
        self._boards = boards
        self._bus = bus
        self._on_event = on_event
        self._usb: UsbPort | None = None  # as it was when the board answered first
        self._strangers: set[str] = set()  # ports that look like the board's, where another board has answered
        self._tried: set[str] = set()  # ports that were opened in the last search through all ways

    @property
    def start(self) -> float:
        """Seconds that its board may take to answer."""
        return start_seconds_of(self._path, self._declared, self._boards)

    @property
    def line(self) -> str:
        """The path of the line, as it is now."""
        return self._path

    def open(self, until: float) -> Transport:
        """Opens the line with the settings that its board needs."""
        self._bus.claim(self, self._path)
        return self._open(self._path, self._on_event)

    def confirm(self, hello: HelloAnswer) -> None:
        """Raises WrongFirmware if the URL names another board than the one that has answered."""
        if self._declared not in (None, board_name(hello)):
            raise WrongFirmware(
                f"{self.name}@{self._declared}: a {board_name(hello)} has answered; give {self.name}@{board_name(hello)}, or "
                f"the port of the {self._declared}"
            )
        self._usb = next((port for port in self._usb_ports() if port.path == file_of(self._path)), None)

    def reconnections(self) -> Iterator[Reconnection]:
        """The ways to find the device again, in the order in which they are tried."""
        was = self._path
        alike = self._alike()
        self._strangers &= set(alike)  # one that has gone may be the board's when it comes again
        self._tried = set()
        own = list(dict.fromkeys((was, self.name)))
        others = [path for path in alike if path not in map(file_of, own) and path not in self._strangers]
        for path in (*own, *others):
            yield Reconnection(
                partial(self._found_at, path, was),
                partial(self._open_again, path),
                is_own_port=path in own,
                on_stranger=partial(self._strangers.add, file_of(path)),
            )
        self._bus.claim(self, None)

    def may_be_back(self) -> bool:
        """Whether a port that looks like the board's has not been tried: it has appeared, or was held."""
        return any(path not in self._tried and path not in self._strangers for path in self._alike())

    def explain(self, error: LinkError) -> Exception:
        """Returns ``error``: nothing more is known about a board."""
        return error

    def _usb_ports(self) -> list[UsbPort]:
        return [] if "://" in self._path else self._bus.ports()

    def _alike(self) -> list[str]:
        """Ports that look like the board's."""
        known = self._usb
        return [] if known is None else [port.path for port in self._usb_ports() if port.looks_like(known)]

    def _found_at(self, path: str, was: str) -> str:
        self._path = path
        return "answers again" if path == was else f"is {path} now"

    def _open_again(self, path: str, stop: Stop) -> Transport:
        """Opens a port at which the board may be. Raises PortError if it is not the board's."""
        if self._usb is not None:
            there = {port.path: port for port in self._usb_ports()}.get(file_of(path))
            if there is None and os.path.exists(path):
                raise PortError(path, f"is not a port of a USB device now, expected {self._usb.title}")
            if there is not None and not there.looks_like(self._usb):
                raise PortError(path, f"another USB device is there, {there.title}, expected {self._usb.title}")
            if file_of(path) in self._strangers:
                raise PortError(path, f"another board is there, expected {self._usb.title}; plug the board in again")
            if there is not None and (who := holders(path, self._clock, others=True)):
                raise PortHeld(path, f"is busy, held by {', '.join(who)}; close the program that uses it")
        if not self._bus.claim(self, path):
            raise PortError(path, "another board of this run is there")
        self._tried.add(file_of(path))
        try:
            return self._open(path)
        except PortHeld:
            self._tried.discard(file_of(path))
            raise

    def _open(self, path: str, on_held: Callable[[str], None] | None = None) -> Transport:
        name = self.name if path == self.name else f"{self.name} ({path})"
        line = line_of(path, self._declared, self._boards)
        wait = 0.0 if on_held is None else None
        return self._wrap(open_transport(path, line=line, name=name, clock=self._clock, on_held=on_held, wait=wait), self.name)
