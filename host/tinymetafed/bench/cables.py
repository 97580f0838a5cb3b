"""Pseudo-terminals that stand for USB cables: each joins a board's line with a port that can be pulled and gets a new name."""

from __future__ import annotations

import os
import select
import threading
import tty
from contextlib import suppress
from typing import Self

from ..devices.usb import UsbPort

VENDOR, PRODUCT = 0x2341, 0x805A  # ids of an Arduino Nano 33 BLE, with serial numbers
_PIECE = 1 << 16
_WAKE_SECONDS = 0.05


class Cable:
    """One cable; ``line`` is the board's end, ``port`` the host's, each -1 if nothing is there."""

    def __init__(self, number: str, lock: threading.RLock) -> None:
        self.number = number
        self.path = ""
        self.line = self.port = -1
        self._kept = -1  # the port's other end, open so that bytes are not lost while nobody has it open
        self._place: tuple[int, int] = (-1, -1)  # a pseudo-terminal that has the name of a port that was pulled
        self._lock = lock

    def connect(self, path: str) -> None:
        """Joins it with a board's line."""
        line = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(line)
        with self._lock:
            self.line = line

    def disconnect(self) -> None:
        """Takes it off the board's line."""
        with self._lock:
            self.line = _closed(self.line)

    def plug_in(self) -> str:
        """Makes the port appear; returns its path."""
        with self._lock:
            self.port, self._kept = os.openpty()
            self._place = _closed(self._place[0]), _closed(self._place[1])
            tty.setraw(self._kept)
            os.set_blocking(self.port, False)
            self.path = os.ttyname(self._kept)
            return self.path

    def unplug(self) -> None:
        """Makes the port disappear; another one gets its name."""
        with self._lock:
            self.port, self._kept, self.path = _closed(self.port), _closed(self._kept), ""
            self._place = os.openpty()

    def close(self) -> None:
        """Closes all that is open."""
        with self._lock:
            for end in (self.line, self.port, self._kept, *self._place):
                _closed(end)
            self.line = self.port = self._kept = -1
            self._place = (-1, -1)


class Cables:
    """All cables, and the thread that carries their bytes until the end of the ``with`` block."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._cables: list[Cable] = []
        self._ending = threading.Event()
        self._buffer = bytearray(_PIECE)  # of the thread
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        for cable in self._cables:
            cable.close()

    def add(self) -> Cable:
        """A new cable."""
        with self._lock:
            self._cables.append(Cable(f"{len(self._cables):04d}", self._lock))
            return self._cables[-1]

    def ports(self) -> list[UsbPort]:
        """The ports that are there, as the operating system would list them."""
        with self._lock:
            return [UsbPort(each.path, VENDOR, PRODUCT, each.number) for each in self._cables if each.path]

    def _carry(self) -> None:
        while not self._ending.is_set():
            with self._lock:
                ways = {}
                for cable in self._cables:
                    if cable.line >= 0:
                        ways[cable.line] = cable
                    if cable.port >= 0:
                        ways[cable.port] = cable
            poll = select.poll()
            for end in ways:
                poll.register(end, select.POLLIN)
            ready = poll.poll(1000 * _WAKE_SECONDS)
            for end, _ in ready:
                with self._lock:
                    _forward(ways[end], end, self._buffer)
            if not any(event & select.POLLIN for _, event in ready):
                self._ending.wait(_WAKE_SECONDS / 10)  # ends that have hung up are ready all the time


def _forward(cable: Cable, end: int, buffer: bytearray) -> None:
    """Carries bytes from one end to the other in ``buffer``; they are lost where nothing is there or nobody takes them."""
    if end not in (cable.line, cable.port):
        return  # it was closed meanwhile
    other = cable.port if end == cable.line else cable.line
    with suppress(OSError):
        count = os.readv(end, (buffer,))
        if other >= 0:
            os.write(other, memoryview(buffer)[:count])


def _closed(descriptor: int) -> int:
    if descriptor >= 0:
        os.close(descriptor)
    return -1
