"""The line of a board that runs as a process: how it is opened, lost and found again; and what wraps every line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

from tinymetafed_codegen.protocol import HelloAnswer, Status

from .board_process import BoardProcess
from .device import Reconnection, Stop
from .link.clock import Clock
from .link.faults import FaultPlan, Injector
from .link.link_errors import DeviceRefused, LaunchError, LinkError, PortError
from .link.record import Recorder
from .link.session import Session
from .link.transport import Transport, open_transport

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
    """The line of a process; the process is restarted when it has ended or does not answer."""

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

    def open(self, until: float, stop: Stop = lambda: False) -> Transport:
        """Opens the line of a process that has just been started."""
        self._path = self._process.line(until, stop)
        if self.key is not None:
            self._give_key(self.key, until)
        return self._reopen()

    def confirm(self, hello: HelloAnswer) -> None:
        """Accepts any answer: the process runs firmware that was built for its board."""

    def reconnections(self) -> Iterator[Reconnection]:
        """The ways to find the device again, in the order in which they are tried."""
        if not self._process.ended:
            yield Reconnection(lambda: f"answers again on {self._path}", lambda stop: self._reopen())
        yield Reconnection(lambda: f"restarted as {self._path}", self._restart, start_seconds=self.start)

    def may_be_back(self) -> bool:
        """False: its process can be restarted at any time."""
        return False

    def explain(self, error: LinkError) -> Exception:
        """A LaunchError if the process has ended, otherwise ``error``."""
        if not (self._process.ends() if isinstance(error, PortError) else self._process.ended):
            return error
        return LaunchError(f"{self.name}: {self._process.program} exited at start-up{self._process.diagnosis()}")

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

    def _restart(self, stop: Stop) -> Transport:
        self._process.restart()
        return self.open(self._process.clock.monotonic() + self.start, stop)

    def _kill(self) -> None:
        self._process.popen.kill()
        self._process.popen.wait()  # otherwise its old line would be tried, which another process may have by then
