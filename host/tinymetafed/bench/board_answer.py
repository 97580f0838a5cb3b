"""Starts a program of firmware/bench in a board's emulator, asks it to measure, and returns the line that it answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import serial

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.temporary import temporary_folder

from ..devices.board_process import announced, command
from ..devices.launch import ICOUNT
from . import BenchError

_SECONDS = 120.0  # longest wait for the emulator
_UNIQUE_ID = "0000000000000001"


def ask(program: Path, board: Board, options: Sequence[str] = ()) -> bytes:
    """Sends the program a byte and reads one line.

    Args:
        program: The linked program.
        board: The emulated board.
        options: More options of the emulator.

    Returns:
        The line, or what came of it within 120 seconds.

    Raises:
        BenchError: The emulator ended.
    """
    with temporary_folder("bench") as folder:
        words = [*command(board, program, _UNIQUE_ID, folder / "line"), *ICOUNT, *options]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            assert process.stdout is not None
            said, path = "", None
            while path is None:
                data = os.read(process.stdout.fileno(), 4096)
                if not data:
                    raise BenchError(f"board '{board.name}': the emulator exited at start-up; its output: {said!r}")
                said += data.decode(errors="replace")
                path = announced(said)
            with serial.Serial(path, timeout=_SECONDS) as line:
                line.write(b"\n")
                return bytes(line.readline())
        finally:
            process.kill()
            process.communicate()
