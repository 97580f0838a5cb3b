"""Facts of a board, read from boards/NAME.json: the one definition that codegen, build and launcher share."""

from __future__ import annotations

import configparser
import difflib
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UsageError
from .locate import find

# Reserved when RAM is budgeted: at least 2,048 of stack, the guard below it, alignment. Of the stack, learning takes up to
# 756 on mps2 (bench memory); the rest is for sample sources.
STACK_BYTES = 4096
MAX_NAME = 15  # characters of a board's name: 16 bytes on the wire, the last one 0
ENVIRONMENTS = "environments.ini"  # in boards/, for PlatformIO


class BoardError(UsageError):
    """An unknown board or an unusable board file."""


@dataclass(frozen=True)
class Requirement:
    """What a board needs here: a command, or a library that the compiler must find.

    It comes in a Debian ``package``, or ``download`` is the page that has it. Not ``to_build``: only to run what was built.
    """

    name: str
    is_command: bool
    purpose: str
    package: str | None
    download: str | None
    to_build: bool


def remedy(needs: Sequence[Requirement]) -> str:
    """What brings them all here, for a message."""
    packages = " ".join(dict.fromkeys(need.package for need in needs if need.package is not None))
    steps = [f"`sudo apt install {packages}`"] if packages else []
    steps += [f"put `{need.name}` on the PATH, from {need.download}" for need in needs if need.download is not None]
    return "; ".join(steps)


def shortage(needs: Sequence[Requirement]) -> str:
    """That they are missing, what each is for and what brings it here, for a message."""
    return f"missing {', '.join(f'{need.name} ({need.purpose})' for need in needs)}; {remedy(needs)}"


@dataclass(frozen=True)
class Chip:
    """The chip on a board, or the one that an emulated board stands for: its processor core and clock."""

    chip: str
    core: str
    clock_hz: int


@dataclass(frozen=True)
class Line:
    """How a board wants its serial line opened; DTR and RTS are set before that, so that opening it reboots nothing.

    Both on suits most boards. Some are silent without DTR. Others, as most ESP32 kits, reset when the two differ: POSIX
    systems raise both at once when a port opens, and whoever then lowers them one after the other makes them differ.
    """

    baud: int = 115200
    dtr: bool = True
    rts: bool = True
    settle_seconds: float = 0.0  # what comes so soon after opening is a boot banner


@dataclass(frozen=True)
class Estimates:
    """What time and energy of a real board are estimated from; docs/boards.md says where it is from. Pairs are (low, high)."""

    clock_hz: int
    cycles_per_mac: tuple[float, float]  # of a training step's multiply-accumulates, all that goes with them included
    volts: float
    milliamperes: tuple[float, float]  # of the chip while its processor runs


@dataclass(frozen=True)
class Board:
    """A board's facts.

    A ``real`` board is flashed; any other one is started here, by its ``emulator`` or, where that is None, as a process.
    ``machine_flags`` are the compiler's for the processor, none where the vendor's package has them all; what every board
    shares is in boards/platform/flags.json. ``optimization`` is the compiler's level, None where the vendor's package chooses
    it. ``usb`` names what has a USB vendor and product id: the board in its different states, or a bridge that it comes with.
    """

    name: str
    title: str
    real: bool
    ram_bytes: int
    flash_bytes: int
    receive_window: int
    ticks_per_second: int
    float_registers: int
    stands_for: Chip | None
    estimates: Estimates | None
    toolchain_prefix: str
    machine_flags: tuple[str, ...]
    optimization: str | None
    emulator: tuple[str, ...] | None
    serial: tuple[str, ...]
    unique_id: tuple[str, ...]
    requirements: tuple[Requirement, ...]
    line: Line
    usb: dict[tuple[int, int], str]

    @property
    def kind(self) -> str:
        """What device URLs call a process that runs this board: ``native``, or its emulator: ``qemu``, ``renode``."""
        return "native" if self.emulator is None else self.emulator[0].partition("-")[0]


def names() -> list[str]:
    """All boards that have a file, by name; whether it can be used is another question."""
    return sorted(path.stem for path in find("boards").glob("*.json"))


def usable() -> list[Board]:
    """Every board whose file can be used, by name."""
    return [board for board in map(_loaded, names()) if isinstance(board, Board)]


def unusable() -> list[BoardError]:
    """Why each other board's file cannot be used."""
    return [error for error in map(_loaded, names()) if isinstance(error, BoardError)]


def _loaded(name: str) -> Board | BoardError:
    try:
        return load(name)
    except BoardError as error:
        return error


def load(name: str) -> Board:
    """Reads boards/NAME.json. Raises BoardError naming the file, or the nearest board when there is none."""
    if name not in (known := names()):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
        raise BoardError(f"no board '{name}'; {hint}")
    path: Path = find("boards") / f"{name}.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        facts = manifest["tinymetafed"]
        return Board(
            name=_checked("name", name, 0 < len(name) <= MAX_NAME, f"a file name of up to {MAX_NAME} characters"),
            title=_text(manifest, "name"),
            real=_checked("real", real := facts.get("real", False), isinstance(real, bool), "true or false"),
            ram_bytes=_count(facts, "ram_bytes"),
            flash_bytes=_count(facts, "flash_bytes"),
            receive_window=_count(facts, "receive_window"),
            ticks_per_second=_count(facts, "ticks_per_second"),
            float_registers=_count(facts, "float_registers", least=0),
            stands_for=Chip(**facts["stands_for"]) if "stands_for" in facts else None,
            estimates=_estimates(manifest),
            toolchain_prefix=_text(facts, "toolchain_prefix"),
            machine_flags=_words(facts, "machine_flags") if "machine_flags" in facts else (),
            optimization=_text(facts, "optimization") if "optimization" in facts else None,
            emulator=None if facts["emulator"] is None else _words(facts, "emulator", least=1),
            serial=_words(facts, "serial"),
            unique_id=_words(facts, "unique_id"),
            requirements=tuple(_requirements(facts)),
            line=_line(facts),
            usb={
                (int(vendor, 16), int(product, 16)): title
                for (vendor, product), title in zip(
                    manifest["build"].get("hwids", ()), facts.get("usb", ()), strict=True
                )  # PlatformIO looks for the ids there
            },
        )
    except OSError as error:
        why = error.strerror or str(error)
    except KeyError as error:
        why = f"{error} is missing"
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        why = str(error)
    raise BoardError(f"{path}: not a usable board file: {why}; docs/boards.md says what belongs there")


def _checked(key: str, value: Any, fits: bool, expected: str) -> Any:
    if not fits:
        raise ValueError(f"'{key}' is {value!r}, expected {expected}")
    return value


def _text(facts: Any, key: str) -> str:
    value = facts[key]
    return str(_checked(key, value, isinstance(value, str), "a text"))


def _count(facts: Any, key: str, least: int = 1) -> int:
    value = facts[key]
    return int(_checked(key, value, type(value) is int and value >= least, f"a whole number from {least} on"))


def _words(facts: Any, key: str, least: int = 0) -> tuple[str, ...]:
    value = facts[key]
    fits = isinstance(value, list) and len(value) >= least and all(isinstance(word, str) for word in value)
    return tuple(_checked(key, value, fits, "a list of texts"))


def environments() -> dict[str, str]:
    """The board of each PlatformIO environment in boards/environments.ini, by the environment's name. Raises BoardError."""
    path = find("boards") / ENVIRONMENTS
    file = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";", "#"))
    try:
        file.read_string(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise BoardError(f"{path}: cannot be read: {error}") from None
    found = [section for section in file.sections() if section.startswith("env:")]
    return {section.removeprefix("env:"): file.get(section, "board", fallback="") for section in found}


def environment_trouble(name: str) -> str:
    """What PlatformIO's environment of a board lacks; "" where it is there and for this board. Raises BoardError."""
    board = environments().get(name)
    if board == name:
        return ""
    what = f"has no [env:{name}]" if board is None else f"has board = {board} in [env:{name}]"
    return f"{find('boards') / ENVIRONMENTS} {what}"


def environment_remedy(name: str) -> str:
    """What to do about it, for a message."""
    return f"write [env:{name}] with board = {name} there, like the boards that it has"


def _line(facts: dict[str, Any]) -> Line:
    line = Line(**facts["line"])
    _count(vars(line), "baud")
    for key in ("dtr", "rts"):
        _checked(key, vars(line)[key], isinstance(vars(line)[key], bool), "true or false")
    _checked("settle_seconds", line.settle_seconds, isinstance(line.settle_seconds, int | float), "a number")
    return line


def _estimates(manifest: dict[str, Any]) -> Estimates | None:
    facts = manifest["tinymetafed"].get("estimates")
    if facts is None:
        return None
    cycles, current = ((float(pair[0]), float(pair[1])) for pair in (facts["cycles_per_mac"], facts["milliamperes"]))
    clock_hz = int(manifest["build"]["f_cpu"].rstrip("L"))
    return Estimates(_checked("f_cpu", clock_hz, clock_hz > 0, "a frequency"), cycles, float(facts["volts"]), current)


def missing_tools(name: str) -> list[Requirement]:
    """What building for a board and running it needs and this machine lacks. Raises BoardError."""
    board = load(name)
    compiler = shutil.which(f"{board.toolchain_prefix}g++")
    found = []
    for need in board.requirements:
        if need.is_command:
            there = shutil.which(need.name) is not None
        else:
            there = compiler is not None and _compiler_finds(compiler, need.name)
        if not there:
            found.append(need)
    return found


def _compiler_finds(compiler: str, library: str) -> bool:
    answer = subprocess.run([compiler, f"-print-file-name={library}"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() != library  # GCC repeats a name that it does not know


def _requirements(facts: dict[str, Any]) -> Iterator[Requirement]:
    emulator = facts["emulator"][0] if facts["emulator"] else None
    for source in ("debian_packages", "downloads"):
        for origin, need in facts.get(source, {}).items():
            package, download = (origin, None) if source == "debian_packages" else (None, origin)
            name = need["command"] if "command" in need else need["library"]
            yield Requirement(name, "command" in need, need["for"], package, download, to_build=name != emulator)
