"""A USB serial port's bad habits on a pty, in front of a real firmware or a fake device."""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections import deque

import pytest
import serial

from tinymetafed.devices.link.errors import LinkError
from tinymetafed.devices.link.transport import open_transport

CHUNK = 4096


class SerialShim(threading.Thread):
    """Forwards between a pty, which the host opens, and the line of a device.

    ``banner`` comes whenever the board boots, and for ``boot_seconds`` the board then hears nothing; ``buffer`` is the
    vendor's receive buffer in bytes, filled at ``baud``, emptied every ``step`` seconds, and dropping what overflows;
    ``latency`` holds back what the device says; with ``needs_dtr`` the device's words are lost while DTR is off;
    ``resets`` boots the board when DTR and RTS differ, as on an ESP32 kit. A pty has neither line: see ``watch_lines``.
    """

    def __init__(
        self,
        device: str,
        *,
        banner: bytes = b"",
        boot_seconds: float = 0.0,
        buffer: int | None = None,
        baud: int = 115200,
        step: float = 0.0,
        latency: float = 0.0,
        needs_dtr: bool = False,
        resets: bool = False,
    ) -> None:
        super().__init__(daemon=True)
        self.banner, self.boot_seconds = banner, boot_seconds
        self.buffer, self.baud, self.step, self.latency = buffer, baud, step, latency
        self.needs_dtr, self.resets = needs_dtr, resets
        self.dtr = self.rts = not needs_dtr
        self.boots = 0
        self.dropped = 0  # bytes that found the vendor's buffer full
        self._device = open_transport(device, 4_000_000)
        self._booted = 0.0
        self._ending = False
        self._lock = threading.Lock()
        self._on_line = bytearray()
        self._vendor = bytearray()
        self._emptied = self._carried = time.monotonic()
        self._upward: deque[tuple[float, bytes]] = deque()
        self._say = b""
        self._plug_in()
        self.start()

    def _plug_in(self) -> None:
        self._master, self._line = os.openpty()
        tty.setraw(self._line)
        self.url = os.ttyname(self._line)

    def boot(self) -> None:
        """The board starts: it talks nonsense and is deaf for a while; what it knew stays, this is only a line."""
        self.boots += 1
        self._booted = time.monotonic()
        self._say = self.banner

    def unplug(self) -> None:
        """The port is gone."""
        with self._lock:
            for fd in (self._master, self._line):
                os.close(fd)
            self._master = self._line = -1

    def plug_in(self) -> str:
        """The board is back; returns the port's new name."""
        with self._lock:
            self._on_line.clear()
            self._vendor.clear()
            self._upward.clear()
            self._plug_in()
            return self.url

    def close(self) -> None:
        """Ends the thread and both lines."""
        self._ending = True
        self.join(2)
        self._device.close()
        if self._master >= 0:
            self.unplug()

    def set_lines(self, dtr: bool, rts: bool) -> None:
        """What the host's modem control lines say."""
        self.dtr, self.rts = dtr, rts
        if self.resets and dtr != rts:
            self.boot()

    def run(self) -> None:
        while not self._ending:
            with self._lock:
                try:
                    self._forward(time.monotonic())
                except (OSError, LinkError):
                    time.sleep(0.005)
            time.sleep(0.0005)

    def _forward(self, now: float) -> None:
        up = self._device.read(0.0)
        if up and not (self.needs_dtr and not self.dtr):
            self._upward.append((now + self.latency, up))
        if self._master < 0:
            self._upward.clear()
            return
        if select.select([self._master], [], [], 0)[0]:
            data = os.read(self._master, CHUNK)
            if now - self._booted >= self.boot_seconds:
                self._on_line += data
        if self._say:
            os.write(self._master, self._say)
            self._say = b""
        while self._upward and self._upward[0][0] <= now:
            os.write(self._master, self._upward.popleft()[1])
        self._down(now)

    def _down(self, now: float) -> None:
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
            self._device.write(bytes(self._vendor))
            self._vendor = bytearray()


def watch_lines(monkeypatch: pytest.MonkeyPatch, *shims: SerialShim) -> list[tuple[str, bool, bool]]:
    """Tells the shims of DTR and RTS, which pyserial cannot set on a pty; returns the list of (port, dtr, rts) as set."""
    seen: list[tuple[str, bool, bool]] = []

    def tell(port: serial.Serial) -> None:
        for shim in shims:
            if shim.url == port.port:
                seen.append((port.port, port.dtr, port.rts))
                shim.set_lines(port.dtr, port.rts)

    monkeypatch.setattr(serial.Serial, "_update_dtr_state", tell)
    monkeypatch.setattr(serial.Serial, "_update_rts_state", tell)
    return seen
