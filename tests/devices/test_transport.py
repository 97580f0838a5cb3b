"""Lines of every kind: a read returns all bytes available, timeouts are kept, and errors name port and remedy."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import subprocess
import threading
import tty
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from allocations import most_allocated
from clocks import HUNG_SECONDS, FakeClock, wait_until
from serial.tools.list_ports_common import ListPortInfo

from tinymetafed.devices.link import transport
from tinymetafed.devices.link.link_errors import PortError, PortHeld
from tinymetafed.devices.link.transport import BUSY_SECONDS, NEW_PORT_SECONDS, discard_input, holders, open_transport


@pytest.fixture
def pty() -> Iterator[tuple[int, str]]:
    """Master descriptor and path of a raw pty whose slave end stays open."""
    master, line = os.openpty()
    tty.setraw(line)
    yield master, os.ttyname(line)
    for fd in (master, line):
        with suppress(OSError):  # closed by the test
            os.close(fd)


def test_pty_gives_all_that_is_there_in_one_read(pty: tuple[int, str]) -> None:
    master, path = pty
    with open_transport(path) as transport:
        sent = bytes(range(256)) * 8
        os.write(master, sent)
        assert transport.read(HUNG_SECONDS) == sent
        transport.write(b"\0\x11\x13\r\n\x03")
        assert os.read(master, 100) == b"\0\x11\x13\r\n\x03"


def test_socket_gives_all_that_is_there_in_one_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[socket.socket] = []
        thread = threading.Thread(target=lambda: accepted.append(server.accept()[0]))
        thread.start()
        with open_transport(f"socket://127.0.0.1:{server.getsockname()[1]}") as transport:
            thread.join()
            with accepted[0] as peer:
                peer.sendall(bytes(5000))
                assert transport.read(HUNG_SECONDS) == bytes(5000)
                transport.write(b"answer")
                assert peer.recv(100) == b"answer"


@pytest.mark.parametrize("kind", ["pty", "socket"])
def test_a_read_allocates_what_came_and_not_what_may_come(pty: tuple[int, str], kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = pty[1] if kind == "pty" else f"socket://127.0.0.1:{server.getsockname()[1]}"
        with open_transport(url) as transport:
            peer = pty[0] if kind == "pty" else server.accept()[0].detach()
            os.write(peer, b"first")
            assert transport.read(HUNG_SECONDS) == b"first"
            os.write(peer, bytes(100))
            assert most_allocated(lambda: transport.read(HUNG_SECONDS)) < 1024
            if kind == "socket":
                os.close(peer)


def test_any_other_url_works_through_pyserial() -> None:
    with open_transport("loop://") as transport:
        transport.write(bytes(range(200)))
        assert transport.read(HUNG_SECONDS) == bytes(range(200))
        assert transport.read(0.01) == b""


@pytest.mark.parametrize(("timeout", "waits"), [(-1.0, 0.0), (0.0, 0.0), (0.05, 50.0)])
def test_timeout_is_kept(pty: tuple[int, str], timeout: float, waits: float, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    class Poll:
        """Records the timeouts of poll calls, in milliseconds."""

        def register(self, fd: int, events: int) -> None:
            pass

        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            asked.append(milliseconds)
            return []

    monkeypatch.setattr("tinymetafed.devices.link.readiness.sys.platform", "linux")
    monkeypatch.setattr("tinymetafed.devices.link.readiness.select.poll", Poll)
    with open_transport(pty[1]) as transport:
        assert transport.read(timeout) == b""
    assert asked == [waits]


def test_bytes_during_the_settle_time_are_read_and_discarded() -> None:
    clock = FakeClock()
    moments: list[float] = []

    class Talking:
        """A line that sends bytes every 30 ms."""

        def read(self, timeout: float) -> bytes:
            moments.append(clock.now)
            clock.sleep(min(timeout, 0.03))
            return b"boot"

    discard_input(Talking(), 0.2, clock)  # type: ignore[arg-type]
    assert len(moments) == 7 and clock.now == pytest.approx(moments[0] + 0.2)


def test_a_large_write_waits_for_the_reader(pty: tuple[int, str]) -> None:
    master, path = pty
    received = bytearray()

    def drain() -> None:
        while len(received) < 200_000:
            received.extend(os.read(master, 65536))

    with open_transport(path) as transport:
        thread = threading.Thread(target=drain, daemon=True)
        thread.start()
        transport.write(bytes(range(250)) * 800)
        thread.join(HUNG_SECONDS)
    assert bytes(received) == bytes(range(250)) * 800


def test_missing_port_lists_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [ListPortInfo("/dev/ttyUSB7", skip_link_detection=True)]
    monkeypatch.setattr("tinymetafed.devices.link.transport.list_ports.comports", lambda: there)
    with pytest.raises(PortError, match=r"^/dev/tty-none: does not exist; .*/dev/ttyUSB7") as caught:
        open_transport("/dev/tty-none")
    assert caught.value.url == "/dev/tty-none"


def test_busy_port_names_its_holder(pty: tuple[int, str]) -> None:
    path = pty[1]
    clock = FakeClock()
    with open_transport(path), pytest.raises(PortError, match=rf"is busy, held by .*\(pid {os.getpid()}\)"):
        open_transport(path, clock=clock)
    assert clock.now - FakeClock().now == pytest.approx(BUSY_SECONDS, abs=0.06), "it may become free"
    open_transport(path).close()  # free again


def test_a_start_waits_longer_and_says_for_whom(pty: tuple[int, str]) -> None:
    clock, told = FakeClock(), list[str]()
    with open_transport(pty[1]), pytest.raises(PortHeld):
        open_transport(pty[1], clock=clock, on_held=told.append)
    assert clock.now - FakeClock().now == pytest.approx(NEW_PORT_SECONDS, abs=0.06)
    assert len(told) == 1 and re.search(rf"is busy, held by .*\(pid {os.getpid()}\).*; waiting for it", told[0])


def test_a_program_of_the_system_that_looks_at_new_ports_is_named(
    pty: tuple[int, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks = tmp_path / "ModemManager"
    looks.symlink_to(shutil.which("sleep") or "")
    monkeypatch.setattr(transport, "holders", lambda path, clock: [])  # its open files belong to root
    with subprocess.Popen([looks, "600"]) as manager, open_transport(pty[1]):
        try:
            wait_until(lambda: transport._suspects())
            with pytest.raises(PortHeld, match=rf"probably held by ModemManager \(pid {manager.pid}\), which looks"):
                open_transport(pty[1], wait=0.0)
        finally:
            manager.kill()


def test_a_line_that_takes_bytes_too_slowly_is_stuck(pty: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    with open_transport(pty[1], clock=clock) as line:

        def one_byte(fd: int, data: bytes) -> int:
            clock.sleep(0.5)
            if int(clock.now) == clock.now:
                raise BlockingIOError
            return 1

        monkeypatch.setattr(transport.os, "write", one_byte)
        with pytest.raises(PortError, match="accepts too few bytes"):
            line.write(bytes(2000))
        assert clock.now - FakeClock().now < 3 * transport.WRITE_SECONDS


def test_permission_denied_names_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:  # root may open any file, so the test simulates the refusal
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("serial.serialposix.os.open", refuse)
    with pytest.raises(PortError, match=r"/dev/ttyACM0: permission denied.*dialout"):
        open_transport("/dev/ttyACM0")


def test_a_socket_without_a_server_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(PortError, match="nobody listens there"):
        open_transport(url)


def test_a_path_that_is_no_port_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no line")
    with pytest.raises(PortError, match="is not a serial port"):
        open_transport(str(file))
    with pytest.raises(PortError, match="cannot be opened"):
        open_transport("nonsense://x")


def test_a_line_that_closes_is_an_error(pty: tuple[int, str]) -> None:
    master, path = pty
    with open_transport(path) as transport:
        os.close(master)
        with pytest.raises(PortError, match=f"{path}: the line went away"):
            transport.read(HUNG_SECONDS)
        with pytest.raises(PortError, match="went away"):
            transport.write(b"x")


def test_a_closed_transport_stays_closed(pty: tuple[int, str]) -> None:
    transport = open_transport(pty[1])
    transport.close()
    transport.close()
    with pytest.raises(PortError):
        transport.read(0.1)


def test_holders_lists_processes_of_devices_only(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("w"):
        assert holders(str(file)) == []
    assert holders(str(tmp_path / "none")) == []
