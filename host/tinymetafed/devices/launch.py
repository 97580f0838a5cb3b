"""Devices from their URLs: boards on serial lines, and processes that stand in for boards and die with the host."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import IO

from tinymetafed_codegen.boards import INSTALLED, Board, Catalogue, remedy
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.protocol import HelloAnswer

from .device import Device, Way
from .link.clock import SYSTEM_CLOCK, Clock
from .link.errors import LaunchError, LinkError, PortError, WrongFirmware
from .link.exchange import RETRIES
from .link.faults import FaultError, FaultPlan, Injector
from .link.record import Recorder
from .link.session import START_SECONDS, Session, board_name
from .link.transport import Transport, open_transport, ready
from .usb import line_of, other_ports

DEFAULT_BOARDS = {"native": "native", "qemu": "mps2", "renode": "nrf52840"}
ICOUNT = ("-icount", "shift=10")  # one instruction = 2^10 ns of virtual time, whatever the host's load
# Until a process that runs has answered. One that ends is noticed at once; one that still runs is on a busy machine.
PROCESS_START_SECONDS = 60.0
PROCESS_RETRIES = 6  # a process that runs and does not answer has more likely not been given a core than lost a frame
STOP_SECONDS = 2.0
_POLL_SECONDS = 0.1  # between two looks at the clock while a process says nothing
FILES_PER_PROCESS = 5  # pipes, diagnostics, the line, and what the host has open besides

# Standard input is a pipe from the host. Its end means that the host is gone, however it went, and so must the rest.
# A process that was replaced is struck off, for its number may be another's by then.
_WATCHDOG = """
trap '' INT TERM HUP
pids=' '
while read -r change pid; do
  case $change in
    start) pids="$pids$pid " ;;
    stop) pids="${pids%% $pid *} ${pids#* $pid }" ;;
  esac
done
set -- $pids
[ $# = 0 ] || kill -KILL "$@"
"""
_AT_BOARD = re.compile(r"(/.+|COM\d+|\w+://.+)@([\w-]+)")  # a port, then what is on it
_ANNOUNCEMENT = re.compile(r"\b(?:pty|char device redirected to)\s+(/\S+).*\n")
_process_numbers = itertools.count(1)  # unique ids, also across several launches


class DeviceUrlError(LaunchError, UsageError):
    """A device URL that means nothing; wrong usage."""


class EmulatorMissing(LaunchError):
    """The program that would stand in for the board is not installed."""


@dataclass(frozen=True)
class DeviceSpec:
    """What one URL asks for: ``count`` processes of ``kind`` that run ``board``, or a serial line (no board to start)."""

    url: str
    kind: str
    board: str | None = None
    count: int = 1
    declared: str | None = None  # the board on a serial line, where the URL names it


def parse(urls: Sequence[str], boards: Catalogue = INSTALLED) -> list[DeviceSpec]:
    """``native:N``, ``qemu:N``, ``renode:N``, each with ``@BOARD``, or any serial URL, PORT or PORT@BOARD.

    Raises DeviceUrlError; BoardError where the file of a board of ``boards`` cannot be used.
    """
    found: list[DeviceSpec] = []
    for url in urls:
        kind, colon, rest = url.partition(":")
        if kind in DEFAULT_BOARDS:
            found.append(_parse_process(url, kind, rest, boards))
        elif not url or (colon and re.fullmatch(r"\w+", kind) and re.fullmatch(r"-?\d+(@.*)?", rest)):
            near = get_close_matches(kind, DEFAULT_BOARDS, n=1)
            expected = "expected native:N, qemu:N, qemu:N@BOARD, renode:N or a serial port"
            hint = f"did you mean '{near[0]}:{rest}'?" if near else expected
            raise DeviceUrlError(f"device '{url}': {hint}")
        elif url in boards.names():
            known = boards.load(url)
            hint = f"PORT@{url}, with the port that it is on" if known.real else f"{known.kind}:1@{url}"
            raise DeviceUrlError(f"device '{url}': that is a board; give {hint}")
        else:
            at = _AT_BOARD.fullmatch(url)
            declared = None if at is None else _known_board(url, at[2], boards)
            spec = DeviceSpec(url if at is None else at[1], "serial", declared=declared)
            if any(other.url == spec.url for other in found):
                raise DeviceUrlError(f"device '{url}': given twice; a port serves one session")
            found.append(spec)
    return found


def _known_board(url: str, board: str, boards: Catalogue) -> str:
    if board in boards.names():
        return boards.load(board).name  # a file that cannot be used is named before anything starts
    near = get_close_matches(board, boards.names(), n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(boards.names())}"
    raise DeviceUrlError(f"device '{url}': no board '{board}'; {hint}")


def _parse_process(url: str, kind: str, rest: str, boards: Catalogue) -> DeviceSpec:
    match = re.fullmatch(r"(\d+)(?:@([\w-]+))?", rest)
    if match is None or int(match[1]) == 0:
        raise DeviceUrlError(f"device '{url}': expected a number of devices from 1 on, for instance {kind}:4")
    board = _known_board(url, match[2] or DEFAULT_BOARDS[kind], boards)
    if boards.load(board).real:
        raise DeviceUrlError(f"device '{url}': board '{board}' is a real one; connect it and give its port: PORT@{board}")
    right = boards.load(board).kind
    if kind != right:
        hint = f"{right}:{match[1]}" if board == DEFAULT_BOARDS[right] else f"{right}:{match[1]}@{board}"
        raise DeviceUrlError(f"device '{url}': board '{board}' does not run as {kind}; use {hint}")
    return DeviceSpec(url, kind, board, int(match[1]))


@contextmanager
def launch(
    specs: Sequence[DeviceSpec],
    firmware: Callable[[str], Path],
    *,
    boards: Catalogue = INSTALLED,
    icount: bool = False,
    options: Sequence[str] = (),
    faults: FaultPlan | None = None,
    record: Path | None = None,
    check: Callable[[Device], None] | None = None,
    start: float | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[list[Device]]:
    """Starts and opens all devices and greets them side by side; closes and stops them at the end, whatever happens.

    Args:
        specs: What the device URLs ask for.
        firmware: Gives the program for a board's name; called once per board that runs as a process.
        boards: Those boards, and the ones that ports may be known by.
        icount: Emulators count instructions exactly.
        options: Further options of the emulators.
        faults: What is injected between host and devices.
        record: The file that every byte is written to.
        check: Runs on each device now and whenever it comes back.
        start: Seconds that each may take to answer; None for START_SECONDS on a serial line, PROCESS_START_SECONDS else.
        clock: What time is measured with.

    Raises LaunchError, EmulatorMissing, the session's LinkErrors, and what ``check`` raises.
    """
    if icount and any(spec.kind != "qemu" for spec in specs):
        raise LaunchError("exact instruction counts need QEMU; use qemu:N")
    if faults is not None and faults.reboots:
        for spec in specs:
            if spec.kind == "serial":
                raise FaultError(f"{spec.url}: fault 'reboot' restarts processes, and a board on a port is none; leave it out")
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder(record, clock)) if record is not None else None
        processes = _start_all(stack, specs, firmware, boards, (*(ICOUNT if icount else ()), *options), clock)
        numbered = {kind: itertools.count(1) for kind in DEFAULT_BOARDS}
        waiting = iter(processes)
        ports: list[_ProcessPort | _SerialPort] = []
        for spec in specs:
            for _ in range(spec.count):
                if spec.kind == "serial":
                    ports.append(_SerialPort(spec.url, _Wrapping(faults, recorder, len(ports), clock), spec.declared, boards))
                else:
                    name = f"{spec.kind}#{next(numbered[spec.kind])}"
                    ports.append(_ProcessPort(name, _Wrapping(faults, recorder, len(ports), clock), next(waiting)))
        with ThreadPoolExecutor(max_workers=max(1, len(ports))) as pool:
            futures = [pool.submit(_greet, stack, port, start, clock) for port in ports]
            devices = [future.result() for future in futures]
        if check is not None:
            for device in devices:
                device.check(check)
        yield devices


def command(board: Board, program: Path, unique_id: str, line: Path) -> list[str]:
    """The command that runs ``program`` as the device with this id, 16 hexadecimal digits.

    It makes a serial line and announces its path, which is ``line`` where the emulator wants to be told one.
    """
    started = (str(program), "--exit-with-stdin") if board.emulator is None else board.emulator
    meant = {
        "{program}": program,
        "{boards}": find("boards"),
        "{own}": board.file.parent,
        "{unique_id}": unique_id,
        "{line}": line,
    }
    words = [*started, *board.unique_id, *board.serial]
    for placeholder, value in meant.items():
        words = [word.replace(placeholder, str(value)) for word in words]
    return words


def announced(said: str) -> str | None:
    """The path of the serial line, once a process has said it on its standard output."""
    match = _ANNOUNCEMENT.search(said)
    return None if match is None else os.path.realpath(match[1])


class _Process:
    """A running stand-in for a board, its diagnostics kept in a file; started again it keeps its unique id."""

    def __init__(self, command: list[str], tell: Callable[[str, int], None], clock: Clock) -> None:
        """``tell`` hears of each start and stop, with the process's number."""
        self.clock = clock
        self.program = Path(command[0]).name
        self._command = command
        self._tell = tell
        self._start()

    def _start(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by stop()
        # Its own session: Ctrl-C is for the host, which then stops everybody in order.
        try:
            self.popen = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True
            )
        except OSError as error:
            self._errors.close()
            raise LaunchError(f"{self._command[0]}: cannot be started: {error}") from error
        self._tell("start", self.popen.pid)

    def restart(self) -> None:
        """Ends it, if it still runs, and starts it anew."""
        self.popen.kill()
        self.stop()
        self._tell("stop", self.popen.pid)
        self._start()

    def line(self, until: float) -> str:
        """The path of the pseudo-terminal that it announces. Raises LaunchError when it ends, or at time ``until``."""
        assert self.popen.stdout is not None
        said = ""
        while (path := announced(said)) is None:
            left = until - self.clock.monotonic()
            if not ready(self.popen.stdout.fileno(), min(left, _POLL_SECONDS)):
                if left > 0:
                    continue
                raise LaunchError(f"{self.program}: has announced no serial line; it said {said!r}{self.diagnosis()}")
            data = os.read(self.popen.stdout.fileno(), 4096)
            if not data:
                raise LaunchError(f"{self.program}: ended at its start{self.diagnosis(ending=True)}")
            said += data.decode(errors="replace")
        return path

    def diagnosis(self, *, ending: bool = False) -> str:
        """How it ended and the last it said, for an error's text; one that is ``ending`` is given the time to do so."""
        if ending:
            self.ends()
        code = self.popen.poll()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()[-1000:]
        how = "" if code is None else f" (signal {-code})" if code < 0 else f" (exit code {code})"
        return how + (f": {said}" if said else "")

    @property
    def ended(self) -> bool:
        return self.popen.poll() is not None

    def ends(self) -> bool:
        """Whether it ends by itself within STOP_SECONDS: its line is closed a moment before its end can be seen."""
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP_SECONDS)
        return self.ended

    def stop(self) -> None:
        """Waits for the end of a process that was told to terminate, not for ever."""
        try:
            self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self._errors):
            if stream is not None:
                stream.close()


class _Wrapping:
    """What stands between the host and one line: faults, then the recorder, which notes what the host sees."""

    def __init__(self, faults: FaultPlan | None, recorder: Recorder | None, place: int, clock: Clock) -> None:
        self.clock = clock
        self.injector = Injector(faults, place, clock) if faults is not None else None
        self._recorder = recorder

    def wrap(self, transport: Transport, device: str, reboot: Callable[[], None] | None = None) -> Transport:
        if self.injector is not None:
            transport = self.injector.wrap(transport, reboot)
        return transport if self._recorder is None else self._recorder.wrap(transport, device)

    def arm(self, ready: bool) -> None:
        if self.injector is not None:
            self.injector.armed = ready


class _ProcessPort:
    """The pseudo-terminal of a process; both are made anew when the process has ended or does not answer."""

    start = PROCESS_START_SECONDS
    retries = PROCESS_RETRIES

    def __init__(self, name: str, wrapping: _Wrapping, process: _Process) -> None:
        self.name = name
        self.arm = wrapping.arm
        self.injector = wrapping.injector
        self._wrap = wrapping.wrap
        self._process = process
        self._path = ""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self._process.popen

    def open(self, until: float) -> Transport:
        """Opens the line of a process that was just started."""
        self._path = self._process.line(until)
        return self._reopen()

    def confirm(self, hello: HelloAnswer) -> None:
        """Believes it: the process runs what was built for its board."""

    def ways_back(self) -> Iterator[Way]:
        if not self._process.ended:
            yield Way(lambda: f"answers again on {self._path}", self._reopen)
        yield Way(lambda: f"restarted as {self._path}", self._restart, starts=self.start)

    def explain(self, error: LinkError) -> Exception:
        """A better reason than ``error``, where the process has ended."""
        if not (self._process.ends() if isinstance(error, PortError) else self._process.ended):
            return error
        return LaunchError(f"{self.name}: {self._process.program} ended at its start{self._process.diagnosis()}")

    def _reopen(self) -> Transport:
        return self._wrap(open_transport(self._path, name=f"{self.name} ({self._path})"), self.name, self._kill)

    def _restart(self) -> Transport:
        self._process.restart()
        return self.open(self._process.clock.monotonic() + self.start)

    def _kill(self) -> None:
        self._process.popen.kill()
        self._process.popen.wait()  # so that nobody looks for it on its old line, which may be another's by then


class _SerialPort:
    """A board's serial line, by the name that the user gave or, when it is gone, any USB port where the board answers."""

    process = None
    start = START_SECONDS
    retries = RETRIES

    def __init__(self, url: str, wrapping: _Wrapping, declared: str | None, boards: Catalogue) -> None:
        self.name = self._path = url
        self.arm = wrapping.arm
        self.injector = wrapping.injector
        self._wrap = wrapping.wrap
        self._clock = wrapping.clock
        self._declared = declared
        self._boards = boards

    def open(self, until: float) -> Transport:
        """Opens the line as the board on it needs it."""
        return self._open(self._path)

    def confirm(self, hello: HelloAnswer) -> None:
        """Raises WrongFirmware when the URL names another board than the one that has answered."""
        if self._declared not in (None, board_name(hello)):
            raise WrongFirmware(
                f"{self.name}@{self._declared}: a {board_name(hello)} has answered; give {self.name}@{board_name(hello)}, or "
                f"the port of the {self._declared}"
            )

    def ways_back(self) -> Iterator[Way]:
        was = self._path
        for path in dict.fromkeys((was, self.name)):
            yield Way(partial(self._found, path, was), partial(self._open, path))
        for path in other_ports(was):
            yield Way(partial(self._found, path, was), partial(self._open, path), is_its_own=False)

    def explain(self, error: LinkError) -> Exception:
        """The error itself: nothing more is known of a board."""
        return error

    def _found(self, path: str, was: str) -> str:
        self._path = path
        return "answers again" if path == was else f"is {path} now"

    def _open(self, path: str) -> Transport:
        name = self.name if path == self.name else f"{self.name} ({path})"
        return self._wrap(
            open_transport(path, line=line_of(path, self._declared, self._boards), name=name, clock=self._clock), self.name
        )


def require(specs: Sequence[DeviceSpec], boards: Catalogue = INSTALLED) -> None:
    """Raises LaunchError, or EmulatorMissing, when this machine cannot start the devices; before anything is built for them."""
    wanted = [spec.board for spec in specs for _ in range(spec.count) if spec.board is not None]
    if not wanted:
        return
    if os.name != "posix":
        raise LaunchError("emulated and native devices need pseudo-terminals; use Linux, macOS or WSL, or a board on a port")
    for name in dict.fromkeys(wanted):
        board = boards.load(name)
        if trouble := board.cannot_build():
            raise LaunchError(f"no firmware can be built for board '{name}': {trouble}")
        if board.emulator is not None and shutil.which(board.emulator[0]) is None:
            needs = [need for need in board.requirements if not need.to_build]
            raise EmulatorMissing(
                f"{board.emulator[0]}: not installed, board '{name}' runs in it; {remedy(needs)}, or use native:{len(wanted)}"
            )
    import resource  # POSIX has it

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if len(wanted) * FILES_PER_PROCESS > allowed:
        raise LaunchError(
            f"{len(wanted):,} devices keep {len(wanted) * FILES_PER_PROCESS:,} files open, this shell allows {allowed:,}; "
            "ask for fewer, or raise it with `ulimit -n`"
        )


def _start_all(
    stack: ExitStack,
    specs: Sequence[DeviceSpec],
    firmware: Callable[[str], Path],
    boards: Catalogue,
    options: Sequence[str],
    clock: Clock,
) -> list[_Process]:
    """Starts every process; ``stack`` stops them, and a watchdog does when the host dies without running it."""
    wanted = [spec.board for spec in specs for _ in range(spec.count) if spec.board is not None]
    if not wanted:
        return []
    require(specs, boards)
    known = {name: boards.load(name) for name in dict.fromkeys(wanted)}
    programs = {name: firmware(name) for name in known}
    watchdog = subprocess.Popen(["/bin/sh", "-c", _WATCHDOG], stdin=subprocess.PIPE, start_new_session=True)
    processes: list[_Process] = []

    def stop_all() -> None:
        for process in processes:
            process.popen.terminate()
        watchdog.kill()  # before their numbers are free for others
        watchdog.communicate()
        for process in processes:
            process.stop()

    lock = threading.Lock()

    def tell(change: str, pid: int) -> None:
        assert watchdog.stdin is not None
        with lock:
            watchdog.stdin.write(f"{change} {pid}\n".encode())
            watchdog.stdin.flush()

    lines = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tinymetafed-")))
    stack.callback(stop_all)
    for name in wanted:
        unique_id = f"{next(_process_numbers):016x}"
        words = command(known[name], programs[name], unique_id, lines / unique_id)
        processes.append(_Process([*words, *options], tell, clock))
    return processes


def _greet(stack: ExitStack, port: _ProcessPort | _SerialPort, start: float | None, clock: Clock) -> Device:
    """Opens the line of one device and asks who is there."""
    until = clock.monotonic() + (port.start if start is None else start)
    try:
        transport = port.open(until)
        try:
            session = Session(transport, name=port.name, retries=port.retries, clock=clock)
            hello = session.hello(max(0.0, until - clock.monotonic()))
            port.confirm(hello)
        except BaseException:
            transport.close()
            raise
    except LinkError as error:
        better = port.explain(error)
        raise better from (error if better is not error else None)
    device = Device(port.name, session, hello, port)
    stack.callback(device.close)
    return device
