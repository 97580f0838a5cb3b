"""Starts devices from their URLs: opens serial ports, and runs native or emulated boards as child processes."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
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

from .device import Device, Reconnection
from .link.clock import SYSTEM_CLOCK, Clock
from .link.exchange import RETRIES
from .link.faults import FaultError, FaultPlan, Injector
from .link.link_errors import LaunchError, LinkError, PortError, WrongFirmware
from .link.record import Recorder
from .link.session import Session, board_name
from .link.transport import Transport, open_transport, ready
from .usb import line_of, other_ports, start_seconds_of

DEFAULT_BOARDS = {"native": "native", "qemu": "mps2", "renode": "nrf52840"}
ICOUNT = ("-icount", "shift=10")  # one instruction = 2^10 ns of virtual time, whatever the host's load
PROCESS_RETRIES = 6  # more than for a board: a process that does not answer waits for a core more often than it loses a frame
STOP_SECONDS = 2.0
_POLL_SECONDS = 0.1  # how often the clock is read while waiting for a process's output
LONGEST_STORE = 300  # bytes of a folder's path; boards have room for 384, with the file's name
STORAGE_VARIABLE = "TINYMETAFED_STORAGE"  # names the file that stands for the flash of a native process
REPLAY_VARIABLE = "TINYMETAFED_REPLAY"  # names the file that stands for its sensor
REPLAY_SUFFIX = ".rows"  # behind the path of the file that stands for an emulated board's flash: the one for its sensor
_OPTION = re.compile(r"(store|replay)=(.+?)(?=&(?:store|replay)=|$)")
FILES_PER_PROCESS = 5  # open files of the host per process: pipes, diagnostics, the line, and a share of its own

# Kills the processes when the host is gone: standard input is a pipe from the host, which ends however the host ended.
# "stop" removes a process that was replaced, because another process may have its number by then.
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
    """An invalid device URL; wrong usage."""


class EmulatorMissing(LaunchError):
    """The board's emulator is not installed."""


@dataclass(frozen=True)
class DeviceSpec:
    """A parsed device URL: ``count`` processes of ``kind`` that run ``board``; or a serial port, without ``board``.

    ``declared`` is the board on a serial port, if the URL names it. ``store`` is the folder for the files that stand for the
    flash of processes; None: files that are removed at the end. ``replay`` is the recording, or a folder of them, that stands
    for their sensors.
    """

    url: str
    kind: str
    board: str | None = None
    count: int = 1
    declared: str | None = None
    store: Path | None = None
    replay: Path | None = None


def parse(urls: Sequence[str], boards: Catalogue = INSTALLED) -> list[DeviceSpec]:
    """Parses device URLs.

    Args:
        urls: Each is ``native:N``, ``qemu:N`` or ``renode:N``, with or without ``@BOARD`` and then ``?store=DIR``,
            ``?replay=FILE|DIR`` or both with ``&`` between them; or a serial PORT or PORT@BOARD.
        boards: The known boards.

    Returns:
        One specification per URL.

    Raises:
        DeviceUrlError: A URL is invalid.
        BoardError: The file of a named board cannot be used.
    """
    found: list[DeviceSpec] = []
    for url in urls:
        kind, colon, rest = url.partition(":")
        if kind in DEFAULT_BOARDS:
            found.append(_parse_process(url, kind, rest, boards))
        elif not url or (colon and re.fullmatch(r"\w+", kind) and re.fullmatch(r"-?\d+([@?].*)?", rest)):
            near = get_close_matches(kind, DEFAULT_BOARDS, n=1)
            expected = "expected native:N, qemu:N, qemu:N@BOARD, renode:N or a serial port"
            hint = f"did you mean '{near[0]}:{rest}'?" if near else expected
            raise DeviceUrlError(f"device '{url}': {hint}")
        elif url in boards.names():
            known = boards.load(url)
            hint = f"PORT@{url}, with the port that it is on" if known.real else f"{known.kind}:1@{url}"
            raise DeviceUrlError(f"device '{url}': this is a board's name; give {hint}")
        else:
            if option := re.search(r"\?(store|replay)=", url):
                raise DeviceUrlError(
                    f"device '{url}': {option[1]}= is for boards that are started now, native:N and qemu:N; a board on a port "
                    "has a flash and a sensor of its own, so leave it out"
                )
            at = _AT_BOARD.fullmatch(url)
            declared = None if at is None else _known_board(url, at[2], boards)
            spec = DeviceSpec(url if at is None else at[1], "serial", declared=declared)
            if any(other.url == spec.url for other in found):
                raise DeviceUrlError(f"device '{url}': given twice; name each port once")
            found.append(spec)
    return found


def _known_board(url: str, board: str, boards: Catalogue) -> str:
    if board in boards.names():
        return boards.load(board).name  # reports an unusable board file before anything starts
    near = get_close_matches(board, boards.names(), n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(boards.names())}"
    raise DeviceUrlError(f"device '{url}': no board '{board}'; {hint}")


def _parse_process(url: str, kind: str, rest: str, boards: Catalogue) -> DeviceSpec:
    rest, has_options, options = rest.partition("?")
    folders = {match[1]: Path(match[2]).resolve() for match in _OPTION.finditer(options)}
    if has_options and "&".join(match[0] for match in _OPTION.finditer(options)) != options:
        raise DeviceUrlError(
            f"device '{url}': expected store=DIR after ?, a folder for what boards keep over a reset, or replay=DIR, the "
            "recordings that they take for their sensors, or both with & between them"
        )
    if twice := [name for name in folders if len(re.findall(rf"(?:^|&){name}=", options)) > 1]:
        raise DeviceUrlError(f"device '{url}': {twice[0]}= is given twice; name one folder")
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
    if "replay" in folders and not boards.load(board).replays:
        raise DeviceUrlError(
            f"device '{url}': board '{board}' cannot read recordings in {kind}, only in QEMU or as a native process; leave "
            "replay= out, or use qemu or native"
        )
    return DeviceSpec(url, kind, board, int(match[1]), store=folders.get("store"), replay=folders.get("replay"))


@contextmanager
def launch(
    specs: Sequence[DeviceSpec],
    firmware: Callable[[str], Path],
    *,
    boards: Catalogue = INSTALLED,
    recordings: Callable[[DeviceSpec], Sequence[bytes]] | None = None,
    icount: bool = False,
    options: Sequence[str] = (),
    faults: FaultPlan | None = None,
    record: Path | None = None,
    check: Callable[[Device], None] | None = None,
    start: float | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[list[Device]]:
    """Starts or opens all devices in parallel and waits for their Hello; always closes and stops them at the end.

    Args:
        specs: Parsed device URLs.
        firmware: Gives the program for a board's name; called once per board that runs as a process.
        boards: The known boards.
        recordings: Reads what the boards of a URL with ``replay`` replay, a file's content for each.
        icount: Emulators count instructions exactly.
        options: Further options of the emulators.
        faults: Faults to inject between host and devices.
        record: File to record every byte in.
        check: Called for each device now and after every reconnection.
        start: Seconds that each may take to answer; None: the ``start_seconds`` of its board, for a process those of
            ``start_seconds``, which depend on the number of processes.
        clock: Clock to measure time with.

    Yields:
        The connected devices, in the order of ``specs``.

    Raises:
        LaunchError: A device cannot be started. EmulatorMissing: its emulator is not installed.
        LinkError: A device does not answer, or ``check`` refuses it.
    """
    if icount and any(spec.kind != "qemu" for spec in specs):
        raise LaunchError("exact instruction counts need QEMU; use qemu:N")
    if faults is not None and faults.reboots:
        for spec in specs:
            if spec.kind == "serial":
                raise FaultError(f"{spec.url}: fault 'reboot' restarts processes, not boards on ports; leave it out")
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder(record, clock)) if record is not None else None
        words = (*(ICOUNT if icount else ()), *options)
        processes = _start_all(stack, specs, firmware, boards, recordings, words, clock)
        numbered = {kind: itertools.count(1) for kind in DEFAULT_BOARDS}
        waiting = iter(processes)
        kinds = {spec.board for spec in specs if spec.board is not None}
        seconds = {name: start_seconds(boards.load(name), len(processes), processor_cores()) for name in kinds}
        ports: list[_ProcessPort | _SerialPort] = []
        for spec in specs:
            for _ in range(spec.count):
                if spec.kind == "serial":
                    ports.append(_SerialPort(spec.url, _Wrapping(faults, recorder, len(ports), clock), spec.declared, boards))
                else:
                    name = f"{spec.kind}#{next(numbered[spec.kind])}"
                    assert spec.board is not None
                    wrapping = _Wrapping(faults, recorder, len(ports), clock)
                    ports.append(_ProcessPort(name, wrapping, next(waiting), seconds[spec.board]))
        with ThreadPoolExecutor(max_workers=max(1, len(ports))) as pool:
            futures = [pool.submit(_greet, stack, port, start, clock) for port in ports]
            devices = [future.result() for future in futures]
        if check is not None:
            for device in devices:
                device.check(check)
        yield devices


def start_seconds(board: Board, processes: int, cores: int) -> float:
    """Seconds that one of several processes, which share the machine's cores, may take from its start to its first answer."""
    return board.start_seconds * max(1.0, processes / cores)


def processor_cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command(board: Board, program: Path, unique_id: str, line: Path, storage: Path | None = None) -> list[str]:
    """The command that runs a device process, which creates a serial line and prints its path.

    Args:
        board: The board.
        program: Its firmware.
        unique_id: The device's unique id, 16 hexadecimal digits.
        line: Path for the serial line, for emulators that need to be given one.
        storage: The file that stands for the board's flash; None if its firmware has no store.

    Returns:
        The command's words.
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
    if storage is not None and board.storage is not None:
        words += board.storage.arguments
        meant["{storage}"] = str(storage).replace(",", ",,")  # QEMU separates options by single commas
    for placeholder, value in meant.items():
        words = [word.replace(placeholder, str(value)) for word in words]
    return words


def announced(said: str) -> str | None:
    """The path of the serial line in a process's standard output, None if it has not been printed yet."""
    match = _ANNOUNCEMENT.search(said)
    return None if match is None else os.path.realpath(match[1])


class _Process:
    """A process that runs a board's firmware; its standard error goes to a file. A restart keeps the unique id."""

    def __init__(self, command: list[str], files: Mapping[str, str], tell: Callable[[str, int], None], clock: Clock) -> None:
        """Starts it.

        Args:
            command: Its program and arguments.
            files: Environment variables that name its files.
            tell: Called with "start" or "stop" and the process's number.
            clock: Clock to measure time with.
        """
        self.clock = clock
        self.program = Path(command[0]).name
        self._command = command
        self._environment = {**os.environ, **files}
        self._tell = tell
        self._start()

    def _start(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by stop()
        # In a session of its own, so that Ctrl-C reaches the host only, which then stops the processes in order.
        try:
            self.popen = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise LaunchError(f"{self._command[0]}: cannot be started: {error}") from error
        self._tell("start", self.popen.pid)

    def restart(self) -> None:
        """Ends it, if it still runs, and starts it again."""
        self.popen.kill()
        self.stop()
        self._tell("stop", self.popen.pid)
        self._start()

    def line(self, until: float) -> str:
        """Waits for the path of its pseudo-terminal. Raises LaunchError when the process ends, or at time ``until``."""
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
        """How it ended and its last output, for an error's text; if it is ``ending``, waits for its end first."""
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
        """Whether it ends within STOP_SECONDS; needed because its line closes shortly before the process ends."""
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP_SECONDS)
        return self.ended

    def stop(self) -> None:
        """Waits for the end of a process that was told to terminate; kills it after STOP_SECONDS."""
        try:
            self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self._errors):
            if stream is not None:
                stream.close()


class _Wrapping:
    """Wraps a line: first the injected faults, then the recorder, which therefore records what the host sees."""

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
    """The pseudo-terminal of a process; the process is restarted when it has ended or does not answer."""

    retries = PROCESS_RETRIES

    def __init__(self, name: str, wrapping: _Wrapping, process: _Process, start: float) -> None:
        self.name = name
        self.start = start
        self.arm = wrapping.arm
        self.injector = wrapping.injector
        self._wrap = wrapping.wrap
        self._process = process
        self._path = ""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self._process.popen

    @property
    def line(self) -> str:
        return self._path

    def open(self, until: float) -> Transport:
        """Opens the line of a process that has just been started."""
        self._path = self._process.line(until)
        return self._reopen()

    def confirm(self, hello: HelloAnswer) -> None:
        """Accepts any answer: the process runs firmware that was built for its board."""

    def reconnections(self) -> Iterator[Reconnection]:
        if not self._process.ended:
            yield Reconnection(lambda: f"answers again on {self._path}", self._reopen)
        yield Reconnection(lambda: f"restarted as {self._path}", self._restart, start_seconds=self.start)

    def explain(self, error: LinkError) -> Exception:
        """A LaunchError if the process has ended, otherwise ``error``."""
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
        self._process.popen.wait()  # otherwise its old line would be tried, which another process may have by then


class _SerialPort:
    """A board's serial port. A lost board is searched on the port that the user gave, then on all other USB ports."""

    process = None
    retries = RETRIES

    def __init__(self, url: str, wrapping: _Wrapping, declared: str | None, boards: Catalogue) -> None:
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


def require(specs: Sequence[DeviceSpec], boards: Catalogue = INSTALLED) -> None:
    """Checks that this machine can start the devices, before anything is built for them.

    Args:
        specs: Parsed device URLs.
        boards: The known boards.

    Raises:
        LaunchError: A device cannot be started. EmulatorMissing: its emulator is not installed.
    """
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
    import resource  # on POSIX only

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if len(wanted) * FILES_PER_PROCESS > allowed:
        raise LaunchError(
            f"{len(wanted):,} devices need {len(wanted) * FILES_PER_PROCESS:,} open files, this shell allows {allowed:,}; "
            "use fewer devices, or raise the limit with `ulimit -n`"
        )


def _start_all(
    stack: ExitStack,
    specs: Sequence[DeviceSpec],
    firmware: Callable[[str], Path],
    boards: Catalogue,
    recordings: Callable[[DeviceSpec], Sequence[bytes]] | None,
    options: Sequence[str],
    clock: Clock,
) -> list[_Process]:
    """Starts every process. ``stack`` stops them; if the host is killed, a watchdog process does."""
    wanted = [(spec.board, spec.store, i) for spec in specs for i in range(spec.count) if spec.board is not None]
    if not wanted:
        return []
    require(specs, boards)
    replayed = [rows for spec in specs if spec.board is not None for rows in _replayed(spec, recordings)]
    known = {name: boards.load(name) for name, _, _ in wanted}
    programs = {name: firmware(name) for name in known}
    watchdog = subprocess.Popen(["/bin/sh", "-c", _WATCHDOG], stdin=subprocess.PIPE, start_new_session=True)
    processes: list[_Process] = []

    def stop_all() -> None:
        for process in processes:
            process.popen.terminate()
        watchdog.kill()  # before other processes can get their numbers
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
    for (name, store, i), rows in zip(wanted, replayed, strict=True):
        unique_id = f"{next(_process_numbers):016x}"
        flash = lines / f"{unique_id}.flash"
        storage = flash if store is None else _kept_in(store) / f"{name}-{i + 1}.flash"
        if store is not None:
            _lock(storage, stack)
        if (facts := known[name].storage) is not None:
            _fill(storage, facts.pages * facts.page_bytes)
        files = {STORAGE_VARIABLE: str(storage), REPLAY_VARIABLE: ""}
        if rows is not None:
            recording = lines / f"{flash.name}{REPLAY_SUFFIX}"
            recording.write_bytes(rows)
            files[REPLAY_VARIABLE] = str(recording)
            if storage != flash:  # an emulated board finds its recording beside its flash
                flash.symlink_to(storage)
                storage = flash
        words = command(known[name], programs[name], unique_id, lines / unique_id, storage)
        processes.append(_Process([*words, *options], files, tell, clock))
    return processes


def _replayed(spec: DeviceSpec, recordings: Callable[[DeviceSpec], Sequence[bytes]] | None) -> Sequence[bytes | None]:
    """What each board of a URL replays; None for one that replays nothing. Raises LaunchError."""
    if spec.replay is None:
        return [None] * spec.count
    if recordings is None:
        raise LaunchError(f"device '{spec.url}': this command starts boards without sensors; leave replay= out")
    return recordings(spec)


def _kept_in(store: Path) -> Path:
    """The folder of a device URL's store, which is made if it is missing. Raises LaunchError."""
    if len(os.fsencode(store)) > LONGEST_STORE:
        raise LaunchError(
            f"{store}: longer than the {LONGEST_STORE} bytes that an emulated board can read; name another folder"
        )
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"{store}: cannot hold the boards' stores: {error.strerror}; name another folder") from None
    return store


def _fill(storage: Path, size: int) -> None:
    """Makes the file of a board's flash, if it is missing, and fills it with erased flash up to ``size`` bytes."""
    with suppress(OSError), storage.open("ab") as file:  # the board reports that it has no storage
        file.write(b"\xff" * (size - file.tell()))


def _lock(storage: Path, stack: ExitStack) -> None:
    """Keeps other boards and processes off a file of a store until ``stack`` ends. Raises LaunchError if one has it."""
    import fcntl  # on POSIX only

    try:
        file = os.open(storage, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        return  # the board reports that it has no storage
    stack.callback(os.close, file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise LaunchError(
            f"{storage}: another board or process uses it, and two cannot write one file; give all boards in one URL, name "
            "another folder after store=, or wait until the other process has ended"
        ) from None


def _greet(stack: ExitStack, port: _ProcessPort | _SerialPort, start: float | None, clock: Clock) -> Device:
    """Opens the line of one device and asks for its Hello."""
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
