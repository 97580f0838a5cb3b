"""Reads a board's JSON file and checks it, key by key."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from .. import json_facts
from ..json_facts import Facts, FactsError
from ..locate import find
from ..whole_numbers import whole_number
from .board_errors import BoardError
from .board_facts import Board, Chip, CodeSize, Estimates, Line, Storage
from .board_requirements import Requirement

REAL_START_SECONDS, PROCESS_START_SECONDS = 8.0, 60.0  # of boards whose file does not say how long they take to start
MAX_NAME = 15  # characters of a board's name: it has 16 bytes on the wire, of which the last is 0
# The keys that boards/platform/builder reads, by toolchain: lists of texts, and texts. Real boards use their vendor's builder.
_BUILDER_LISTS = {
    "gcc": ("machine_flags", "link_flags"),
    "xtensa": ("machine_flags", "link_flags", "target_features", "assembler_flags"),
}
_BUILDER_TEXTS = {"gcc": ("optimization",), "xtensa": ("optimization", "compiler", "assembler", "freestanding_headers")}


def read(file: Path) -> Board:
    """Reads a board's JSON file. Raises BoardError, which names file, line and key."""
    try:
        return _board(file.absolute(), json_facts.read(file))
    except FactsError as error:
        raise BoardError(f"{file}: not a usable board file: {error}; docs/boards.md says what belongs there") from None


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
        code_size=_code_size(facts.object_of("code_size")) if "code_size" in facts else CodeSize(),
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
        serial_tcp=facts.words("serial_tcp") if "serial_tcp" in facts else (),
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


def _code_size(facts: Facts) -> CodeSize:
    for key in (keys := ("kernels", "int8_kernels", "rest")):
        facts.checked(key, 0 < facts.number(key) < math.inf, "a number above 0")
    return CodeSize(*map(facts.number, keys))


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
    build.checked("f_cpu", bool(whole_number(clock)), 'a frequency in hertz such as "64000000L"')
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
