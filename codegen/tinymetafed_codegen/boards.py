"""Boards: the facts of each, read from a project's boards/NAME.json or from ours, shared by codegen, build and launcher."""

from __future__ import annotations

import configparser
import difflib
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

# Reserved when RAM is budgeted: at least 2,048 of stack, the guard below it, alignment. Of the stack, learning takes up to
# 756 on mps2 (bench memory); the rest is for sample sources.
STACK_BYTES = 4096
MAX_NAME = 15  # characters of a board's name: 16 bytes on the wire, the last one 0
# What our own builder reads of a board that no vendor's builder builds, by toolchain: lists of texts, and texts.
_BUILDER_LISTS = {
    "gcc": ("machine_flags", "link_flags"),
    "xtensa": ("machine_flags", "link_flags", "target_features", "assembler_flags"),
}
_BUILDER_TEXTS = {"gcc": ("optimization",), "xtensa": ("optimization", "compiler", "assembler", "freestanding_headers")}


class BoardError(UsageError):
    """An unknown board or an unusable board file."""


class BoardWarning(UserWarning):
    """A board file that is left out, or that stands in place of one of ours."""


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

    ``file`` is its JSON; ``project`` the folder of the user's project that has it, None where it is one of ours. ``ports``
    are the folders of port/ that are compiled for it, ``main`` is its main program in firmware/app/.
    A ``real`` board is flashed; any other one is started here, by its ``emulator`` or, where that is None, as a process.
    ``machine_flags`` are the compiler's for the processor, none where the vendor's package has them all; what every board
    shares is in boards/platform/flags.json. ``optimization`` is the compiler's level, None where the vendor's package chooses
    it. ``usb`` names what has a USB vendor and product id: the board in its different states, or a bridge that it comes with.
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

    def missing_tools(self) -> list[Requirement]:
        """What building for it and running it needs and this machine lacks."""
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
        """Where the sources of one of its ``ports`` are: in its project, else in our firmware/; that may be missing."""
        own = None if self.project is None else self.project / "port" / port
        return own if own is not None and own.is_dir() else find("firmware") / "port" / port

    def cannot_build(self) -> str:
        """What building its firmware lacks beside tools, and what to do; "" where port and environment are there."""
        for port in self.ports:
            if not any(path.is_file() for path in self.port_folder(port).glob("*")):
                own = f"{self.project / 'port' / port} nor " if self.project is not None else ""
                ours = find("firmware") / "port" / port
                return (
                    f"{self.file}: 'ports' names '{port}', and there are no sources in {own}{ours}; write the port there, or "
                    "name one that is there: firmware/core/port.hpp says what a port implements"
                )
        return self._environment_trouble()

    def _environment_trouble(self) -> str:
        """That PlatformIO has no environment for it, and what to do."""
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
    """The boards that can be named: those in boards/ of a user's ``project``, where there is one, then ours."""

    project: Path | None = None

    @classmethod
    def near(cls, *places: Path) -> Catalogue:
        """Of the first project that one of the folders lies in: a folder with boards/*.json, the place itself or above it."""
        for place in places:
            for folder in (place.resolve(), *place.resolve().parents):
                if _is_ours(folder):
                    break
                if any((folder / "boards").glob("*.json")):
                    return cls(folder)
        return cls()

    def files(self) -> dict[str, Path]:
        """The JSON of each board, by the board's name; whether it can be used is another question."""
        folders = [find("boards")] if self.project is None else [find("boards"), self.project / "boards"]
        found = {path.stem: path for folder in folders for path in folder.glob("*.json")}  # the project's replace ours
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """All boards that have a file, by name."""
        return list(self.files())

    def load(self, name: str) -> Board:
        """Reads a board's JSON.

        Args:
            name: The board's name, or the path of a JSON file.

        Raises:
            BoardError: There is none, and the nearest name is said; or file, line and key of what cannot be used.
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
        """Every board whose file can be used, by name."""
        return [board for board in map(self._loaded, self.names()) if isinstance(board, Board)]

    def unusable(self) -> list[BoardError]:
        """Why each other board's file cannot be used."""
        return [error for error in map(self._loaded, self.names()) if isinstance(error, BoardError)]

    def in_place_of_ours(self) -> list[Board]:
        """The project's boards that have the name of one of ours."""
        ours = INSTALLED.files()
        return [board for board in self.usable() if board.project is not None and board.name in ours]

    def _loaded(self, name: str) -> Board | BoardError:
        try:
            return self.load(name)
        except BoardError as error:
            return error


INSTALLED = Catalogue()  # ours alone


def around(experiment: str | Path) -> Catalogue:
    """The boards for an experiment's file: of the project that it lies in, else of the working directory's, then ours.

    Warns (BoardWarning) of files that cannot be used, and of those that stand in place of ours.
    """
    found = Catalogue.near(Path(experiment).parent, Path.cwd())
    for error in found.unusable():
        warnings.warn(BoardWarning(str(error)), stacklevel=2)
    for board in found.in_place_of_ours():
        warnings.warn(BoardWarning(f"{board.file}: used in place of our board '{board.name}'"), stacklevel=2)
    return found


def names() -> list[str]:
    """Our boards, by name."""
    return INSTALLED.names()


def usable() -> list[Board]:
    """Our boards whose file can be used, by name."""
    return INSTALLED.usable()


def load(name: str) -> Board:
    """One of our boards. Raises BoardError."""
    return INSTALLED.load(name)


def missing_tools(name: str) -> list[Requirement]:
    """What building for one of our boards and running it needs and this machine lacks. Raises BoardError."""
    return load(name).missing_tools()


def read(file: Path) -> Board:
    """Reads a board's JSON. Raises BoardError naming file, line and key."""
    try:
        return _board(file.absolute(), json_facts.read(file))
    except FactsError as error:
        raise BoardError(f"{file}: not a usable board file: {error}; docs/boards.md says what belongs there") from None


def environments(file: Path) -> dict[str, str]:
    """The board of each PlatformIO environment, by the environment's name.

    Args:
        file: Our environments.ini; or a project's platformio.ini, which PlatformIO reads together with ours, then with the
            project's boards/environments.ini and the files that its extra_configs name.

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


def _is_ours(folder: Path) -> bool:
    """Whether it is a checkout of ours or the data folder of an installation."""
    return (folder / "firmware" / "core" / "port.hpp").is_file()


def _board(file: Path, manifest: Facts) -> Board:
    name, facts, build = file.stem, manifest.object_of("tinymetafed"), manifest.object_of("build")
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}", name):
        raise FactsError(f"the file's name is '{name}', expected up to {MAX_NAME} letters, digits, - and _ before .json")
    for key in ("url", "vendor"):  # PlatformIO wants them
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
        toolchain_prefix=facts.text_of("toolchain_prefix"),
        machine_flags=facts.words("machine_flags") if "machine_flags" in facts else (),
        optimization=facts.text_of("optimization") if "optimization" in facts else None,
        emulator=None if facts.raw("emulator") is None else facts.words("emulator", least=1),
        serial=facts.words("serial"),
        unique_id=facts.words("unique_id"),
        requirements=tuple(_requirements(facts)),
        line=_line(facts.object_of("line")),
        usb=_usb(build, facts),
    )
    facts.checked("emulator", not real or board.emulator is None, "null, for a real board is not started here")
    return board


def _check_builder(file: Path, facts: Facts) -> None:
    """What boards/platform/builder reads. Raises FactsError."""
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
    return Chip(facts.text_of("chip"), facts.text_of("core"), facts.count("clock_hz"))


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


def _estimates(facts: Facts, build: Facts) -> Estimates:
    clock = build.text_of("f_cpu").rstrip("L")
    build.checked("f_cpu", clock.isdecimal() and int(clock) > 0, 'a frequency in hertz such as "64000000L"')
    return Estimates(int(clock), facts.pair("cycles_per_mac"), facts.number("volts"), facts.pair("milliamperes"))


def _usb(build: Facts, facts: Facts) -> dict[tuple[int, int], str]:
    """Titles by vendor and product id; the ids stand where PlatformIO looks for them."""
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
    return answer.stdout.strip() != library  # GCC repeats a name that it does not know


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
