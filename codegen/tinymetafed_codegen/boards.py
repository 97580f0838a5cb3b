"""Reads the facts of boards from boards/NAME.json, of the user's project or of the installation."""

from __future__ import annotations

import configparser
import difflib
import math
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from . import json_facts
from .errors import UsageError
from .json_facts import Facts, FactsError
from .locate import find

# RAM reserved for the stack (at least 2,048 bytes), the guard below it and alignment. Training uses up to 756 bytes of stack
# on mps2 (`bench memory`); the rest is for sample sources.
REAL_START_SECONDS, PROCESS_START_SECONDS = 8.0, 60.0  # of boards whose file does not say how long they take to start
STACK_BYTES = 4096
MAX_NAME = 15  # characters of a board's name: it has 16 bytes on the wire, of which the last is 0
# The keys that boards/platform/builder reads, by toolchain: lists of texts, and texts. Real boards use their vendor's builder.
_BUILDER_LISTS = {
    "gcc": ("machine_flags", "link_flags"),
    "xtensa": ("machine_flags", "link_flags", "target_features", "assembler_flags"),
}
_BUILDER_TEXTS = {"gcc": ("optimization",), "xtensa": ("optimization", "compiler", "assembler", "freestanding_headers")}


class BoardError(UsageError):
    """The board is unknown or its file is unusable."""


class BoardWarning(UserWarning):
    """A board file of the project is ignored, or replaces the installed board of the same name."""


@dataclass(frozen=True)
class Requirement:
    """Something that a board needs on this machine: a command, or a library that the compiler must find.

    It is in the Debian ``package``, or on the page ``download``. ``to_build``: it is needed to build, not only to run.
    """

    name: str
    is_command: bool
    purpose: str
    package: str | None
    download: str | None
    to_build: bool


def remedy(needs: Sequence[Requirement]) -> str:
    """How to install all of them, for a message."""
    packages = " ".join(dict.fromkeys(need.package for need in needs if need.package is not None))
    steps = [f"`sudo apt install {packages}`"] if packages else []
    steps += [f"put `{need.name}` on the PATH, from {need.download}" for need in needs if need.download is not None]
    return "; ".join(steps)


def missing_message(needs: Sequence[Requirement]) -> str:
    """The message that they are missing: what each is for, and how to install it."""
    return f"missing {', '.join(f'{need.name} ({need.purpose})' for need in needs)}; {remedy(needs)}"


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
                there = compiler is not None and _compiler_finds(compiler, need.name)
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


@dataclass(frozen=True)
class Catalogue:
    """All known boards: those in boards/ of the user's ``project``, if there is one, and the installed ones."""

    project: Path | None = None

    @classmethod
    def near(cls, *places: Path) -> Catalogue:
        """The boards of the first project that contains one of the folders; a project is a folder with boards/*.json."""
        for place in places:
            for folder in (place.resolve(), *place.resolve().parents):
                if _is_installation(folder):
                    break
                if any((folder / "boards").glob("*.json")):
                    return cls(folder)
        return cls()

    def files(self) -> dict[str, Path]:
        """The JSON file of each board, by name, usable or not."""
        folders = [find("boards")] if self.project is None else [find("boards"), self.project / "boards"]
        found = {
            path.stem: path for folder in folders for path in folder.glob("*.json")
        }  # files of the project replace installed ones
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """The names of all boards that have a file."""
        return list(self.files())

    def load(self, name: str) -> Board:
        """Reads a board's JSON.

        Args:
            name: The board's name, or the path of a JSON file.

        Raises:
            BoardError: There is no such board (the text has the nearest name), or its file is unusable (the text has file,
                line and key).
        """
        if name.endswith(".json"):
            return read(Path(name))
        known = self.files()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
            raise BoardError(f"no board '{name}'; {hint}")
        return read(known[name])

    def usable(self) -> list[Board]:
        """All boards with a usable file, sorted by name."""
        return [board for board in map(self._loaded, self.names()) if isinstance(board, Board)]

    def unusable(self) -> list[BoardError]:
        """The errors of all unusable files, sorted by the name of the board."""
        return [error for error in map(self._loaded, self.names()) if isinstance(error, BoardError)]

    def replacing_installed(self) -> list[Board]:
        """The boards of the project that replace an installed board of the same name."""
        installed = INSTALLED.files()
        return [board for board in self.usable() if board.project is not None and board.name in installed]

    def _loaded(self, name: str) -> Board | BoardError:
        try:
            return self.load(name)
        except BoardError as error:
            return error


INSTALLED = Catalogue()  # without a project


def around(experiment: str | Path) -> Catalogue:
    """The boards for an experiment: those of the project around its file, else around the working directory, and the installed.

    Warns (BoardWarning) of unusable files and of files that replace an installed board.
    """
    found = Catalogue.near(Path(experiment).parent, Path.cwd())
    for error in found.unusable():
        warnings.warn(BoardWarning(str(error)), stacklevel=2)
    for board in found.replacing_installed():
        warnings.warn(BoardWarning(f"{board.file}: used in place of our board '{board.name}'"), stacklevel=2)
    return found


def names() -> list[str]:
    """The names of all installed boards."""
    return INSTALLED.names()


def usable() -> list[Board]:
    """All installed boards with a usable file, sorted by name."""
    return INSTALLED.usable()


def load(name: str) -> Board:
    """Reads an installed board. Raises BoardError."""
    return INSTALLED.load(name)


def missing_tools(name: str) -> list[Requirement]:
    """The requirements of an installed board that this machine does not have. Raises BoardError."""
    return load(name).missing_tools()


def read(file: Path) -> Board:
    """Reads a board's JSON file. Raises BoardError, which names file, line and key."""
    try:
        return _board(file.absolute(), json_facts.read(file))
    except FactsError as error:
        raise BoardError(f"{file}: not a usable board file: {error}; docs/boards.md says what belongs there") from None


def environments(file: Path) -> dict[str, str]:
    """The board of each PlatformIO environment, by the environment's name.

    Args:
        file: The installed environments.ini, or the platformio.ini of a project. With the latter PlatformIO also reads the
            installed environments.ini, the project's boards/environments.ini, and the files that its extra_configs name.

    Raises:
        BoardError: A file cannot be read.
    """
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    ours = find("boards") / "environments.ini"
    try:
        parser.read_string(file.read_text(encoding="utf-8"), str(file))
        patterns = re.split(r"[,\n]", parser.get("platformio", "extra_configs", fallback=""))
        extra = [path for pattern in patterns if pattern.strip() for path in sorted(file.parent.glob(pattern.strip()))]
        own = [path for path in [file.parent / "boards" / "environments.ini", *extra] if path.is_file()]
        for each in [ours, *own] if file != ours else []:
            parser.read_string(each.read_text(encoding="utf-8"), str(each))
    except (OSError, ValueError, NotImplementedError, configparser.Error) as error:
        said = " ".join(str(error).split())
        raise BoardError(f"{file}: cannot be read: {said}") from None
    found = [section for section in parser.sections() if section.startswith("env:")]
    return {section.removeprefix("env:"): parser.get(section, "board", fallback="") for section in found}


def _is_installation(folder: Path) -> bool:
    """Whether a folder is a checkout of TinyMetaFed or the data folder of an installed wheel."""
    return (folder / "firmware" / "core" / "port.hpp").is_file()


def _board(file: Path, manifest: Facts) -> Board:
    name, facts, build = file.stem, manifest.object_of("tinymetafed"), manifest.object_of("build")
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}", name):
        raise FactsError(f"the file's name is '{name}', expected up to {MAX_NAME} letters, digits, - and _ before .json")
    for key in ("url", "vendor"):  # PlatformIO requires these keys
        manifest.text_of(key)
    real = facts.flag("real", False)
    if not real:
        _check_builder(file, facts)
    board = Board(
        name=name,
        title=manifest.text_of("name"),
        file=file,
        project=None if file.parent.resolve() == find("boards").resolve() else file.parents[1],
        real=real,
        ports=facts.words("ports", least=1),
        main=facts.text_of("main") if "main" in facts else "main",
        ram_bytes=facts.count("ram_bytes"),
        flash_bytes=facts.count("flash_bytes"),
        receive_window=facts.count("receive_window"),
        ticks_per_second=facts.count("ticks_per_second"),
        float_registers=facts.count("float_registers", least=0),
        stands_for=_chip(facts.object_of("stands_for")) if "stands_for" in facts else None,
        estimates=_estimates(facts.object_of("estimates"), build) if "estimates" in facts else None,
        storage=_storage(facts.object_of("storage")) if "storage" in facts else None,
        entropy=facts.text_of("entropy") if "entropy" in facts else None,
        measures=facts.flag("measures", False),
        toolchain_prefix=facts.text_of("toolchain_prefix"),
        machine_flags=facts.words("machine_flags") if "machine_flags" in facts else (),
        optimization=facts.text_of("optimization") if "optimization" in facts else None,
        emulator=None if facts.raw("emulator") is None else facts.words("emulator", least=1),
        serial=facts.words("serial"),
        unique_id=facts.words("unique_id"),
        requirements=tuple(_requirements(facts)),
        line=_line(facts.object_of("line")),
        start_seconds=_start_seconds(facts, real),
        watchdog_seconds=facts.count("watchdog_seconds") if "watchdog_seconds" in facts else None,
        usb=_usb(build, facts),
    )
    facts.checked("emulator", not real or board.emulator is None, "null, because a real board is not started on this machine")
    return board


def _check_builder(file: Path, facts: Facts) -> None:
    """Checks the keys that boards/platform/builder reads. Raises FactsError."""
    toolchain = facts.text_of("toolchain")
    facts.checked("toolchain", toolchain in _BUILDER_LISTS, " or ".join(f'"{known}"' for known in _BUILDER_LISTS))
    for key in _BUILDER_LISTS[toolchain]:
        facts.words(key)
    for key in _BUILDER_TEXTS[toolchain]:
        facts.text_of(key)
    if facts.raw("linker_script") is not None:
        script = facts.text_of("linker_script")
        there = any((folder / script).is_file() for folder in (file.parent, find("boards")))
        facts.checked("linker_script", there, f"null or a file in {file.parent} or in {find('boards')}")


def _chip(facts: Facts) -> Chip:
    return Chip(facts.text_of("chip"), facts.text_of("core"), facts.count("clock_hz"), _flash_slowdown(facts))


def _line(facts: Facts) -> Line:
    unknown = sorted(set(facts.values) - set(Line.__dataclass_fields__))
    if unknown:
        facts.checked(unknown[0], False, f"only {', '.join(Line.__dataclass_fields__)} in 'line'")
    usual = Line()
    return Line(
        baud=facts.count("baud") if "baud" in facts else usual.baud,
        dtr=facts.flag("dtr", usual.dtr),
        rts=facts.flag("rts", usual.rts),
        settle_seconds=facts.number("settle_seconds") if "settle_seconds" in facts else usual.settle_seconds,
    )


def _start_seconds(facts: Facts, real: bool) -> float:
    if "start_seconds" not in facts:  # boards that users wrote before the key existed
        return REAL_START_SECONDS if real else PROCESS_START_SECONDS
    seconds = facts.number("start_seconds")
    facts.checked("start_seconds", 0 < seconds < math.inf, "a number of seconds above 0")
    return seconds


def _estimates(facts: Facts, build: Facts) -> Estimates:
    clock = build.text_of("f_cpu").rstrip("L")
    build.checked("f_cpu", clock.isdecimal() and int(clock) > 0, 'a frequency in hertz such as "64000000L"')
    slowdown = _flash_slowdown(facts)
    return Estimates(int(clock), facts.pair("cycles_per_mac"), slowdown, facts.number("volts"), facts.pair("milliamperes"))


def _flash_slowdown(facts: Facts) -> tuple[float, float]:
    return facts.pair("flash_slowdown") if "flash_slowdown" in facts else (1.0, 1.0)


def _storage(facts: Facts) -> Storage:
    page, unit = facts.count("page_bytes"), facts.count("write_bytes")
    facts.checked("page_bytes", page % 32 == 0, "a multiple of 32")
    facts.checked("write_bytes", unit in (1, 2, 4, 8, 16, 32), "1, 2, 4, 8, 16 or 32")
    facts.checked("pages", facts.count("pages") >= 2, "a whole number from 2 on: two slots of a page")
    return Storage(
        page_bytes=page,
        write_bytes=unit,
        pages=facts.count("pages"),
        start=facts.count("start", least=0),
        erase_cycles=None if facts.raw("erase_cycles") is None else facts.count("erase_cycles"),
        source=facts.text_of("source"),
        arguments=facts.words("arguments") if "arguments" in facts else (),
        flash_bytes=facts.count("flash_bytes") if "flash_bytes" in facts else None,
        write_microseconds=facts.pair("write_microseconds") if "write_microseconds" in facts else None,
        erase_milliseconds=facts.pair("erase_milliseconds") if "erase_milliseconds" in facts else None,
    )


def _usb(build: Facts, facts: Facts) -> dict[tuple[int, int], str]:
    """Titles by USB vendor and product id; the ids are in build.hwids, where PlatformIO looks for them."""
    if "hwids" not in build and "usb" not in facts:
        return {}
    titles, pairs = facts.words("usb"), build.raw("hwids")
    fits = isinstance(pairs, list) and all(_is_usb_pair(pair) for pair in pairs)
    build.checked("hwids", fits, 'a list of vendor and product ids such as ["0x2341", "0x805a"]')
    ids = [(int(vendor, 16), int(product, 16)) for vendor, product in cast(list[list[str]], pairs)]
    facts.checked("usb", len(titles) == len(ids), f"a text for each of the {len(ids)} pairs of build.hwids")
    return dict(zip(ids, titles, strict=True))


def _is_usb_pair(pair: object) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(number, str) and re.fullmatch(r"0[xX][0-9a-fA-F]{1,4}", number) for number in pair)
    )


def _compiler_finds(compiler: str, library: str) -> bool:
    answer = subprocess.run([compiler, f"-print-file-name={library}"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() != library  # GCC prints the name itself if it does not find the library


def _requirements(facts: Facts) -> Iterator[Requirement]:
    emulator = facts.words("emulator", least=1)[0] if facts.raw("emulator") is not None else None
    for source in ("debian_packages", "downloads"):
        origins = facts.object_of(source) if source in facts else None
        for origin in origins.values if origins is not None else ():
            assert origins is not None
            need = origins.object_of(origin)
            package, download = (origin, None) if source == "debian_packages" else (None, origin)
            kind = "command" if "command" in need else "library"
            name = need.text_of(kind)
            yield Requirement(name, kind == "command", need.text_of("for"), package, download, to_build=name != emulator)
