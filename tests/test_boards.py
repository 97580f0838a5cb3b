"""Boards: their JSON is complete, and each port carries bytes, sleeps, keeps its id and stops loudly on a fault."""

from __future__ import annotations

import json
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

import pytest
import serial

from tinymetafed.firmware import missing_tools
from tinymetafed_codegen import boards, emit
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.protocol import MIN_RECEIVE_WINDOW

BOARDS = boards.names()
UNIQUE_ID = "0123456789abcdef"
OUTSIDE = {  # of emulated boards: the null pointer, the first address past the flash and past the RAM that they claim
    "mps2": (0x00000000, 0x00100000, 0x20040000),
    "rv32": (0x00000000, 0x80400000, 0x80564000),
}

# Echoes what it receives; the bytes from 0xF0 on are orders.
ECHO = """
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
        uintptr_t address = 0;
        for (int shift = 0; shift < 32; shift += 8) address |= static_cast<uintptr_t>(next()) << shift;
        touch(address);
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
    assert len(board) < 16  # HelloAnswer.board holds it
    assert all((find("firmware/port") / port).is_dir() for port in known["ports"])
    assert (find("boards/platform/builder") / f"{known['toolchain']}.py").is_file()
    assert known["linker_script"] is None or (find("boards") / known["linker_script"]).is_file()
    assert any("{unique_id}" in word for word in known["unique_id"])
    assert known["emulator"] is None or "{program}" in known["emulator"]
    assert all(("command" in need) != ("library" in need) and need["for"] for need in known["debian_packages"].values())


def test_all_boards_take_the_same_window_so_that_byte_counts_agree() -> None:
    assert len({facts(board)["receive_window"] for board in BOARDS}) == 1


def test_every_build_keeps_the_arithmetic_exact() -> None:
    flags = json.loads(find("boards/platform/flags.json").read_text())
    given = [*flags["common"], *flags["cxx"], *(flag for board in BOARDS for flag in facts(board)["machine_flags"])]
    assert "-ffp-contract=off" in given
    assert not {"-ffast-math", "-Ofast", "-funsafe-math-optimizations"} & set(given)


@dataclass(frozen=True)
class Running:
    """An echo firmware under way, its line and where that line is found."""

    process: subprocess.Popen[bytes]
    line: serial.Serial
    path: str

    def ask(self, order: bytes, size: int) -> bytes:
        self.line.write(order)
        return self.line.read(size)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module", params=BOARDS)
def echo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A board's name and an echo program on its port, built by our platform from an empty core directory."""
    board: str = request.param
    if lacking := missing_tools(board):
        pytest.skip(f"{lacking[0].name} is not installed: {lacking[0].remedy}")
    project = tmp_path_factory.mktemp(board)
    shutil.copytree(find("firmware/port"), project / "src" / "port")
    (project / "src" / "main.cpp").write_text(ECHO)
    window = facts(board)["receive_window"]
    about = {"board": boards.load(board), "receive_window": window, "window_reason": "", "command": "the test"}
    header = emit.render("board.hpp.j2", **about)
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
    known = facts(board)
    words = [*(known["emulator"] or ["{program}", "--exit-with-stdin"]), *known["serial"], *known["unique_id"]]
    command = [word.replace("{program}", str(program)).replace("{unique_id}", UNIQUE_ID) for word in words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 10)[0], "announces no line"
            announced = re.search(r"/dev/\S+", process.stdout.readline().decode())
            assert announced
            with serial.Serial(announced[0], timeout=20) as line:
                yield Running(process, line, announced[0])
        finally:
            process.kill()


def test_bytes_come_back_as_they_went(echo: tuple[str, Path]) -> None:
    sent = bytes(i % 0xF0 for i in range(20_000))  # far more than the window: the line must hold the sender back
    with running(*echo) as device:
        sender = threading.Thread(target=device.line.write, args=(sent,))
        sender.start()
        assert device.line.read(len(sent)) == sent
        sender.join()


def test_the_line_survives_the_host_closing_it(echo: tuple[str, Path]) -> None:
    with running(*echo) as device:
        assert device.ask(b"first", 5) == b"first"
        device.line.close()
        with serial.Serial(device.path, timeout=10) as again:
            again.write(b"second")
            assert again.read(6) == b"second"


def test_an_idle_device_takes_no_processor_time(echo: tuple[str, Path]) -> None:
    with running(*echo) as device:
        assert device.ask(b"awake", 5) == b"awake"
        before = device.cpu_seconds()
        time.sleep(1)
        open_idle = device.cpu_seconds() - before
        device.line.close()
        before = device.cpu_seconds()
        time.sleep(1)
        assert max(open_idle, device.cpu_seconds() - before) < 0.1


def test_a_device_keeps_the_id_it_was_given(echo: tuple[str, Path]) -> None:
    with running(*echo) as device:
        assert device.ask(b"\xf0", 8).hex() == UNIQUE_ID


def test_ticks_count_at_the_declared_rate(echo: tuple[str, Path]) -> None:
    with running(*echo) as device:
        device.ask(b"awake", 5)
        began, first = time.monotonic(), int.from_bytes(device.ask(b"\xf1", 4), "little")
        time.sleep(0.5)
        ended, last = time.monotonic(), int.from_bytes(device.ask(b"\xf1", 4), "little")
        rate = ((last - first) & 0xFFFFFFFF) / (ended - began)
        assert rate == pytest.approx(facts(echo[0])["ticks_per_second"], rel=0.2)


@pytest.mark.parametrize("echo", list(OUTSIDE), indirect=True)
def test_a_stack_overflow_stops_the_board_loudly(echo: tuple[str, Path]) -> None:
    assert "stack overflow" in last_words(echo, b"\xf2")


@pytest.mark.parametrize("echo", list(OUTSIDE), indirect=True)
@pytest.mark.parametrize("place", range(3), ids=["null pointer", "past flash", "past RAM"])
def test_an_access_outside_the_boards_memory_stops_it_loudly(echo: tuple[str, Path], place: int) -> None:
    address = OUTSIDE[echo[0]][place]
    assert f"address 0x{address:08x}" in last_words(echo, b"\xf3" + address.to_bytes(4, "little"))


def last_words(echo: tuple[str, Path], order: bytes) -> str:
    """What the emulator says on standard error when the firmware stops at ``order``."""
    with running(*echo) as device:
        assert device.ask(b"alive", 5) == b"alive"
        device.line.write(order)
        assert device.process.wait(10) == 1
        assert device.process.stderr is not None
        return device.process.stderr.read().decode()


@pytest.mark.parametrize("echo", ["native"], indirect=True)
def test_a_host_process_ends_with_its_standard_input(echo: tuple[str, Path]) -> None:
    with running(*echo) as device:
        assert device.ask(b"alive", 5) == b"alive"
        assert device.process.stdin is not None
        device.process.stdin.close()
        assert device.process.wait(5) == 0


@pytest.mark.parametrize("echo", ["native"], indirect=True)
def test_a_host_process_serves_one_connection_after_another(echo: tuple[str, Path]) -> None:
    with subprocess.Popen([echo[1], "--listen", "0"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().decode().removeprefix("listen "))
            for word in (b"first", b"again"):
                with serial.serial_for_url(f"socket://127.0.0.1:{port}", timeout=10) as line:
                    line.write(word)
                    assert line.read(5) == word
        finally:
            process.kill()


@pytest.mark.parametrize("echo", ["native"], indirect=True)
@pytest.mark.parametrize("argument", ["--listen=7", "--id=12"])
def test_a_host_process_names_the_argument_it_cannot_use(echo: tuple[str, Path], argument: str) -> None:
    done = subprocess.run([echo[1], argument], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 2
    assert f"`{argument}`" in done.stderr and "usage:" in done.stderr
