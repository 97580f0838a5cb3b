"""A connected device, and how it is reconnected after its line or its power failed."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from tinymetafed_codegen.protocol import HelloAnswer

from ..federation.clients import Traffic
from .link.link_errors import LaunchError, LinkError, PortError, PortHeld, WrongFirmware
from .link.questions import board_name
from .link.session import Session
from .link.transport import Transport

REJOIN_HELLO_SECONDS = 2.0  # for one try at one port; a board that takes longer to boot answers the next try
SHORTEST_HELLO_SECONDS = 0.3
REJOIN_PAUSE_SECONDS = 0.05

Stop = Callable[[], bool]  # ends a search early when it returns True


class Port(Protocol):
    """The serial port or emulator process of a device."""

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process that runs the firmware; None for a real board."""

    @property
    def line(self) -> str:
        """The path of its line, by which other programs may open it."""

    @property
    def key(self) -> bytes | None:
        """The key that the process got at its start; None if it got none."""

    def reconnections(self) -> Iterator[Reconnection]:
        """Ways to reconnect a lost device, the most likely one first."""

    def may_be_back(self) -> bool:
        """Whether there is a way that was not there, or not free, when the ways were tried last."""

    def arm(self, ready: bool) -> None:
        """Enables the injected faults that cut the connection while the device is ``ready``, not while it reconnects."""


class Reconnection:
    """One way to reconnect a lost device: a port to open or a process to restart."""

    def __init__(
        self,
        describe: Callable[[], str],
        open_line: Callable[[Stop], Transport],
        *,
        is_own_port: bool = True,
        start_seconds: float = 0.0,
        on_stranger: Callable[[], None] = lambda: None,
    ) -> None:
        """Describes the way.

        Args:
            describe: Called after success; gives the text that follows the device's name, for instance "answers again".
            open_line: Opens the line; may be stopped.
            is_own_port: Whether it is the device's own port, not one that may belong to another board.
            start_seconds: How long a restarted device may take to answer; 0 if it is not restarted.
            on_stranger: Called when another board answers there.
        """
        self.describe = describe
        self.open_line = open_line
        self.is_own_port = is_own_port
        self.start_seconds = start_seconds
        self.on_stranger = on_stranger


class Device:
    """A connected device.

    ``url`` is its name for the user: the port, or native#1, qemu#2. It stays the same when the board comes back on another
    port. ``session``, ``hello`` and ``process`` belong to the latest connection.
    """

    def __init__(self, url: str, session: Session, hello: HelloAnswer, port: Port) -> None:
        self.url = url
        self.session = session
        self.hello = hello
        self._port = port
        self._clock = session.clock
        self._earlier_traffic = Traffic()  # of sessions that were replaced
        self._replacing = threading.Lock()  # held while a session is replaced, beside threads that read the traffic
        self._check: Callable[[Device], None] | None = None
        port.arm(True)

    @property
    def board(self) -> str:
        """The board's name, from its Hello."""
        return board_name(self.hello)

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process that runs the firmware; None for a real board."""
        return self._port.process

    @property
    def line(self) -> str:
        """The path of its line, by which other programs may open it."""
        return self._port.line

    @property
    def key(self) -> bytes | None:
        """The key that its process got at its start; None if it got none."""
        return self._port.key

    @property
    def traffic(self) -> Traffic:
        """All bytes so far, those of earlier sessions included."""
        with self._replacing:
            return self._earlier_traffic + self.session.traffic

    def may_be_back(self) -> bool:
        """Whether a try to reconnect may succeed that would not have a moment ago: a port has appeared, or is free now."""
        return self._port.may_be_back()

    def check(self, check: Callable[[Device], None]) -> None:
        """Runs ``check`` on the device now and after every reconnection. Raises what ``check`` raises."""
        self._check = check
        self._port.arm(False)  # a device that is lost here is not looked for
        check(self)
        self._port.arm(True)

    def close(self) -> None:
        """Closes its line."""
        self.session.close()

    def rejoin(self, patience: float, stop: Stop = lambda: False) -> str:
        """Reconnects a lost device with a new session, in which no program is configured.

        The device is recognised by its unique id; its port may have another name.

        Args:
            patience: Seconds to try; there is at least one try.
            stop: Ends the tries early when it returns True.

        Returns:
            How it was reconnected, for instance "answers again".

        Raises:
            LinkError: It did not come back. WrongFirmware: it was flashed with other firmware. PortHeld: another program has
                a port that may be its own.
            LaunchError: Its process cannot be started.
        """
        self._port.arm(False)
        self.close()
        until = self._clock.monotonic() + patience
        while True:
            last: LinkError | LaunchError | None = None
            for way in self._port.reconnections():
                try:
                    left = until - self._clock.monotonic()
                    start = way.start_seconds or min(REJOIN_HELLO_SECONDS, max(SHORTEST_HELLO_SECONDS, left))
                    self._try(way, start, stop)
                except WrongFirmware as wrong:
                    if way.is_own_port:
                        raise
                    last = last or wrong
                except PortHeld as held:
                    last = held
                except (LinkError, LaunchError) as error:
                    last = last or error  # the first error is that of the device's own port, which the user needs
                else:
                    if self._check is not None:
                        self._check(self)
                    self._port.arm(True)
                    return way.describe()
                if stop():
                    break
            if self._clock.monotonic() >= until or stop():
                raise last or PortError(self.url, "the search for it was stopped")
            self._clock.sleep(REJOIN_PAUSE_SECONDS)

    def _try(self, way: Reconnection, seconds: float, stop: Stop) -> None:
        session = Session(way.open_line(stop), name=self.url, retries=self.session.retries, clock=self._clock)
        session.watch = lambda: PortError(self.url, "the search for it was stopped") if stop() else None
        try:
            hello = session.hello(seconds)
            if hello.unique_id != self.hello.unique_id:
                way.on_stranger()
                raise PortError(
                    session.port,
                    f"another board answers, id {hello.unique_id.hex()}, expected {self.hello.unique_id.hex()} of {self.url}",
                )
        except BaseException:
            session.close()
            raise
        session.watch = None
        with self._replacing:
            self._earlier_traffic += self.session.traffic
            self.session, self.hello = session, hello
