"""Boards: their JSON is complete, and each port transfers bytes, sleeps, keeps its id and reports a fault when it stops."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serial
from clocks import HUNG_SECONDS
from processor import share

from tinymetafed.devices.board_process import announced, command
from tinymetafed_codegen.board import board_errors, board_facts, board_requirements, boards
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.protocol import MIN_RECEIVE_WINDOW
from tinymetafed_codegen.rendering import render
from tinymetafed_codegen.toolchain import compiler_flags

BOARDS = [name for name in boards.names() if not boards.load(name).real]  # tests/arduino covers the real boards
UNIQUE_ID = "0123456789abcdef"
OUTSIDE = {  # invalid addresses of emulated boards: null, and the first past the declared flash and RAM
    "mps2": (0x00000000, 0x00100000, 0x20040000),
    "rv32": (0x00000000, 0x80400000, 0x80564000),
    "esp32isa": (0x00000000, 0x00800000, 0x00C50000),
}

# Echoes the bytes that it receives; bytes from 0xF0 on are commands.
ECHO = """
#include "entropy.hpp"
#include "port.hpp"

namespace {
uint32_t overflow_stack(uint32_t depth) {
  volatile uint32_t frame[64];
  frame[0] = depth;
  return depth == 0 ? 0 : overflow_stack(depth + 1) + frame[0];
}
void touch(uintptr_t address) { *reinterpret_cast<volatile uint32_t*>(address) = 1; }
uint8_t next() {
  uint8_t byte;
  while (tmf::port::read(&byte, 1) == 0) tmf::port::wait();
  return byte;
}
void read_all(void* to, size_t size) {
  for (auto* byte = static_cast<uint8_t*>(to); size > 0; --size) *byte++ = next();
}
}  // namespace

int main(int argc, char** argv) {
  using namespace tmf;
  port::init(argc, argv);
  for (;;) {
    uint8_t id[8], answer[64];
    const uint8_t order = next();
    switch (order) {
      case 0xF0: port::unique_id(id); port::write(id, 8); break;
      case 0xF1: { const uint32_t now = port::ticks(); port::write(reinterpret_cast<const uint8_t*>(&now), 4); break; }
      case 0xF2: overflow_stack(1); break;
      case 0xF3: {
        uint32_t address;
        read_all(&address, sizeof address);
        touch(address);
        break;
      }
      case 0xF4: {
        float values[2];
        read_all(values, sizeof values);
        const float quotient = values[0] / values[1];
        port::write(reinterpret_cast<const uint8_t*>(&quotient), sizeof quotient);
        break;
      }
      case 0xF5: {
        uint64_t values[2];
        read_all(values, sizeof values);
        const uint64_t product = values[0] * values[1];
        port::write(reinterpret_cast<const uint8_t*>(&product), sizeof product);
        break;
      }
      case 0xF6: {
        uint8_t secret[32];
        if (port::entropy(secret, sizeof secret)) port::write(secret, sizeof secret);
        break;
      }
      default:
        answer[0] = order;
        port::write(answer, 1 + port::read(answer + 1, sizeof answer - 1));
    }
  }
}
"""


def facts(board: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(find(f"boards/{board}.json").read_text())["tinymetafed"]
    return found


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_is_described_completely(board: str) -> None:
    known = facts(board)
    assert known["receive_window"] >= MIN_RECEIVE_WINDOW
    assert len(board) < 16  # must fit HelloAnswer.board
    assert all((find("firmware/port") / port).is_dir() for port in known["ports"])
    assert (find("boards/platform/builder") / f"{known['toolchain']}.py").is_file()
    assert known["linker_script"] is None or (find("boards") / known["linker_script"]).is_file()
    assert any("{unique_id}" in word for word in known["unique_id"])
    assert known["emulator"] is None or any("{program}" in word for word in known["emulator"])
    needs = [*known["debian_packages"].values(), *known.get("downloads", {}).values()]
    assert all(("command" in need) != ("library" in need) and need["for"] for need in needs)


def test_a_name_that_a_board_says_is_no_path(tmp_path: Path) -> None:
    file = tmp_path / "native.json"
    shutil.copy(boards.load("native").file, file)
    assert boards.INSTALLED.load(str(file)).name == boards.INSTALLED.named("native").name == "native"
    for said in (str(file), "native.json", "", "..", "/dev/stdin.json"):
        with pytest.raises(board_errors.BoardError, match="no board "):
            boards.INSTALLED.named(said)


def test_every_fact_is_explained_and_no_other() -> None:
    table = (find("boards").parent / "docs" / "boards.md").read_text(encoding="utf-8").partition("### The facts")[2]
    explained = {name for row in re.findall(r"(?m)^\| (`[^|]*) \|", table) for name in re.findall(r"`(\w+)`", row)}
    assert {name for board in boards.names() for name in facts(board)} == explained


def test_all_boards_take_the_same_window_so_that_byte_counts_agree() -> None:
    assert len({facts(board)["receive_window"] for board in boards.names()}) == 1


def test_linker_scripts_keep_the_stack_that_codegen_reckons_with() -> None:
    fixed = {
        script.name: re.findall(r"stack_end = stack_start \+ (\d+);", script.read_text())
        for script in find("boards").glob("*.ld")
    }
    assert {name: sizes for name, sizes in fixed.items() if sizes} == {
        name: [str(board_facts.STACK_BYTES)] for name in ("esp32isa.ld", "rv32.ld")
    }


def test_every_build_keeps_the_arithmetic_exact() -> None:
    given = [flag for board in boards.names() for flag in compiler_flags(board)]
    assert "-ffp-contract=off" in given
    assert not {"-ffast-math", "-Ofast", "-funsafe-math-optimizations"} & set(given)


@dataclass(frozen=True)
class Running:
    """A running echo firmware, its line and the path of that line."""

    process: subprocess.Popen[bytes]
    line: serial.Serial
    path: str

    def ask(self, order: bytes, size: int) -> bytes:
        self.line.write(order)
        return self.line.read(size)


@pytest.fixture(scope="module", params=BOARDS)
def echo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A board's name and an echo program for it, built by our platform from an empty core directory."""
    board: str = request.param
    if lacking := boards.missing_tools(board):
        pytest.skip(f"{lacking[0].name} is not installed: {board_requirements.remedy(lacking)}")
    project = tmp_path_factory.mktemp(board)
    shutil.copytree(find("firmware/port"), project / "src" / "port")
    (project / "src" / "main.cpp").write_text(ECHO)
    window = facts(board)["receive_window"]
    about = {"board": boards.load(board), "receive_window": window, "window_reason": "", "command": "the test"}
    header = render("board.hpp.j2", **about)
    (project / "include").mkdir()
    (project / "include" / "board.hpp").write_text(header)
    (project / "platformio.ini").write_text(f"""
[platformio]
boards_dir = {find("boards")}
core_dir = {project}/core
[env:{board}]
platform = symlink://{find("boards")}/platform
platform_packages = tool-scons@symlink://{find("boards")}/tool-scons
board = {board}
build_flags = -I{find("firmware/core")}
build_src_filter = -<*> +<main.cpp> {" ".join(f"+<port/{port}/*>" for port in facts(board)["ports"])}
""")
    built = subprocess.run(
        [sys.executable, "-m", "platformio", "run", "-d", str(project)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return board, project / ".pio" / "build" / board / "firmware.elf"


@contextmanager
def running(board: str, program: Path) -> Iterator[Running]:
    pipe = subprocess.PIPE
    words = command(boards.load(board), program, UNIQUE_ID, program.with_name("line"))
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            assert process.stdout is not None
            said = ""
            while (path := announced(said)) is None:
                assert select.select([process.stdout], [], [], HUNG_SECONDS)[0], "the firmware announces no line"
                data = os.read(process.stdout.fileno(), 4096)
                assert data, "the firmware exited at start-up"
                said += data.decode()
            with serial.Serial(path, timeout=0.1) as line:
                while not line.read(1):
                    line.write(b"?")  # what comes before the firmware has opened its line is lost
                line.timeout = HUNG_SECONDS
                line.write(b"!")
                line.read_until(b"!")  # the echoes of the others
                yield Running(process, line, path)
        finally:
            process.kill()


def test_echoed_bytes_equal_those_sent(echo: tuple[str, Path]) -> None:
    sent = bytes(i % 0xF0 for i in range(20_000))  # far more than the window: the line must make the sender wait
    with running(*echo) as device:
        sender = threading.Thread(target=device.line.write, args=(sent,))
        sender.start()
        assert device.line.read(len(sent)) == sent
        sender.join()


def test_the_line_survives_the_host_closing_it(echo: tuple[str, Path]) -> None:
    with running(*echo) as device:
        assert device.ask(b"first", 5) == b"first"
        device.line.close()
        with serial.Serial(device.path, timeout=HUNG_SECONDS) as again:
            again.write(b"second")
            assert again.read(6) == b"second"


def test_an_idle_device_takes_no_processor_time(echo: tuple[str, Path]) -> None:
    if boards.load(echo[0]).kind == "renode":
        pytest.skip("Renode's virtual clock goes on while its board sleeps")
    with running(*echo) as device:
        assert device.ask(b"awake", 5) == b"awake"
        assert share([device.process.pid]) < 0.1
        device.line.close()
        assert share([device.process.pid]) < 0.1


def test_a_device_keeps_its_given_id(echo: tuple[str, Path]) -> None:
    with running(*echo) as device:
        assert device.ask(b"\xf0", 8).hex() == UNIQUE_ID


def test_ticks_count_at_the_declared_rate(echo: tuple[str, Path]) -> None:
    with running(*echo) as device:

        def reading() -> tuple[float, int, float]:
            asked = time.monotonic()
            return asked, int.from_bytes(device.ask(b"\xf1", 4), "little"), time.monotonic()

        device.ask(b"awake", 5)
        asked, first, answered = reading()
        least, most = 0.0, math.inf
        while least < 0.5 or most > 1.1 * least:  # until the answers take a small part of the measured time
            time.sleep(0.5)
            asked_again, last, answered_again = reading()
            least, most = asked_again - answered, answered_again - asked
    seconds = ((last - first) & 0xFFFFFFFF) / facts(echo[0])["ticks_per_second"]
    assert 0.8 * least < seconds < 1.2 * most


def test_division_rounds_as_ieee_754_says(echo: tuple[str, Path]) -> None:
    smallest, largest = np.finfo(np.float32).smallest_normal, np.finfo(np.float32).max
    near_one = np.nextafter(np.float32(1), np.array([0, 2], np.float32))
    special = np.array([0, 1e-45, smallest / 2, smallest, largest, np.inf, 1, *near_one], np.float32)
    drawn = np.random.default_rng(1).integers(0, 2**32, (2, 1000), np.uint32).view(np.float32)
    close = np.float32(1) + np.random.default_rng(2).random((2, 300), np.float32)
    tiny = (close[0] * np.float32(2.0**-100), close[1] * np.float32(2.0**40))  # subnormal quotients
    pairs = [*itertools.product([*special, *-special], repeat=2)]
    pairs += [pair for drawing in (drawn, close, tiny) for pair in zip(*drawing, strict=True)]
    top, bottom = (np.array(side, np.float32) for side in zip(*pairs, strict=True))
    with np.errstate(all="ignore"):
        expected = top / bottom
    with running(*echo) as device:
        orders = (b"\xf4" + a.tobytes() + b.tobytes() for a, b in zip(top, bottom, strict=True))
        got = np.frombuffer(b"".join(device.ask(order, 4) for order in orders), np.float32)
    same = (got.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(got) & np.isnan(expected))
    assert [(top[i], bottom[i], got[i], expected[i]) for i in np.flatnonzero(~same)] == []


def test_64_bit_products_are_exact(echo: tuple[str, Path]) -> None:
    drawn = [tuple(map(int, pair)) for pair in np.random.default_rng(3).integers(0, 2**64, (100, 2), np.uint64)]
    with running(*echo) as device:
        for a, b in [*itertools.product([0, 1, 0xFFFF, 0x10000, 2**32 - 1, 2**32, 2**64 - 1], repeat=2), *drawn]:
            order = b"\xf5" + a.to_bytes(8, "little") + b.to_bytes(8, "little")
            assert int.from_bytes(device.ask(order, 8), "little") == a * b % 2**64, (a, b)


def test_random_bytes_never_repeat(echo: tuple[str, Path]) -> None:
    drawn = []
    for _ in range(2):  # after another start too
        with running(*echo) as device:
            drawn += [device.ask(b"\xf6", 32) for _ in range(4)]
    assert len({bytes(part) for each in drawn for part in zip(*[iter(each)] * 4, strict=True)}) == 8 * 8


@pytest.mark.parametrize("echo", list(OUTSIDE), indirect=True)
def test_a_stack_overflow_stops_the_board_loudly(echo: tuple[str, Path]) -> None:
    assert "stack overflow" in last_words(echo, b"\xf2")


@pytest.mark.parametrize("echo", list(OUTSIDE), indirect=True)
@pytest.mark.parametrize("place", range(3), ids=["null pointer", "past flash", "past RAM"])
def test_an_access_outside_the_boards_memory_stops_it_loudly(echo: tuple[str, Path], place: int) -> None:
    address = OUTSIDE[echo[0]][place]
    assert f"address 0x{address:08x}" in last_words(echo, b"\xf3" + address.to_bytes(4, "little"))


def last_words(echo: tuple[str, Path], order: bytes) -> str:
    """Standard error of the emulator when the firmware stops at the command ``order``."""
    with running(*echo) as device:
        assert device.ask(b"alive", 5) == b"alive"
        device.line.write(order)
        assert device.process.wait(HUNG_SECONDS) == 1
        assert device.process.stderr is not None
        return device.process.stderr.read().decode()


@pytest.mark.parametrize("echo", ["native"], indirect=True)
def test_a_host_process_ends_with_its_standard_input(echo: tuple[str, Path]) -> None:
    with running(*echo) as device:
        assert device.ask(b"alive", 5) == b"alive"
        assert device.process.stdin is not None
        device.process.stdin.close()
        assert device.process.wait(HUNG_SECONDS) == 0


@pytest.mark.parametrize("echo", ["native"], indirect=True)
def test_a_host_process_serves_one_connection_after_another(echo: tuple[str, Path]) -> None:
    with subprocess.Popen([echo[1], "--listen", "0"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().decode().removeprefix("listen "))
            for word in (b"first", b"again"):
                with serial.serial_for_url(f"socket://127.0.0.1:{port}", timeout=HUNG_SECONDS) as line:
                    line.write(word)
                    assert line.read(5) == word
        finally:
            process.kill()


@pytest.mark.parametrize("echo", ["native"], indirect=True)
@pytest.mark.parametrize("argument", ["--listen=7", "--id=12"])
def test_a_host_process_names_the_argument_it_cannot_use(echo: tuple[str, Path], argument: str) -> None:
    done = subprocess.run([echo[1], argument], capture_output=True, text=True, timeout=HUNG_SECONDS, check=False)
    assert done.returncode == 2
    assert f"`{argument}`" in done.stderr and "usage:" in done.stderr


# Invalid board files


def spoilt(**changes: object) -> str:
    """A copy of native.json with changed entries."""
    facts = json.loads((find("boards") / "native.json").read_text())
    facts["tinymetafed"] |= changes
    return json.dumps(facts, indent=1)


UNUSABLE = {
    "nothing": ("", "line 1, column 1: Expecting value"),
    "no JSON": ('{\n  "name": }', "line 2, column 11: Expecting value"),
    "a list": ("[]", "line 1: expected an object"),
    "a number": ("7", "line 1: expected an object"),
    "no facts": (json.dumps({"name": "x"}), "line 1, 'tinymetafed' is missing"),
    "facts that are a list": ('{\n"name": "x",\n"tinymetafed": []}', "line 3, 'tinymetafed' is [], expected an object"),
    "one fact less": (spoilt(ram_bytes=None).replace('"ram_bytes": null', '"rom_bytes": 1'), "line 12, 'ram_bytes' is missing"),
    "a size as text": (spoilt(ram_bytes="many"), "line 16, 'ram_bytes' is \"many\", expected a whole number from 1 on"),
    "no memory": (spoilt(flash_bytes=0), "'flash_bytes' is 0, expected a whole number from 1 on"),
    "an emulator as text": (spoilt(emulator="qemu"), "'emulator' is \"qemu\", expected a list of texts"),
    "no words": (spoilt(emulator=[]), "'emulator' is [], expected a list of texts"),
    "a line without speed": (spoilt(line={"baud": "fast"}), "'baud' is \"fast\", expected a whole number"),
    "half an estimate": (
        spoilt(estimates={"cycles_per_mac": [1], "milliamperes": [1, 2]}),
        "'cycles_per_mac' is [1], expected a list of two",
    ),
    "no time to start": (spoilt(start_seconds=0), "'start_seconds' is 0, expected a number of seconds above 0"),
    "endless time to start": (spoilt(start_seconds=float("inf")), "'start_seconds' is Infinity, expected a number of seconds"),
    "start at once": (spoilt(start_seconds="soon"), "'start_seconds' is \"soon\", expected a number"),
    "real perhaps": (spoilt(real="perhaps"), "'real' is \"perhaps\", expected true or false"),
    "no text at all": (b"\xff\xfe", "decode"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_board_file_that_cannot_be_used_is_named_and_left_out(own_boards: Path, what: str) -> None:
    text, why = UNUSABLE[what]
    ours = [board.name for board in boards.usable()]
    (own_boards / "broken.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(
        board_errors.BoardError, match=re.escape(f"{own_boards / 'broken.json'}: not a usable board file: ")
    ) as said:
        boards.load("broken")
    assert why in str(said.value) and "\n" not in str(said.value)
    assert "broken" in boards.names() and [board.name for board in boards.usable()] == ours
    assert [str(error) for error in boards.INSTALLED.unusable()] == [str(said.value)]


def test_a_board_file_that_cannot_be_read_is_named_and_left_out(own_boards: Path) -> None:
    (own_boards / "broken.json").symlink_to(own_boards / "gone")
    (own_boards / "folder.json").mkdir()
    assert [str(error).partition(": ")[0] for error in boards.INSTALLED.unusable()] == [
        str(own_boards / "broken.json"),
        str(own_boards / "folder.json"),
    ]


def test_a_name_longer_than_the_wire_has_room_for_is_refused(own_boards: Path) -> None:
    shutil.copy(own_boards / "native.json", own_boards / "sixteencharacter.json")
    with pytest.raises(board_errors.BoardError, match="name is 'sixteencharacter', expected up to 15 letters"):
        boards.load("sixteencharacter")


def test_every_board_has_its_environment() -> None:
    assert {board.name: board.cannot_build() for board in boards.usable()} == dict.fromkeys(boards.names(), "")


def test_environments_are_read_as_platformio_reads_them(own_boards: Path) -> None:
    shutil.copy(own_boards / "native.json", own_boards / "lonely.json")
    file = own_boards / "environments.ini"
    to_do = "write [env:lonely] with extends = offline and board = lonely there"
    assert boards.load("lonely").cannot_build() == f"{file} has no [env:lonely]; {to_do}"
    file.write_text("[env:lonely]\nextends = offline\nboard = native ; another\n[env:native]\nboard = native\n")
    assert boards.load("lonely").cannot_build() == f"{file} has board = native in [env:lonely]; {to_do}"
    assert boards.load("native").cannot_build() == ""
    file.write_text("board = native\n")
    with pytest.raises(board_errors.BoardError, match=re.escape(f"{file}: cannot be read")):
        boards.load("native").cannot_build()
