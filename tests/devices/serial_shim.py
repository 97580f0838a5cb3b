"""Problems of USB serial ports: of timing, on the test's clock; of port names and control lines, on a pty."""

from __future__ import annotations

import os
import select
import threading
import tty
from collections import deque

import pytest
import serial
from clocks import LOOK_SECONDS, FakeClock
from fake_device import FakeBoard

from tinymetafed.devices.link.link_errors import LinkError
from tinymetafed.devices.link.transport import open_transport

CHUNK = 4096
TICK_SECONDS = 0.0005  # interval at which the port checks both of its ends


class BadPort:
    """A transport to a board, both in the test's thread; ``clock`` advances while the host waits for bytes.

    The board boots when the port is opened: it sends ``banner`` and loses all input for ``boot_seconds``. ``buffer`` is the
    vendor's receive buffer in bytes, filled at ``baud`` and emptied every ``step`` seconds; bytes beyond it are dropped.
    ``latency`` delays the board's answers.
    """

    name = "/dev/bad"

    def __init__(
        self,
        board: FakeBoard,
        clock: FakeClock,
        *,
        banner: bytes = b"",
        boot_seconds: float = 0.0,
        buffer: int | None = None,
        baud: int = 115200,
        step: float = 0.0,
        latency: float = 0.0,
    ) -> None:
        self.boot_seconds, self.buffer, self.baud, self.step, self.latency = boot_seconds, buffer, baud, step, latency
        self.dropped = 0  # bytes lost because the vendor's buffer was full
        self._board, self._clock = board, clock
        self._booted = self._emptied = self._carried = clock.now
        self._on_line = bytearray()
        self._vendor = bytearray()
        self._upward: deque[tuple[float, bytes]] = deque([(clock.now, banner)] if banner else [])

    def write(self, data: bytes) -> None:
        if self._clock.now - self._booted >= self.boot_seconds:
            self._on_line += data

    def read(self, timeout: float) -> bytes:
        until = self._clock.now + timeout
        while True:
            self._forward(self._clock.now)
            arrived = b""
            while self._upward and self._upward[0][0] <= self._clock.now:
                arrived += self._upward.popleft()[1]
            if arrived or self._clock.now >= until:
                return arrived
            self._clock.now = min(until, self._clock.now + TICK_SECONDS)

    def close(self) -> None:
        pass

    def __enter__(self) -> BadPort:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _forward(self, now: float) -> None:
        if self.buffer is None:
            self._vendor, self._on_line = self._on_line, bytearray()
        else:
            carried = min(len(self._on_line), int((now - self._carried) * self.baud / 10))
            if carried or not self._on_line:
                self._carried = now
            room = max(0, self.buffer - len(self._vendor))
            self._vendor += self._on_line[: min(carried, room)]
            self.dropped += max(0, carried - room)
            del self._on_line[:carried]
        if self._vendor and now - self._emptied >= self.step:
            self._emptied = now
            self._board.receive(bytes(self._vendor))
            self._vendor = bytearray()
        while self._board.work():
            pass
        if said := self._board.take():
            self._upward.append((now + self.latency, said))


class SerialShim(threading.Thread):
    """Forwards between a pty, which the host opens, and the line of a device.

    With ``needs_dtr`` the device's bytes are lost while DTR is off; ``resets`` boots the board when DTR and RTS differ, as
    on an ESP32 kit. A pty has neither line: see ``watch_lines``.
    """

    def __init__(self, device: str, *, needs_dtr: bool = False, resets: bool = False) -> None:
        super().__init__(daemon=True)
        self.needs_dtr, self.resets = needs_dtr, resets
        self.dtr = self.rts = not needs_dtr
        self.boots = 0
        self.lost = 0  # bytes that the device sent while DTR was off
        self._device = open_transport(device, 4_000_000)
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._plug_in()
        self.start()

    def _plug_in(self) -> None:
        self._master, self._line = os.openpty()
        tty.setraw(self._line)
        self.url = os.ttyname(self._line)

    def unplug(self) -> None:
        """Removes the port."""
        with self._lock:
            for fd in (self._master, self._line):
                os.close(fd)
            self._master = self._line = -1

    def plug_in(self) -> str:
        """Connects the board again; returns the port's new name."""
        with self._lock:
            self._plug_in()
            return self.url

    def close(self) -> None:
        """Ends the thread and both lines."""
        self._ending.set()
        self.join()
        self._device.close()
        if self._master >= 0:
            self.unplug()

    def set_lines(self, dtr: bool, rts: bool) -> None:
        """Sets the host's modem control lines."""
        self.dtr, self.rts = dtr, rts
        self.boots += self.resets and dtr != rts

    def run(self) -> None:
        while not self._ending.wait(TICK_SECONDS):
            with self._lock:
                try:
                    self._forward()
                except (OSError, LinkError):
                    self._ending.wait(LOOK_SECONDS)

    def _forward(self) -> None:
        up = self._device.read(0.0)
        if self.needs_dtr and not self.dtr:
            self.lost += len(up)
        elif self._master >= 0 and up:
            os.write(self._master, up)
        if self._master >= 0 and select.select([self._master], [], [], 0)[0]:
            self._device.write(os.read(self._master, CHUNK))


def watch_lines(monkeypatch: pytest.MonkeyPatch, *shims: SerialShim) -> list[tuple[str, bool, bool]]:
    """Passes DTR and RTS to the shims, as pyserial cannot set them on a pty; returns the list of (port, dtr, rts) set."""
    seen: list[tuple[str, bool, bool]] = []

    def tell(port: serial.Serial) -> None:
        for shim in shims:
            if shim.url == port.port:
                seen.append((port.port, port.dtr, port.rts))
                shim.set_lines(port.dtr, port.rts)

    monkeypatch.setattr(serial.Serial, "_update_dtr_state", tell)
    monkeypatch.setattr(serial.Serial, "_update_rts_state", tell)
    return seen
