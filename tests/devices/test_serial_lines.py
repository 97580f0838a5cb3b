"""Serial lines as in practice: boot banners, boards that boot, small buffers, USB latency, DTR, ports that change names."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clocks import HUNG_SECONDS, EventClock, FakeClock
from fake_device import FakeBoard, FakeDevice, boot_banner
from serial.tools.list_ports_common import ListPortInfo
from serial_shim import BadPort, SerialShim, watch_lines

from tinymetafed.devices import usb
from tinymetafed.devices.device import Device
from tinymetafed.devices.device_urls import DeviceSpec, DeviceUrlError, parse
from tinymetafed.devices.launch import launch
from tinymetafed.devices.link.link_errors import LinkError, WrongFirmware
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import discard_input, open_transport
from tinymetafed.devices.serial_port import UsbBus
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.board.board_facts import Line
from tinymetafed_codegen.protocol import Dtype

Plug = Callable[..., tuple[FakeDevice, SerialShim]]


@pytest.fixture
def plug() -> Iterator[Plug]:
    """``plug(fake={…}, **shim)`` returns a fake device and the SerialShim in front of it."""
    with ExitStack() as stack:

        def start(fake: dict[str, Any] | None = None, **shim: Any) -> tuple[FakeDevice, SerialShim]:
            device = FakeDevice(**(fake or {}))
            stack.callback(device.close)
            port = SerialShim(device.url, **shim)
            stack.callback(port.close)
            return device, port

        yield start


class Part:
    """A segment of weights to load."""

    def __init__(self, values: np.ndarray) -> None:
        self.offset, self.dtype, self.scale, self.data = 0, Dtype.F32, 0.0, values.astype("<f4").tobytes()


def load_and_check(session: Session, device: FakeBoard, count: int = 1500) -> None:
    values = np.arange(count, dtype=np.float32)
    session.load(1, [Part(values)])
    assert np.array_equal(device.weights[:count], values)


def over(clock: FakeClock, fake: dict[str, Any] | None = None, **port: Any) -> tuple[FakeBoard, BadPort]:
    """A session with a board through a BadPort."""
    board = FakeBoard(clock=clock, **(fake or {}))
    return board, BadPort(board, clock, **port)


def test_a_boot_banner_at_another_speed_is_waited_out() -> None:
    clock = FakeClock()
    _, port = over(clock, banner=boot_banner(np.random.default_rng(2), 900), boot_seconds=0.4)
    began = clock.now
    assert Session(port, clock=clock).hello(3.0).board.startswith(b"native")
    assert 0.4 < clock.now - began < 1.0


def test_bytes_during_the_settle_time_are_discarded() -> None:
    clock = FakeClock()
    _, port = over(clock, banner=b"ets Jul 29 2019 12:21:46\r\n\0rst:0x1 (POWERON_RESET)")
    began = clock.now
    discard_input(port, 0.2, clock)
    assert clock.now == pytest.approx(began + 0.2)
    session = Session(port, clock=clock)
    session.hello(2.0)
    assert session.damaged == 0


def test_a_line_that_has_to_settle_does_so_when_it_is_opened(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    _, shim = plug()
    settled: list[float] = []
    monkeypatch.setattr(
        "tinymetafed.devices.link.transport.discard_input", lambda line, seconds, clock: settled.append(seconds)
    )
    for line in (Line(settle_seconds=0.2), Line()):
        open_transport(shim.url, line=line).close()
    assert settled == [0.2]


def test_a_vendor_buffer_of_256_bytes_never_overflows() -> None:
    clock = FakeClock()
    board, port = over(clock, {"weights": 300, "window": 256}, buffer=256, step=0.03)
    session = Session(port, clock=clock)
    session.hello(2.0)
    load_and_check(session, board, 300)
    assert port.dropped == 0 and session.traffic.retries == 0


def test_a_window_larger_than_the_boards_buffer_loses_bytes() -> None:
    clock = FakeClock()
    _, port = over(clock, {"weights": 300, "window": 1024}, buffer=256, step=0.03)
    session = Session(port, deadline=0.1, retries=2, clock=clock)
    session.hello(2.0)
    with pytest.raises(LinkError, match=r"no .*answer to Load"):
        session.load(1, [Part(np.zeros(300, np.float32))])
    assert port.dropped > 0


def test_usb_latency_does_not_slow_bulk_data_down() -> None:
    clock = FakeClock()
    board, port = over(clock, {"weights": 1500, "window": 1024}, latency=0.016)
    session = Session(port, clock=clock)
    session.hello(2.0)
    began = clock.now
    load_and_check(session, board)
    chunks = 1500 * 4 / 480
    assert clock.now - began < 0.8 * chunks * 0.016  # one chunk at a time would take at least chunks x 16 ms
    assert session.traffic.retries == 0


def test_a_board_that_is_silent_without_dtr(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    _, shim = plug(needs_dtr=True)
    watch_lines(monkeypatch, shim)
    answered = EventClock(lambda: shim.lost > 0)
    with open_transport(shim.url, line=Line(dtr=False)) as transport, pytest.raises(LinkError, match="no answer to Hello"):
        Session(transport, clock=answered).hello()
    with open_transport(shim.url) as transport:
        Session(transport).hello(HUNG_SECONDS)


def test_opening_and_reopening_reboots_nothing(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    _, shim = plug(resets=True)
    seen = watch_lines(monkeypatch, shim)
    for line in {each.line for each in usb.known_usb().values()} | {Line()}:
        for _ in range(2):
            open_transport(shim.url, line=line).close()
    assert shim.boots == 0 and len(seen) >= 4
    open_transport(shim.url, line=Line(dtr=False, rts=True)).close()
    assert shim.boots > 0


def test_a_port_is_opened_as_its_board_requires(monkeypatch: pytest.MonkeyPatch) -> None:
    there = ListPortInfo("/dev/ttyUSB7", skip_link_detection=True)
    there.vid, there.pid = 0x1A86, 0x7523
    monkeypatch.setattr("tinymetafed.devices.usb.list_ports.comports", lambda: [there])
    assert usb.line_of("/dev/ttyUSB7").settle_seconds > 0
    assert usb.line_of("/dev/ttyUSB8") == usb.line_of("socket://x:1") == Line()
    assert usb.line_of("/dev/ttyUSB7", "mps2") == Line()  # the user's option takes precedence
    assert usb.start_seconds_of("/dev/ttyUSB7") == boards.load("esp32dev").start_seconds
    assert usb.start_seconds_of("/dev/ttyUSB7", "mps2") == boards.load("mps2").start_seconds
    longest = max(board.start_seconds for board in boards.usable() if board.real)
    assert usb.start_seconds_of("/dev/ttyUSB8") == usb.start_seconds_of("socket://x:1") == longest
    assert usb.usb_ports() == [usb.UsbPort("/dev/ttyUSB7", 0x1A86, 0x7523, None)]


def test_a_url_may_name_the_board_of_a_port() -> None:
    assert parse(["/dev/ttyACM0@mps2"]) == [DeviceSpec("/dev/ttyACM0", "serial", declared="mps2")]
    assert parse(["COM5@native", "socket://h:1@native"])[1].url == "socket://h:1"
    with pytest.raises(DeviceUrlError, match=r"no board 'mps3'; did you mean 'mps2'\?"):
        parse(["/dev/ttyACM0@mps3"])
    with pytest.raises(DeviceUrlError, match="given twice"):
        parse(["/dev/ttyACM0", "/dev/ttyACM0@mps2"])


def test_the_board_that_the_url_names_must_be_the_one_that_answers(plug: Plug) -> None:
    _, shim = plug({"board": b"nano33ble"})
    with launch(parse([f"{shim.url}@nano33ble"]), Path, start=HUNG_SECONDS) as (found,):
        assert found.board == "nano33ble"
    with (
        pytest.raises(WrongFirmware, match=rf"^{shim.url}@esp32dev: a nano33ble has answered; give {shim.url}@nano33ble"),
        launch(parse([f"{shim.url}@esp32dev"]), Path, start=HUNG_SECONDS),
    ):
        pass


# --- Coming back ---


def test_a_port_that_returns_under_another_name_is_found(plug: Plug) -> None:
    device, shim = plug({"unique_id": b"board--1"})
    other_device, other = plug({"unique_id": b"board--2"})
    bus = UsbBus(lambda: [usb.UsbPort(port.url, 0x1A86, 0x7523, None) for port in (other, shim)])
    with launch(parse([shim.url]), Path, start=HUNG_SECONDS, bus=bus) as (found,):
        name, spent = shim.url, found.traffic
        shim.unplug()  # from now on any program may get its name
        with pytest.raises(LinkError, match="went away"):
            found.session.fetch(0, 1)
        with pytest.raises(LinkError, match=r"does not exist|another board|is busy"):
            found.rejoin(0.2)
        spent_on_other = other_device.received
        with pytest.raises(LinkError, match=r"does not exist|another board|is busy"):
            found.rejoin(0.0)
        assert other_device.received == spent_on_other, "it was looked at already, and has not been unplugged since"
        took = [FakeDevice()]  # keeps the old name from being reused at once
        new = shim.plug_in()
        assert found.rejoin(HUNG_SECONDS) == ("answers again" if new == name else f"is {new} now")
        assert found.url == name and found.hello.unique_id == b"board--1"
        load_and_check(found.session, device, 50)
        assert found.traffic.down > spent.down
        took[0].close()


def test_a_board_that_was_flashed_meanwhile_is_refused(plug: Plug) -> None:
    device, shim = plug()

    def check(found: Device) -> None:
        if found.hello.model_hash != bytes(range(8)):
            raise WrongFirmware("another model")

    with launch(parse([shim.url]), Path, check=check, start=HUNG_SECONDS) as (found,):
        found.rejoin(HUNG_SECONDS)
        device.identity = type(device.identity)(
            *(getattr(device.identity, name) if name != "model_hash" else b"otherone" for name in device.identity.kinds())
        )
        with pytest.raises(WrongFirmware):
            found.rejoin(HUNG_SECONDS)


def test_the_search_for_a_board_can_be_stopped(plug: Plug) -> None:
    _, shim = plug()
    with launch(parse([shim.url]), Path, start=HUNG_SECONDS) as (found,):
        shim.unplug()
        asked = itertools.count(1)
        with pytest.raises(LinkError, match=r"does not exist|is busy|was stopped"):  # any program may get its name
            found.rejoin(HUNG_SECONDS, lambda: next(asked) >= 3)
        assert next(asked) <= 5
