"""A lost board is searched beside the rounds: under another port name, while ports are held, and never in a stranger's port."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from clocks import HUNG_SECONDS, wait_until
from fake_device import FakeDevice
from serial.tools.list_ports_common import ListPortInfo
from serial_shim import SerialShim

from tinymetafed.devices.device_urls import parse
from tinymetafed.devices.fleet import Fleet
from tinymetafed.devices.launch import launch

BOARD = (0x2341, 0x805A)
OTHER_THING = (0x0403, 0x6001)


class Bench:
    """Three boards behind ports whose names, ids and serial numbers the test decides, and a fleet of them."""

    def __init__(self, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, folder: Path, *, numbered: bool) -> None:
        self.events: list[str] = []
        self._listed: dict[str, tuple[tuple[int, int], str | None]] = {}  # ids and serial number by path
        self._folder, self._stack = folder, stack
        self._numbers = [f"B{n}" if numbered else None for n in range(3)]
        self.boards = [FakeDevice(unique_id=b"board--%d" % n) for n in range(3)]
        self.shims = []
        for n, board in enumerate(self.boards):
            stack.callback(board.close)
            self.shims.append(SerialShim(board.url))
            stack.callback(self.shims[-1].close)
            self.plug(f"ttyACM{n}", self.shims[n].url, BOARD, self._numbers[n])
        monkeypatch.setattr("tinymetafed.devices.usb.list_ports.comports", self.ports)
        monkeypatch.setattr("tinymetafed.devices.roster.SCAN_SECONDS", 0.02)
        devices = stack.enter_context(launch(parse([self.path(f"ttyACM{n}") for n in range(3)]), Path, start=HUNG_SECONDS))
        self.fleet = stack.enter_context(Fleet(devices, on_event=self.events.append, patience=0.2))

    def path(self, name: str) -> str:
        """The path of a port."""
        return str(self._folder / name)

    def plug(self, name: str, line: str, ids: tuple[int, int], number: str | None) -> None:
        """Makes a port appear."""
        os.symlink(line, self.path(name))
        self._listed[self.path(name)] = ids, number

    def stranger(self, name: str, ids: tuple[int, int], number: str | None) -> FakeDevice:
        """Plugs in somebody else's device."""
        device = FakeDevice(unique_id=b"stranger")
        self._stack.callback(device.close)
        self.plug(name, device.url, ids, number)
        return device

    def unplug(self, n: int) -> None:
        """Removes a board's port."""
        self.shims[n].unplug()
        os.unlink(self.path(f"ttyACM{n}"))
        del self._listed[self.path(f"ttyACM{n}")]

    def plug_in(self, n: int, name: str) -> str:
        """Plugs a board in again; its port gets this name. Returns the path of its line."""
        line = self.shims[n].plug_in()
        self.plug(name, line, BOARD, self._numbers[n])
        return line

    def ports(self) -> list[ListPortInfo]:
        """What the operating system lists."""
        found = []
        for path, (ids, number) in dict(self._listed).items():
            port = ListPortInfo(path, skip_link_detection=True)
            (port.vid, port.pid), port.serial_number = ids, number
            found.append(port)
        return found

    def round(self) -> set[str]:
        """One round with an item for each board that is up; the boards that did one."""
        served = self.fleet.map(range(3), lambda session, item: session.fetch(0, 1).size)
        assert [each.outcome for each in served] == [1, 1, 1]
        return {each.device for each in served}

    def rounds_until(self, happened: Callable[[], object]) -> None:
        """Plays rounds, which go on meanwhile."""
        wait_until(lambda: self.round() and happened())

    def said(self, words: str) -> bool:
        """Whether an event contains ``words``."""
        return any(words in event for event in self.events)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    with ExitStack() as stack:
        yield lambda **options: Bench(stack, monkeypatch, tmp_path, **options)


@contextmanager
def held(path: str, *, locked: bool) -> Iterator[int]:
    """Another process has the port open, as ModemManager does (locked) or a terminal program; yields its number."""
    script = (
        "import fcntl, os, sys, termios; fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); "
        + ("fcntl.flock(fd, fcntl.LOCK_EX); " if locked else "")
        + "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"open\n"
        try:
            yield holder.pid
        finally:
            holder.kill()


@pytest.mark.parametrize("numbered", [True, False], ids=["serial numbers", "none"])
def test_a_board_back_under_another_name_is_found_beside_the_rounds(bench: Callable[..., Bench], numbered: bool) -> None:
    there = bench(numbered=numbered)
    name = there.path("ttyACM0")
    strangers = [
        there.stranger("ttyUSB0", OTHER_THING, "B0"),
        there.stranger("ttyACM5", BOARD, "another" if numbered else "numbered"),
    ]
    there.unplug(0)
    strangers.append(there.stranger("ttyACM0", OTHER_THING, None))
    there.rounds_until(lambda: there.said("another USB device is there, 0403:6001 without a serial number"))
    assert name not in there.round()
    new = there.plug_in(0, "ttyACM7")
    there.rounds_until(lambda: there.said(f"ttyACM0 is {new} now"))
    there.rounds_until(lambda: name in there.round())
    assert [device.received for device in strangers] == [0, 0, 0], "no byte into a stranger's port"


@pytest.mark.parametrize("locked", [True, False], ids=["locked", "not locked"])
def test_a_port_that_another_process_holds_is_waited_for_by_name(bench: Callable[..., Bench], locked: bool) -> None:
    there = bench(numbered=True)
    there.unplug(1)
    there.rounds_until(lambda: there.said("ttyACM1"))
    line = there.shims[1].plug_in()
    with held(line, locked=locked) as pid:
        there.plug("ttyACM7", line, BOARD, "B1")
        there.rounds_until(lambda: there.said(f"(pid {pid}); waiting for it"))
        received = there.boards[1].received
        there.round()
        assert there.boards[1].received == received, "no byte while another program has the port"
    there.rounds_until(lambda: there.said(f"ttyACM1 is {line} now"))


def test_two_boards_that_swap_their_names_are_found(bench: Callable[..., Bench]) -> None:
    there = bench(numbered=False)
    for n in (0, 1):
        there.unplug(n)
    there.rounds_until(lambda: there.said("ttyACM0") and there.said("ttyACM1"))
    lines = [there.plug_in(n, name) for n, name in ((0, "ttyACM1"), (1, "ttyACM0"))]
    there.rounds_until(lambda: there.said(f"ttyACM0 is {lines[0]} now") and there.said(f"ttyACM1 is {lines[1]} now"))
