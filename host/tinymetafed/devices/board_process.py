"""A process of this machine that runs a board's firmware, natively or in an emulator."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.locate import find

from .link.clock import Clock
from .link.link_errors import LaunchError

STOP_SECONDS = 2.0
_LAST_SECONDS = 1.0
_POLL_SECONDS = 0.1  # how often the clock is read while waiting for a process's output
_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # on Windows, where there are no sessions
_ANNOUNCEMENT = re.compile(r"\b(?:(?:pty|char device redirected to)\s+(/\S+)|listen (\d+)).*\n")


def command(
    board: Board, program: Path, unique_id: str, line: Path, storage: Path | None = None, *, tcp: bool = False
) -> list[str]:
    """The command that runs a device process, which creates a serial line and prints its path.

    Args:
        board: The board.
        program: Its firmware.
        unique_id: The device's unique id, 16 hexadecimal digits.
        line: Path for the serial line, for emulators that need to be given one.
        storage: The file that stands for the board's flash; None if its firmware has no store.
        tcp: Whether the line is a TCP port of this machine.

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
    words = [*started, *board.unique_id, *(board.serial_tcp if tcp else board.serial)]
    if storage is not None and board.storage is not None:
        words += board.storage.arguments
        meant["{storage}"] = str(storage).replace(",", ",,")  # QEMU separates options by single commas
    for placeholder, value in meant.items():
        words = [word.replace(placeholder, str(value)) for word in words]
    return words


def announced(said: str) -> str | None:
    """The path or URL of the serial line in a process's standard output, None if it has not been printed yet."""
    match = _ANNOUNCEMENT.search(said)
    if match is None:
        return None
    return os.path.realpath(match[1]) if match[1] else f"socket://127.0.0.1:{match[2]}"


def _read_announcement(output: int, parts: queue.SimpleQueue[bytes]) -> None:
    """Reads until the line is announced; an empty part is the end of the output."""
    said = b""
    while announced(said.decode(errors="replace")) is None:
        try:
            part = os.read(output, 4096)
        except OSError:  # closed meanwhile
            part = b""
        parts.put(part)
        if not part:
            return
        said += part


class BoardProcess:
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
        self._errors: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed by stop()
        # In a session of its own, so that Ctrl-C reaches the host only, which then stops the processes in order.
        try:
            self.popen = subprocess.Popen(
                self._command,
                bufsize=0,  # nothing is written or read through these files, whose buffers would be memory for nothing
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=self._environment,
                start_new_session=True,
                creationflags=_GROUP,
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

    def line(self, until: float, stop: Callable[[], bool] = lambda: False) -> str:
        """The path of its pseudo-terminal, or the URL of its TCP port.

        Raises:
            LaunchError: The process has ended, it is ``until``, or ``stop``.
        """
        assert self.popen.stdout is not None
        parts: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        # By a thread, because on Windows a pipe cannot be waited for with a time limit. The end of the process ends it.
        threading.Thread(target=_read_announcement, args=(self.popen.stdout.fileno(), parts), daemon=True).start()
        said = ""
        while (path := announced(said)) is None:
            stopped = stop()
            left = 0.0 if stopped else until - self.clock.monotonic()
            try:  # at the end for longer: what the process has said may not have been read yet
                data = parts.get(timeout=0 if stopped else _POLL_SECONDS if left > 0 else _LAST_SECONDS)
            except queue.Empty:
                if left > 0:
                    continue
                raise LaunchError(
                    f"{self.program}: has announced no serial line; its output: {said!r}{self.diagnosis()}"
                ) from None
            if not data:
                raise LaunchError(f"{self.program}: exited at start-up{self.diagnosis(ending=True)}")
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
        """Whether it has ended."""
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
