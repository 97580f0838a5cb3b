"""Devices from their URLs: boards on serial lines, and processes that stand in for boards and die with the host."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO

from tinymetafed_codegen import boards
from tinymetafed_codegen.protocol import HelloAnswer

from .errors import LinkError
from .session import START_SECONDS, Session, board_name
from .transport import DEFAULT_BAUD, open_transport, ready

DEFAULT_BOARDS = {"native": "native", "qemu": "mps2"}
ICOUNT = ("-icount", "shift=10")  # one instruction = 2^10 ns of virtual time, whatever the host's load
EXTRA_START_SECONDS = 0.2  # per process: they share the host's cores while they boot
STOP_SECONDS = 2.0

# Standard input is a pipe from the host. Its end means that the host is gone, however it went, and so must the rest.
_WATCHDOG = 'trap "" INT TERM HUP; while read -r pid; do pids="$pids $pid"; done; [ -z "$pids" ] || kill -KILL $pids'
_ANNOUNCEMENT = re.compile(r"^(?:pty|char device redirected to) (/dev/\S+)", re.MULTILINE)
_process_numbers = itertools.count(1)  # unique ids, also across several launches


class LaunchError(Exception):
    """A device that cannot be started."""


class DeviceUrlError(LaunchError):
    """A device URL that means nothing; wrong usage."""


class EmulatorMissing(LaunchError):
    """The program that would stand in for the board is not installed."""


@dataclass(frozen=True)
class DeviceSpec:
    """What one URL asks for: ``count`` processes of ``kind`` that run ``board``, or a serial line (no board yet)."""

    url: str
    kind: str
    board: str | None = None
    count: int = 1


@dataclass(frozen=True)
class Device:
    """A board that has answered; ``url`` is its port's, or native#1, qemu#2 with the ``process`` that stands in."""

    url: str
    session: Session
    hello: HelloAnswer
    board: str
    process: subprocess.Popen[bytes] | None = None


def parse(urls: Sequence[str]) -> list[DeviceSpec]:
    """``native:N``, ``qemu:N``, ``qemu:N@BOARD``, or any serial URL. Raises DeviceUrlError."""
    found: list[DeviceSpec] = []
    for url in urls:
        kind, colon, rest = url.partition(":")
        if kind in DEFAULT_BOARDS:
            found.append(_parse_process(url, kind, rest))
        elif not url or (colon and re.fullmatch(r"\w+", kind) and re.fullmatch(r"-?\d+(@.*)?", rest)):
            near = get_close_matches(kind, DEFAULT_BOARDS, n=1)
            expected = "expected native:N, qemu:N, qemu:N@BOARD or a serial port"
            hint = f"did you mean '{near[0]}:{rest}'?" if near else expected
            raise DeviceUrlError(f"device '{url}': {hint}")
        elif any(other.url == url for other in found):
            raise DeviceUrlError(f"device '{url}': given twice; a port serves one session")
        else:
            found.append(DeviceSpec(url, "serial"))
    return found


def _parse_process(url: str, kind: str, rest: str) -> DeviceSpec:
    match = re.fullmatch(r"(\d+)(?:@(\w+))?", rest)
    if match is None or int(match[1]) == 0:
        raise DeviceUrlError(f"device '{url}': expected a number of processes from 1 on, for instance {kind}:4")
    board = match[2] or DEFAULT_BOARDS[kind]
    if board not in boards.names():
        near = get_close_matches(board, boards.names(), n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(boards.names())}"
        raise DeviceUrlError(f"device '{url}': no board '{board}'; {hint}")
    if (kind == "qemu") != (boards.load(board).emulator is not None):
        other = f"qemu:{match[1]}@{board}" if kind == "native" else f"native:{match[1]}"
        hint = other if kind == "native" or board == DEFAULT_BOARDS["native"] else "a serial port"
        raise DeviceUrlError(f"device '{url}': board '{board}' does not run as {kind}; use {hint}")
    return DeviceSpec(url, kind, board, int(match[1]))


@contextmanager
def launch(
    specs: Sequence[DeviceSpec],
    firmware: Callable[[str], Path],
    *,
    icount: bool = False,
    baud: int = DEFAULT_BAUD,
    start: float = START_SECONDS,
) -> Iterator[list[Device]]:
    """Starts and opens all devices and greets them side by side; closes and stops them at the end, whatever happens.

    ``firmware`` gives the program for a board's name and is called once per board that runs as a process; ``icount``
    makes emulators count instructions exactly. Raises LaunchError, EmulatorMissing, and the session's LinkErrors.
    """
    if icount and any(spec.kind != "qemu" for spec in specs):
        raise LaunchError("exact instruction counts need an emulator; use qemu:N")
    with ExitStack() as stack:
        processes = _start_all(stack, specs, firmware, icount)
        numbered = {kind: itertools.count(1) for kind in DEFAULT_BOARDS}
        patience = start + EXTRA_START_SECONDS * len(processes)
        waiting = iter(processes)
        lines: list[tuple[str, _Process | None]] = []
        for spec in specs:
            for _ in range(spec.count):
                process = None if spec.kind == "serial" else next(waiting)
                name = spec.url if process is None else f"{spec.kind}#{next(numbered[spec.kind])}"
                lines.append((name, process))
        with ThreadPoolExecutor(max_workers=max(1, len(lines))) as pool:
            futures = [pool.submit(_greet, stack, name, process, baud, patience) for name, process in lines]
            devices = [future.result() for future in futures]
        yield devices


def _command(board: boards.Board, program: Path, unique_id: str) -> list[str]:
    """The command that runs ``program`` as the device with this id, 16 hexadecimal digits."""
    started = (str(program), "--exit-with-stdin") if board.emulator is None else board.emulator
    words = [*started, *board.serial, *board.unique_id]
    return [word.replace("{program}", str(program)).replace("{unique_id}", unique_id) for word in words]


class _Process:
    """A running stand-in for a board, its diagnostics kept in a file."""

    def __init__(self, command: list[str]) -> None:
        self.program = Path(command[0]).name
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by stop()
        # Its own session: Ctrl-C is for the host, which then stops everybody in order.
        self.popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True
        )  # fmt: skip

    def line(self, until: float) -> str:
        """The path of the pseudo-terminal that it announces. Raises LaunchError when it ends, or at time ``until``."""
        assert self.popen.stdout is not None
        said = ""
        while (match := _ANNOUNCEMENT.search(said)) is None or "\n" not in said[match.start() :]:
            if not ready(self.popen.stdout.fileno(), until - time.monotonic()):
                raise LaunchError(f"{self.program}: has announced no serial line; it said {said!r}{self.diagnosis()}")
            data = os.read(self.popen.stdout.fileno(), 4096)
            if not data:
                raise LaunchError(f"{self.program}: ended at its start{self.diagnosis()}")
            said += data.decode(errors="replace")
        return match[1]

    def diagnosis(self) -> str:
        """How it ended and the last it said, for an error's text."""
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(0.2)
        code = self.popen.poll()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()[-1000:]
        how = "" if code is None else f" (signal {-code})" if code < 0 else f" (exit code {code})"
        return how + (f": {said}" if said else "")

    @property
    def ended(self) -> bool:
        return self.popen.poll() is not None

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


def _start_all(stack: ExitStack, specs: Sequence[DeviceSpec], firmware: Callable[[str], Path], icount: bool) -> list[_Process]:
    """Starts every process; ``stack`` stops them, and a watchdog does when the host dies without running it."""
    wanted = [spec.board for spec in specs for _ in range(spec.count) if spec.board is not None]
    if not wanted:
        return []
    if os.name != "posix":
        raise LaunchError("emulated and native devices need pseudo-terminals; use Linux, macOS or WSL, or a board on a port")
    known = {name: boards.load(name) for name in dict.fromkeys(wanted)}
    for name, board in known.items():
        if board.emulator is not None and shutil.which(board.emulator[0]) is None:
            emulator = board.emulator[0]
            package = next((need.package for need in board.requirements if need.command == emulator), emulator)
            raise EmulatorMissing(
                f"{emulator}: not installed, board '{name}' runs in it; "
                f"`sudo apt install {package}`, or use native:{len(wanted)}"
            )
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

    stack.callback(stop_all)
    assert watchdog.stdin is not None
    for name in wanted:
        command = _command(known[name], programs[name], f"{next(_process_numbers):016x}")
        try:
            process = _Process([*command, *(ICOUNT if icount else ())])
        except OSError as error:
            raise LaunchError(f"{command[0]}: cannot be started: {error}") from error
        processes.append(process)
        watchdog.stdin.write(b"%d\n" % process.popen.pid)
        watchdog.stdin.flush()
    return processes


def _greet(stack: ExitStack, name: str, process: _Process | None, baud: int, patience: float) -> Device:
    """Opens the line of one device and asks who is there."""
    until = time.monotonic() + patience
    url = name if process is None else process.line(until)
    try:
        transport = open_transport(url, baud, name=name if url == name else f"{name} ({url})")
        stack.callback(transport.close)
        session = Session(transport, name=name)
        hello = session.hello(max(0.0, until - time.monotonic()))
    except LinkError as error:
        if process is not None and process.ended:
            raise LaunchError(f"{name}: {process.program} ended at its start{process.diagnosis()}") from error
        raise
    return Device(name, session, hello, board_name(hello), process.popen if process is not None else None)
