"""The two kinds of lines to devices, of processes and of boards on serial ports: how each is opened, lost and found again."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import partial

from tinymetafed_codegen.boards import Catalogue
from tinymetafed_codegen.protocol import HelloAnswer, Status

from .board_process import BoardProcess
from .device import Reconnection
from .link.clock import Clock
from .link.exchange import RETRIES
from .link.faults import FaultPlan, Injector
from .link.link_errors import DeviceRefused, LaunchError, LinkError, PortError, WrongFirmware
from .link.record import Recorder
from .link.session import Session, board_name
from .link.transport import Transport, open_transport
from .usb import line_of, other_ports, start_seconds_of

PROCESS_RETRIES = 6  # more than for a board: a process that does not answer waits for a core more often than it loses a frame


class Wrapping:
    """Wraps a line: first the injected faults, then the recorder, which therefore records what the host sees."""

    def __init__(self, faults: FaultPlan | None, recorder: Recorder | None, place: int, clock: Clock) -> None:
        self.clock = clock
        self.injector = Injector(faults, place, clock) if faults is not None else None
        self._recorder = recorder

    def wrap(self, transport: Transport, device: str, reboot: Callable[[], None] | None = None) -> Transport:
        """The line of ``device`` with faults and recorder; ``reboot`` restarts the device, for the fault of that name."""
        if self.injector is not None:
            transport = self.injector.wrap(transport, reboot)
        return transport if self._recorder is None else self._recorder.wrap(transport, device)

    def arm(self, ready: bool) -> None:
        """Lets faults happen once the device is ready."""
        if self.injector is not None:
            self.injector.armed = ready


class ProcessPort:
    """The pseudo-terminal of a process; the process is restarted when it has ended or does not answer."""

    retries = PROCESS_RETRIES

    def __init__(self, name: str, wrapping: Wrapping, process: BoardProcess, start: float, key: bytes | None = None) -> None:
        """Takes the process of a board; ``key`` is given to it at each start, None for firmware without authentication."""
        self.name = name
        self.key = key
        self.start = start
        self.arm = wrapping.arm
        self.injector = wrapping.injector
        self._wrap = wrapping.wrap
        self._process = process
        self._path = ""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, as the operating system knows it."""
        return self._process.popen

    @property
    def line(self) -> str:
        """The path of the line, as it is now."""
        return self._path

    def open(self, until: float) -> Transport:
        """Opens the line of a process that has just been started."""
        self._path = self._process.line(until)
        if self.key is not None:
            self._give_key(self.key, until)
        return self._reopen()

    def confirm(self, hello: HelloAnswer) -> None:
        """Accepts any answer: the process runs firmware that was built for its board."""

    def reconnections(self) -> Iterator[Reconnection]:
        """The ways to find the device again, in the order in which they are tried."""
        if not self._process.ended:
            yield Reconnection(lambda: f"answers again on {self._path}", self._reopen)
        yield Reconnection(lambda: f"restarted as {self._path}", self._restart, start_seconds=self.start)

    def explain(self, error: LinkError) -> Exception:
        """A LaunchError if the process has ended, otherwise ``error``."""
        if not (self._process.ends() if isinstance(error, PortError) else self._process.ended):
            return error
        return LaunchError(f"{self.name}: {self._process.program} ended at its start{self._process.diagnosis()}")

    def _give_key(self, key: bytes, until: float) -> None:
        """Gives the board its key, before anybody records its line, unless it has another one from somebody else."""
        clock = self._process.clock
        with Session(open_transport(self._path, name=self.name), retries=self.retries, clock=clock) as session:
            session.hello(max(0.0, until - clock.monotonic()))
            try:
                session.enroll(key)
            except DeviceRefused as refusal:
                if refusal.status != Status.BAD_STATE:
                    raise
                self.key = None  # the key file may have the other one

    def _reopen(self) -> Transport:
        return self._wrap(open_transport(self._path, name=f"{self.name} ({self._path})"), self.name, self._kill)

    def _restart(self) -> Transport:
        self._process.restart()
        return self.open(self._process.clock.monotonic() + self.start)

    def _kill(self) -> None:
        self._process.popen.kill()
        self._process.popen.wait()  # otherwise its old line would be tried, which another process may have by then


class SerialPort:
    """A board's serial port. A lost board is searched on the port that the user gave, then on all other USB ports."""

    process = None
    key = None
    retries = RETRIES

    def __init__(self, url: str, wrapping: Wrapping, declared: str | None, boards: Catalogue) -> None:
        self.name = self._path = url
        self.arm = wrapping.arm
        self.injector = wrapping.injector
        self._wrap = wrapping.wrap
        self._clock = wrapping.clock
        self._declared = declared
        self._boards = boards

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
        return self._open(self._path)

    def confirm(self, hello: HelloAnswer) -> None:
        """Raises WrongFirmware if the URL names another board than the one that has answered."""
        if self._declared not in (None, board_name(hello)):
            raise WrongFirmware(
                f"{self.name}@{self._declared}: a {board_name(hello)} has answered; give {self.name}@{board_name(hello)}, or "
                f"the port of the {self._declared}"
            )

    def reconnections(self) -> Iterator[Reconnection]:
        """The ways to find the device again, in the order in which they are tried."""
        was = self._path
        for path in dict.fromkeys((was, self.name)):
            yield Reconnection(partial(self._found_at, path, was), partial(self._open, path))
        for path in other_ports(was):
            yield Reconnection(partial(self._found_at, path, was), partial(self._open, path), is_own_port=False)

    def explain(self, error: LinkError) -> Exception:
        """Returns ``error``: nothing more is known about a board."""
        return error

    def _found_at(self, path: str, was: str) -> str:
        self._path = path
        return "answers again" if path == was else f"is {path} now"

    def _open(self, path: str) -> Transport:
        name = self.name if path == self.name else f"{self.name} ({path})"
        return self._wrap(
            open_transport(path, line=line_of(path, self._declared, self._boards), name=name, clock=self._clock), self.name
        )
