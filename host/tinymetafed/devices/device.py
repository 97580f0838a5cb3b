"""A board that has answered, and how to get it back when its line or its power went away."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Protocol

from tinymetafed_codegen.protocol import HelloAnswer

from ..federation.clients import Traffic
from .link.errors import LaunchError, LinkError, PortError, WrongFirmware
from .link.session import Session, board_name
from .link.transport import Transport

REJOIN_HELLO_SECONDS = 2.0  # for one try at one port; a board that boots for longer is found at the next try
SHORTEST_HELLO_SECONDS = 0.3
REJOIN_PAUSE_SECONDS = 0.05


class Port(Protocol):
    """Where a device is reached, and where else it may turn up."""

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process that stands in for the board, if one does."""

    def ways_back(self) -> Iterator[Way]:
        """What to try when the device is gone, most likely first."""

    def arm(self, ready: bool) -> None:
        """Tells an injector of faults whether the device is at work (or being looked for, and so spared)."""


class Way:
    """One place to look for a lost device; ``how`` completes "it …" once it was found there.

    ``starts`` is how many seconds the device takes at most to answer, where this way starts it anew.
    """

    def __init__(
        self, how: Callable[[], str], open_line: Callable[[], Transport], *, is_its_own: bool = True, starts: float = 0.0
    ) -> None:
        self.how = how
        self.open_line = open_line
        self.is_its_own = is_its_own
        self.starts = starts


class Device:
    """A board that has answered.

    ``url`` is its name for the user, the port's or native#1, qemu#2, and stays when the board reappears elsewhere;
    ``session``, ``hello`` and ``process`` are those of its latest appearance.
    """

    def __init__(self, url: str, session: Session, hello: HelloAnswer, port: Port) -> None:
        self.url = url
        self.session = session
        self.hello = hello
        self._port = port
        self._clock = session.clock
        self._spent = Traffic()  # of sessions that were replaced
        self._check: Callable[[Device], None] | None = None
        port.arm(True)

    @property
    def board(self) -> str:
        """The board's name, from its Hello."""
        return board_name(self.hello)

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process that stands in for the board, if one does."""
        return self._port.process

    @property
    def traffic(self) -> Traffic:
        """All bytes so far, of lost sessions too."""
        return self._spent + self.session.traffic

    def check(self, check: Callable[[Device], None]) -> None:
        """Runs ``check`` on the device now and whenever it comes back. Raises what it raises, WrongFirmware for one."""
        self._check = check
        check(self)

    def close(self) -> None:
        """Closes its line."""
        self.session.close()

    def rejoin(self, patience: float, stop: Callable[[], bool] = lambda: False) -> str:
        """Brings a lost device back with a session that knows nothing yet, and says how it came.

        Tries for ``patience`` seconds, at least once, and no longer once ``stop`` says so. It is the same device when its
        unique id is, whatever the port is called. Raises LinkError, LaunchError; WrongFirmware when it was flashed meanwhile.
        """
        self._port.arm(False)
        self.close()
        until = self._clock.monotonic() + patience
        while True:
            last: LinkError | LaunchError | None = None
            for way in self._port.ways_back():
                try:
                    left = until - self._clock.monotonic()
                    self._try(way, way.starts or min(REJOIN_HELLO_SECONDS, max(SHORTEST_HELLO_SECONDS, left)))
                except WrongFirmware as wrong:
                    if way.is_its_own:
                        raise
                    last = last or wrong
                except (LinkError, LaunchError) as error:
                    last = last or error  # what its own port says is what the user has to know
                else:
                    if self._check is not None:
                        self._check(self)
                    self._port.arm(True)
                    return way.how()
                if stop():
                    break
            if self._clock.monotonic() >= until or stop():
                raise last or PortError(self.url, "was not looked for any longer")
            self._clock.sleep(REJOIN_PAUSE_SECONDS)

    def _try(self, way: Way, seconds: float) -> None:
        session = Session(way.open_line(), name=self.url, retries=self.session.retries, clock=self._clock)
        try:
            hello = session.hello(seconds)
            if hello.unique_id != self.hello.unique_id:
                raise PortError(
                    session.port,
                    f"another board answers, id {hello.unique_id.hex()}, expected {self.hello.unique_id.hex()} of {self.url}",
                )
        except BaseException:
            session.close()
            raise
        self._spent += self.session.traffic
        self.session, self.hello = session, hello
