"""Bytes to and from one serial line of any kind, with errors that name the port and the remedy."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import serial
from serial.tools import list_ports

from tinymetafed_codegen.board.board_facts import Line
from tinymetafed_codegen.files import processes_with

from .clock import SYSTEM_CLOCK, Clock
from .link_errors import PortError, PortHeld
from .mqtt_address import MqttAddress, MqttError, is_mqtt
from .readiness import ready
from .tls import SCHEME, TlsAddress, TlsError, connect, explain

DEFAULT_BAUD = Line().baud
UNKNOWN_START_SECONDS = 8.0  # of a board to start, where it is not known
BUSY_SECONDS = 3.0  # another program may hold a port for a moment
NEW_PORT_SECONDS = 15.0  # or longer, where somebody can be told so: ModemManager looks at a new port for 10 s
LOOK_AT_NEW_PORTS = ("ModemManager", "brltty")  # programs of the system, whose open files only root sees
WRITE_SECONDS = 10.0  # a line that takes no byte for this long is stuck; so is one that takes so much longer than its speed
MQTT_MISSING = "needs the library paho-mqtt; `pip install 'tinymetafed[mqtt]'`"
_READ_BYTES = 1 << 13  # the most that one read returns; a line has a buffer of this size


class Transport(Protocol):
    """An open line. ``name`` is used in messages; ``baud`` is the line's speed in bit/s."""

    name: str
    baud: int

    def read(self, timeout: float) -> bytes:
        """Waits for bytes and returns all that are there; b"" after ``timeout`` seconds. Raises PortError."""

    def write(self, data: bytes) -> None:
        """Writes all of ``data`` to the line. Raises PortError."""

    def close(self) -> None:
        """Closes the line; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None: ...


def open_transport(
    url: str,
    baud: int | None = None,
    *,
    name: str | None = None,
    line: Line | None = None,
    clock: Clock = SYSTEM_CLOCK,
    on_held: Callable[[str], None] | None = None,
    wait: float | None = None,
) -> Transport:
    """Opens a line.

    Args:
        url: tls://host:port, mqtt://host/topic or mqtts://host/topic with their options, or any URL that
            ``serial.serial_for_url`` knows: /dev/ttyACM0, COM5, socket://host:port, loop://, /dev/pts/N.
        baud: Speed in bit/s; None for that of ``line``.
        name: The line's name in messages; None for the URL.
        line: Settings that the board needs. DTR and RTS are set before the line opens, so that opening it does not reset the
            board; bytes received within ``settle_seconds`` are discarded.
        clock: Clock to measure time with.
        on_held: Is told, once, who holds a port that is waited for.
        wait: Seconds to wait for a port that another program holds; None for NEW_PORT_SECONDS with ``on_held``, and
            BUSY_SECONDS without.

    Returns:
        The open line.

    Raises:
        PortError: It cannot be opened. PortHeld: another program holds it.
    """
    line = line or Line()
    baud = baud or line.baud
    name = name or url
    if wait is None:
        wait = BUSY_SECONDS if on_held is None else NEW_PORT_SECONDS
    told = clock.monotonic() + BUSY_SECONDS / 3
    until = clock.monotonic() + wait
    while True:
        try:
            transport = _open_any(url, name, baud, line, clock)
            break
        except (TlsError, MqttError) as error:
            raise PortError(url.partition("?")[0], str(error)) from error
        except (serial.SerialException, OSError, ValueError) as error:
            if getattr(error, "errno", None) not in (errno.EBUSY, errno.EAGAIN) or clock.monotonic() >= until:
                raise _open_error(url, error, clock) from error
            if on_held is not None and clock.monotonic() >= told:
                on_held(f"{_open_error(url, error, clock)}; waiting for it, for {wait:g} s")
                on_held = None
            clock.sleep(0.05)
    if line.settle_seconds and not is_mqtt(url):  # no boot message goes through a broker
        discard_input(transport, line.settle_seconds, clock)
    return transport


def _open_any(url: str, name: str, baud: int, line: Line, clock: Clock) -> Transport:
    if is_tls(url):
        return _open_tls(url, name, baud, clock)
    if is_mqtt(url):
        return _open_mqtt(url, name, baud, clock)
    return _open(url, name, baud, line, clock)


def is_tls(url: str) -> bool:
    """Whether a URL is that of a line over TLS."""
    return url.lower().startswith(f"{SCHEME}://")


def _open_tls(url: str, name: str, baud: int, clock: Clock) -> Transport:
    address = TlsAddress.parse(url)
    return _Tls(name, baud, connect(address, clock), address, clock)


def _open_mqtt(url: str, name: str, baud: int, clock: Clock) -> Transport:
    address = MqttAddress.parse(url)
    try:
        from .mqtt_line import open_line  # here, because the library is an extra
    except ModuleNotFoundError:
        raise MqttError(MQTT_MISSING) from None
    return open_line(address, name.partition("?")[0], baud, clock)


def _open(url: str, name: str, baud: int, line: Line, clock: Clock) -> Transport:
    port = _open_port(url, baud, line)
    # Reading the file descriptor directly takes two system calls per answer; pyserial's socket:// returns one byte per call.
    is_descriptor = sys.platform != "win32" and ("://" not in url or url.startswith("socket://"))
    return _Descriptor(name, baud, port, clock) if is_descriptor else _Generic(name, baud, port)


def _open_port(url: str, baud: int, line: Line) -> Any:
    port = serial.serial_for_url(url, do_not_open=True, baudrate=baud, timeout=0, write_timeout=WRITE_SECONDS)
    port.dtr = line.dtr
    port.rts = line.rts
    if sys.platform != "win32":  # other systems do not allow sharing a port anyway
        port.exclusive = True
    port.open()
    return port


def discard_input(transport: Transport, seconds: float, clock: Clock = SYSTEM_CLOCK) -> None:
    """Discards bytes received within ``seconds``: a boot message, or bytes for the program that had the port before."""
    until = clock.monotonic() + seconds
    try:
        while (left := until - clock.monotonic()) > 0:
            if not transport.read(left):  # nothing came in all the time that was left
                break
    except BaseException:
        transport.close()
        raise


class _Closing:
    """Common part of all transports: a name and an object, of pyserial or a socket, that is closed at the end."""

    def __init__(self, name: str, baud: int, port: Any) -> None:
        self.name = name
        self.baud = baud
        self._port = port

    def close(self) -> None:
        self._port.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _Descriptor(_Closing):
    """A POSIX file descriptor, opened and configured by pyserial.

    It is read into a buffer of its own. os.read() would allocate the most that may come, and give all but what came back:
    millions of such holes let the C library's heap grow for hours.
    """

    def __init__(self, name: str, baud: int, port: Any, clock: Clock) -> None:
        super().__init__(name, baud, port)
        self._buffer = bytearray(_READ_BYTES)
        self._clock = clock
        self._fd: int = port.fileno()
        os.set_blocking(self._fd, False)
        connection = getattr(port, "_socket", None)
        if connection is not None:  # each write is a whole frame, which should be sent at once
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, timeout: float) -> bytes:
        fd = self._fd
        try:
            if not ready(fd, timeout):
                return b""
            count = os.readv(fd, (self._buffer,))
        except (BlockingIOError, InterruptedError):
            return b""
        except (OSError, ValueError) as error:  # ValueError: the line was closed meanwhile, the descriptor is -1
            raise _vanished(self.name, error) from error
        if not count:  # readable without data means that the other side hung up
            raise _vanished(self.name, None)
        return bytes(memoryview(self._buffer)[:count])

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        until: float | None = None
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except (BlockingIOError, InterruptedError):
                now = self._clock.monotonic()
                until = until or _latest(now, len(rest), self.baud)
                if now >= until or not ready(self._fd, WRITE_SECONDS, writing=True):
                    raise _stuck(self.name) from None
            except (OSError, ValueError) as error:
                raise _vanished(self.name, error) from error

    def close(self) -> None:
        self._fd = -1
        super().close()


class _Generic(_Closing):
    """Any other pyserial object: Windows ports, loop://, rfc2217://, spy://."""

    def read(self, timeout: float) -> bytes:
        try:
            self._port.timeout = max(timeout, 0)
            first: bytes = self._port.read(1)
            waiting = self._port.in_waiting if first else 0
            return first + self._port.read(waiting) if waiting else first
        except (serial.SerialException, OSError) as error:
            raise _vanished(self.name, error) from error

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except serial.SerialTimeoutException:
            raise _stuck(self.name) from None
        except (serial.SerialException, OSError) as error:
            raise _vanished(self.name, error) from error


class _Tls(_Closing):
    """A verified TLS connection that does not block; it is read into a buffer of its own, as a descriptor is."""

    def __init__(self, name: str, baud: int, connection: ssl.SSLSocket, address: TlsAddress, clock: Clock) -> None:
        super().__init__(name, baud, connection)
        self._connection = connection
        self._address = address
        self._clock = clock
        self._buffer = bytearray(_READ_BYTES)

    def read(self, timeout: float) -> bytes:
        until = self._clock.monotonic() + timeout
        while True:  # what arrives may be a part of a record, or a message of TLS itself
            try:
                count = self._connection.recv_into(self._buffer)
            except ssl.SSLWantReadError:
                if not ready(self._connection.fileno(), until - self._clock.monotonic()):
                    return b""
                if self._clock.monotonic() >= until:
                    return b""
            except (OSError, ValueError) as error:
                raise self._lost(error) from error
            else:
                if not count:
                    raise _vanished(self.name, None)
                return bytes(memoryview(self._buffer)[:count])

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        until: float | None = None
        while rest:
            try:
                rest = rest[self._connection.send(rest) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError) as error:
                writing = isinstance(error, ssl.SSLWantWriteError)
                now = self._clock.monotonic()
                until = until or _latest(now, len(rest), self.baud)
                if now >= until or not ready(self._connection.fileno(), WRITE_SECONDS, writing=writing):
                    raise _stuck(self.name) from None
            except (OSError, ValueError) as error:
                raise self._lost(error) from error

    def _lost(self, error: Exception) -> PortError:
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLZeroReturnError | ssl.SSLEOFError):
            return PortError(self.name, explain(error, self._address))  # for instance, a refused client certificate
        return _vanished(self.name, error)


def _latest(now: float, count: int, baud: int) -> float:
    """When so many bytes that are written now must have been taken."""
    return now + WRITE_SECONDS + 10 * count / baud


def _stuck(url: str) -> PortError:
    return PortError(
        url, f"accepts too few bytes, or has accepted none for {WRITE_SECONDS:g} s; reset the board or plug it in again"
    )


def _vanished(url: str, error: Exception | None) -> PortError:
    why = f" ({error})" if error is not None else ""
    return PortError(url, f"the line went away{why}; check the cable and power, or whether the emulator still runs")


def _open_error(url: str, error: Exception, clock: Clock) -> PortError:
    """The error for a port that cannot be opened, with its cause and a remedy."""
    number = getattr(error, "errno", None)
    if number is None and isinstance(error.__context__, OSError):  # pyserial hides the cause of a refused connection
        number = error.__context__.errno
    if "://" in url:
        if number == errno.ECONNREFUSED:
            return PortError(url, "nobody listens there; start the emulator or bridge first, or check host and port number")
        if url.startswith("socket://") and not re.fullmatch(r"socket://[^/:]+:[0-9]+(/.*)?", url):
            return PortError(url, "has no port number; give socket://HOST:PORT")
        return PortError(url, f"cannot be opened ({error})")
    if number == errno.ENOENT or "FileNotFoundError" in str(error):
        there = ", ".join(sorted(port.device for port in list_ports.comports())) or "none"
        return PortError(url, f"does not exist; ports that are there: {there}; plug the board in, or give its port")
    if number in (errno.EBUSY, errno.EAGAIN):
        who = f", held by {', '.join(found)}" if (found := holders(url, clock)) else _suspects()
        return PortHeld(url, f"is busy{who}; close the program that uses it, e.g. a serial monitor")
    if number in (errno.EACCES, errno.EPERM):
        return PortError(url, f"permission denied; `sudo usermod -aG {group_of(url)} $USER`, then log in again")
    if "PermissionError" in str(error):  # Windows says so of a port in use
        return PortHeld(url, "is busy; close the program that uses it, e.g. a serial monitor")
    return PortError(url, f"is not a serial port that can be opened ({error})")


def group_of(path: str) -> str:
    """The group that may use a port, for instance dialout or uucp; dialout if it cannot be found out."""
    if sys.platform != "win32":
        import grp

        with suppress(OSError, KeyError):
            name = grp.getgrgid(os.stat(path).st_gid).gr_name
            return name if name != "root" else "dialout"
    return "dialout"


def holders(path: str, clock: Clock = SYSTEM_CLOCK, *, others: bool = False) -> list[str]:
    """Processes that have ``path`` open, as "NAME (pid N)"; only those that this user may see, none without /proc.

    With ``others`` without this process.
    """
    wanted = _device_number(path)
    if wanted is None:
        return []
    give_up = clock.monotonic() + 0.5  # longer is too long for an error message
    found = processes_with(lambda entry: _device_number(entry) == wanted, lambda: clock.monotonic() <= give_up)
    return [process for process in found if not (others and process.endswith(f"(pid {os.getpid()})"))]


def _suspects() -> str:
    """Running programs that look at new ports, as a part of an error's text; "" if there are none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (name := (process / "comm").read_text(errors="replace").strip()) in LOOK_AT_NEW_PORTS:
                found.append(f"{name} (pid {process.name})")
    return f", probably held by {' or '.join(sorted(found))}, which looks at new ports" if found else ""


def _device_number(path: str | Path) -> int | None:
    """The number of the character device at ``path``, None if it is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_rdev if stat.S_ISCHR(status.st_mode) else None
