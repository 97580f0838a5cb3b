"""PlatformIO's test runner for the firmware's unit tests: starts the board's process or emulator and reads its output."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import serial
from platformio.test.exception import UnitTestSuiteError
from platformio.test.result import TestCase, TestCaseSource, TestStatus
from platformio.test.runners.base import TestRunnerBase

SILENCE_SECONDS = 300.0  # longest silence during one test
_ANNOUNCEMENT = re.compile(r"\b(?:pty|char device redirected to)\s+(/\S+).*\n")


class CustomTestRunner(TestRunnerBase):  # type: ignore[misc]  # PlatformIO is untyped; it asks for this name
    """Runs all tests of one environment; each becomes one of PlatformIO's test cases."""

    @property
    def board(self) -> str:
        """The environment's board."""
        return str(self.project_config.get(f"env:{self.test_suite.env_name}", "board"))

    @property
    def facts(self) -> dict[str, Any]:
        """The entry "tinymetafed" of the board's JSON."""
        found: dict[str, Any] = self.platform.board_config(self.board).get("tinymetafed")
        return found

    def setup(self) -> None:
        """Refuses a real board before anything is built."""
        if self.platform.is_embedded():
            raise UnitTestSuiteError(
                f"{self.board}: unit tests run on emulated boards and as host processes, not on this board"
            )

    @property
    def runs_here(self) -> bool:
        """Whether this machine has the board's emulator or the board needs none."""
        return self.facts["emulator"] is None or shutil.which(self.facts["emulator"][0]) is not None

    def stage_building(self) -> None:
        """Builds the firmware; skips, with a message, a board whose emulator is missing."""
        if self.runs_here:
            super().stage_building()
        else:
            message = f"{self.facts['emulator'][0]} is not installed; see `tinymetafed doctor`"
            case = TestCase(self.board, TestStatus.SKIPPED, message=message)
            self.test_suite.add_case(case)
            click.echo(case.humanize())

    def stage_testing(self) -> None:
        """Starts the firmware and turns its output into test cases. Raises UnitTestSuiteError when it stops early."""
        if self.options.without_testing or not self.runs_here:
            return
        build_dir = Path(self.project_config.get("platformio", "build_dir"))
        build = build_dir / self.test_suite.env_name
        boards = self.project_config.get("platformio", "boards_dir")
        meant = {"program": build / "firmware.elf", "boards": Path(boards).resolve(), "line": build / "line"}
        command = [*(self.facts["emulator"] or ["{program}", "--exit-with-stdin"]), *self.facts["serial"]]
        pipe = subprocess.PIPE
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen([word.format(**meant) for word in command], stdin=pipe, stdout=pipe, stderr=errors)
            try:
                with serial.Serial(_line_of(process, self.facts["start_seconds"]), timeout=0.1) as line:
                    self._read(_lines(line, process))
            except UnitTestSuiteError as error:
                after = f" after '{self.test_suite.cases[-1].name}'" if self.test_suite.cases else ""
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip()
                raise UnitTestSuiteError(f"{self.board}: {error}{after}" + (f": {said}" if said else "")) from None
            finally:
                process.kill()
                process.communicate()

    def _read(self, lines: Iterator[str]) -> None:
        """Reads lines up to the last, which has the number of tests."""
        began = time.monotonic()
        for line in lines:
            verdict, *words = line.split("\t")
            if verdict == "END":
                if int(words[0]) != len(self.test_suite.cases):
                    raise UnitTestSuiteError(f"{words[0]} tests ran, {len(self.test_suite.cases)} were heard of")
                return
            if verdict not in ("PASSED", "FAILED"):
                raise UnitTestSuiteError(f"expected a test's verdict, got {line!r}")
            place, title, *message = words
            file, _, number = place.rpartition(":")
            case = TestCase(
                title,
                TestStatus[verdict],
                message=message[0] if message else None,
                source=TestCaseSource(file, int(number)),
                duration=time.monotonic() - began,
            )
            began = time.monotonic()
            self.test_suite.add_case(case)
            click.echo(case.humanize())


def _line_of(process: subprocess.Popen[bytes], seconds: float) -> str:
    """The pseudo-terminal that the process announces within so many seconds."""
    assert process.stdout is not None
    until, said = time.monotonic() + seconds, ""
    while (match := _ANNOUNCEMENT.search(said)) is None:
        if not select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
            raise UnitTestSuiteError(f"has announced no serial line in {seconds:g} s; it said {said!r}")
        data = os.read(process.stdout.fileno(), 4096)
        if not data:
            raise UnitTestSuiteError(f"exited at start-up, exit code {process.wait()}")
        said += data.decode(errors="replace")
    return match[1]


def _lines(line: serial.Serial, process: subprocess.Popen[bytes]) -> Iterator[str]:
    """The firmware's output lines; the firmware is sent one byte to ask for each."""
    line.write(b"\n")
    pending, until = b"", time.monotonic() + SILENCE_SECONDS
    while time.monotonic() < until:
        with suppress(OSError):  # SerialException is an OSError: the line is gone because the process has ended
            pending += line.read(line.in_waiting or 1)
        *whole, pending = pending.split(b"\n")
        for text in whole:
            yield text.decode(errors="replace").strip()
            line.write(b"\n")
            until = time.monotonic() + SILENCE_SECONDS
        if not whole and process.poll() is not None:
            raise UnitTestSuiteError(f"the firmware stopped, exit code {process.returncode},")
    raise UnitTestSuiteError(f"the firmware has said nothing for {SILENCE_SECONDS:g} s")
