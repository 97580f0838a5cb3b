"""Checks this machine for what building firmware and using boards needs; the data of `tinymetafed doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports

from tinymetafed_codegen.board.board_errors import BoardError
from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.board.board_requirements import Requirement, remedy
from tinymetafed_codegen.board.boards import INSTALLED, Catalogue

from ..devices.link.transport import group_of, holders
from ..devices.usb import known_usb
from .port_programs import port_programs

MIN_PYTHON = (3, 11)
_HUNG_SECONDS = 60.0  # a program that has not printed its version by then hangs


@dataclass(frozen=True)
class Finding:
    """One checked item; ``detail``: what was found; ``remedy``: if not ``ok``, what to do and what works without it."""

    group: str
    name: str
    ok: bool
    detail: str
    remedy: str = ""


def examine(boards: Catalogue = INSTALLED) -> list[Finding]:
    """Checks everything, group by group: Python, programs, ``boards``, serial ports. Installs and opens nothing."""
    return [*python(), *programs(boards), *all_boards(boards), *serial_ports(boards), *port_takers()]


def python() -> list[Finding]:
    """Checks the interpreter and the packages that this package requires."""
    recent = sys.version_info >= MIN_PYTHON
    remedy = "" if recent else f"use Python {'.'.join(map(str, MIN_PYTHON))} or later"
    found = [Finding("Python", "python", recent, platform.python_version(), remedy)]
    try:
        requirements = importlib.metadata.requires("tinymetafed") or []
    except importlib.metadata.PackageNotFoundError:
        remedy = "`pip install -e .` in the checkout; without it only commands in this folder work"
        return [*found, Finding("Python", "tinymetafed", False, "not installed", remedy)]
    for requirement in requirements:
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        if match is None or "extra ==" in requirement:
            continue
        name = match[0]
        try:
            found.append(Finding("Python", name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding("Python", name, False, "not installed", f"`pip install '{requirement}'`"))
    return found


def programs(boards: Catalogue = INSTALLED) -> list[Finding]:
    """Checks the compilers and emulators that the boards need."""
    needs: dict[str, Requirement] = {}
    users: dict[str, list[str]] = {}
    for board in boards.usable():
        for need in board.requirements:
            if need.is_command:
                needs[need.name] = need
                users.setdefault(need.name, []).append(board.name)
    found = []
    for command, need in sorted(needs.items()):
        path = shutil.which(command)
        detail = f"{path}, {_version(path)}" if path else f"not installed; for {need.purpose}"
        what_to_do = f"{remedy([need])}; {_works_without(users[command], boards)}"
        found.append(Finding("Programs", command, path is not None, detail, "" if path else what_to_do))
    return found


def all_boards(boards: Catalogue = INSTALLED) -> list[Finding]:
    """Checks for each board whether its firmware can be built on this machine and, if it is emulated, run."""
    return [_board(name, boards) for name in boards.names()]


def _board(name: str, boards: Catalogue) -> Finding:
    others = _works_without([name], boards)
    try:
        board = boards.load(name)
        trouble = board.cannot_build()
    except BoardError as error:
        return Finding("Boards", name, False, str(error), f"correct the file, or remove it; {others}")
    own = "" if board.project is None else f"; your own, {board.file}"
    title = f"{board.title}: {_how_it_runs(board)}{own}"
    if trouble:
        what, _, to_do = trouble.rpartition("; ")
        return Finding("Boards", name, False, f"{title}; does not build here: {what}", f"{to_do}; {others}")
    missing = board.missing_tools()
    if not missing:
        return Finding("Boards", name, True, title)
    builds = "builds, does not run here" if not any(tool.to_build for tool in missing) else "does not build here"
    detail = f"{title}; {builds}, missing {', '.join(tool.name for tool in missing)}"
    return Finding("Boards", name, False, detail, f"{remedy(missing)}; {others}")


def serial_ports(boards: Catalogue = INSTALLED) -> list[Finding]:
    """Checks USB serial devices: the probable board, permission to open it, and programs that have it open."""
    found = []
    for port in sorted(list_ports.comports(), key=lambda port: port.device):
        if port.vid is None or port.pid is None:
            continue  # a serial port of the mainboard
        known = known_usb(boards).get((port.vid, port.pid))
        detail = f"{f'{known.title}: {known.board}' if known else port.description} ({port.vid:04x}:{port.pid:04x})"
        users = holders(port.device)
        if sys.platform != "win32" and not os.access(port.device, os.R_OK | os.W_OK):
            remedy = f"`sudo usermod -aG {group_of(port.device)} $USER`, then log in again"
            found.append(Finding("Serial ports", port.device, False, f"{detail}: permission denied", remedy))
        elif users:
            remedy = "close the program that uses it"
            found.append(Finding("Serial ports", port.device, False, f"{detail}: held by {', '.join(users)}", remedy))
        else:
            found.append(Finding("Serial ports", port.device, True, detail))
    if not found:
        remedy = "plug a board in with a cable that carries data; native:4 works without any"
        found.append(Finding("Serial ports", "boards", False, "none attached", remedy))
    return found


def port_takers(root: Path = Path("/")) -> list[Finding]:
    """Programs that take the ports of boards on Linux, where they are installed or running. ``root``: the root folder."""
    found = []
    for program in port_programs(root) if sys.platform.startswith("linux") else []:
        state = "running" if program.running else "installed"
        if program.kept_off:
            found.append(Finding("Serial ports", program.name, True, f"{state}; a udev rule keeps it off some devices"))
        else:
            found.append(Finding("Serial ports", program.name, False, f"{state}; {program.does}", program.remedy))
    return found


def _how_it_runs(board: Board) -> str:
    if board.real:
        return f"real; PlatformIO downloads its toolchain at the first `pio run -e {board.name} -t upload`"
    return "runs as a process" if board.emulator is None else f"runs in {board.emulator[0]}"


def _works_without(lost: list[str], boards: Catalogue) -> str:
    others = [board.name for board in boards.usable() if board.name not in lost and not board.real]
    verb = "is" if len(others) == 1 else "are"
    return f"without it no {', '.join(lost)}" + (f"; {', '.join(others)} {verb} not affected" if others else "")


def _version(path: str) -> str:
    """The version in the first line of `PROGRAM --version`."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_HUNG_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "does not start"
    lines = done.stdout.splitlines()
    match = re.search(r"\d+\.\d+[^\s),]*", lines[0]) if lines else None
    return f"version {match[0]}" if match else "version unknown"
