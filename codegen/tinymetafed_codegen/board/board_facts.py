"""The facts of a board as typed values: chip, line, storage, tools, and where its port is."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ..locate import find
from .board_environments import environments
from .board_requirements import Requirement, compiler_finds

# RAM reserved for the stack (at least 2,048 bytes), the guard below it and alignment. Training uses up to 756 bytes of stack
# on mps2 (`bench memory`); the rest is for sample sources.
STACK_BYTES = 4096


@dataclass(frozen=True)
class Chip:
    """The chip of a board, or the chip that an emulated board represents: its processor core and clock.

    ``flash_slowdown`` is the time of a program in flash divided by its time without wait states: (low, high).
    """

    chip: str
    core: str
    clock_hz: int
    flash_slowdown: tuple[float, float]


@dataclass(frozen=True)
class CodeSize:
    """Flash that code takes on a board, divided by what it takes on a Cortex-M4F: kernels in float32 and int8, and the rest."""

    kernels: float = 1.0
    int8_kernels: float = 1.0
    rest: float = 1.0


@dataclass(frozen=True)
class Line:
    """How the serial port of a board is opened. DTR and RTS are set before, so that the board does not reset.

    Both are on for most boards. Some boards send nothing without DTR. Others, for instance most ESP32 kits, reset when DTR and
    RTS differ: POSIX systems set both when a port opens, so clearing them one after the other would reset the board.
    """

    baud: int = 115200
    dtr: bool = True
    rts: bool = True
    settle_seconds: float = 0.0  # bytes received within this time after opening are a boot message and are discarded


@dataclass(frozen=True)
class Estimates:
    """Figures for estimates of time and energy on a real board; docs/boards.md has their sources. Pairs are (low, high)."""

    clock_hz: int
    cycles_per_mac: tuple[float, float]  # cycles of a training step divided by its multiply-accumulates, without wait states
    flash_slowdown: tuple[float, float]  # time of a program in flash divided by its time without wait states
    volts: float
    milliamperes: tuple[float, float]  # current of the chip while its processor runs

    def seconds(self, multiply_accumulates: float) -> tuple[float, float]:
        """Lowest and highest time of some multiply-accumulates of training, in seconds."""
        low, high = (a * b / self.clock_hz for a, b in zip(self.cycles_per_mac, self.flash_slowdown, strict=True))
        return low * multiply_accumulates, high * multiply_accumulates


@dataclass(frozen=True)
class Storage:
    """The part of a board's flash that a store may use, or the file that stands for it on a board that runs as a process.

    ``page_bytes`` are erased together, ``write_bytes`` written together. ``start`` is the address of the first of ``pages``.
    A page lasts for ``erase_cycles``, as ``source`` says; None: without limit. ``arguments`` tell an emulator the path of the
    file, {storage}. ``flash_bytes`` are left to firmware with a store; None: what lies before ``start``, or on a real board all
    of the board's. ``write_microseconds`` is the time of one write of ``write_bytes``, ``erase_milliseconds`` that of a page,
    as (low, high); None where they are not known.
    """

    page_bytes: int
    write_bytes: int
    pages: int
    start: int
    erase_cycles: int | None
    source: str
    arguments: tuple[str, ...]
    flash_bytes: int | None = None
    write_microseconds: tuple[float, float] | None = None
    erase_milliseconds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Board:
    """The facts of a board.

    ``file`` is its JSON file. ``project`` is the folder of the user's project that has the file; None for an installed board.
    ``ports`` are the folders of port/ that are compiled for it, ``main`` is its main program in firmware/app/. A ``real``
    board is flashed. Any other board is started on this machine, in its ``emulator`` or, where that is None, as a process.
    ``machine_flags`` are compiler flags for the processor, empty where the vendor's package sets them; flags of all boards are
    in boards/platform/flags.json. ``entropy`` names the source of the random bytes that its port gives; None if it has none.
    ``measures``: its port can tell its stack and its supply voltage.
    ``optimization`` is the compiler's level, None where the vendor's package sets it. ``usb``
    has a title for each pair of USB vendor and product id: the board in one of its states, or its USB bridge. It answers
    within ``start_seconds`` of its start; where it is emulated, with a core of this machine for itself. Its port resets it when
    the main loop has not passed for ``watchdog_seconds``; None if the port has no watchdog.
    """

    name: str
    title: str
    file: Path
    project: Path | None
    real: bool
    ports: tuple[str, ...]
    main: str
    ram_bytes: int
    flash_bytes: int
    code_size: CodeSize
    receive_window: int
    ticks_per_second: int
    float_registers: int
    stands_for: Chip | None
    estimates: Estimates | None
    storage: Storage | None
    entropy: str | None
    measures: bool
    toolchain_prefix: str
    machine_flags: tuple[str, ...]
    optimization: str | None
    emulator: tuple[str, ...] | None
    serial: tuple[str, ...]
    serial_tcp: tuple[str, ...]
    unique_id: tuple[str, ...]
    requirements: tuple[Requirement, ...]
    line: Line
    start_seconds: float
    watchdog_seconds: int | None
    usb: dict[tuple[int, int], str]

    @property
    def kind(self) -> str:
        """How device URLs name a process of this board: ``native``, or the emulator, ``qemu`` or ``renode``."""
        return "native" if self.emulator is None else self.emulator[0].partition("-")[0]

    @property
    def replays(self) -> bool:
        """Whether a recording, a file of this machine, can stand for its sensor: where a file stands for its flash."""
        if self.real or self.storage is None:
            return False
        return self.emulator is None or any("{storage}" in word for word in self.storage.arguments)

    def missing_tools(self) -> list[Requirement]:
        """The requirements for building and running that this machine does not have."""
        compiler = shutil.which(f"{self.toolchain_prefix}g++")
        found = []
        for need in self.requirements:
            if need.is_command:
                there = shutil.which(need.name) is not None
            else:
                there = compiler is not None and compiler_finds(compiler, need.name)
            if not there:
                found.append(need)
        return found

    def port_folder(self, port: str) -> Path:
        """The folder of one of its ``ports``: in its project, else in the installed firmware/. It may be missing."""
        own = None if self.project is None else self.project / "port" / port
        return own if own is not None and own.is_dir() else find("firmware") / "port" / port

    def cannot_build(self) -> str:
        """What is wrong with the board's port or PlatformIO environment, and what to do; "" if nothing is."""
        for port in self.ports:
            if not any(path.is_file() for path in self.port_folder(port).rglob("*")):
                own = f"{self.project / 'port' / port} nor " if self.project is not None else ""
                ours = find("firmware") / "port" / port
                return (
                    f"{self.file}: 'ports' names '{port}', and there are no sources in {own}{ours}; write the port there, or "
                    "name one that is there: firmware/core/port.hpp says what a port implements"
                )
        return self._environment_problem()

    def _environment_problem(self) -> str:
        """What is wrong with the board's PlatformIO environment, and what to do; "" if nothing is."""
        file = find("boards") / "environments.ini" if self.project is None else self.project / "platformio.ini"
        if not file.is_file():
            return f"{file}: missing; `tinymetafed new` in an empty folder writes one to copy, with [env:{self.name}] to add"
        board = environments(file).get(self.name)
        if board is not None and board.rpartition("/")[2] == self.name:
            return ""
        what = f"has no [env:{self.name}]" if board is None else f"has board = {board} in [env:{self.name}]"
        kind = "flashed, a platform" if self.real else "offline"
        return f"{file} {what}; write [env:{self.name}] with extends = {kind} and board = {self.name} there"
