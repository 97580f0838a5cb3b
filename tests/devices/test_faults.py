"""The fault injector: its syntax, the same faults for the same seed, the counts of its faults, and the pace of a line."""

from __future__ import annotations

import threading
from collections import deque
from itertools import pairwise

import numpy as np
import pytest
from clocks import HUNG_SECONDS, LOOK_SECONDS, FakeClock, HeldClock, wait_until
from fake_device import FakeBoard
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.devices.device_urls import parse as parse_urls
from tinymetafed.devices.launch import launch
from tinymetafed.devices.link.faults import (
    OVERTAKEN_SECONDS,
    PIECE_BYTES,
    STALL_SECONDS,
    FaultError,
    FaultPlan,
    Injector,
    Lane,
    Rates,
    paced,
    parse,
)
from tinymetafed.devices.link.link_errors import PortError
from tinymetafed.devices.link.session import Session
from tinymetafed.wire.frame import Decoder, encode
from tinymetafed_codegen.protocol import Dtype


class Line:
    """A line whose other end is the test: ``written`` came from the host, ``coming`` goes to the host."""

    def __init__(self) -> None:
        self.name, self.baud = "/dev/test", 115200
        self.written = b""
        self.coming: deque[bytes] = deque()
        self.closed = False
        self._waits = threading.Event()  # no effect but the time it takes

    def read(self, timeout: float) -> bytes:
        if not self.coming:
            self._waits.wait(LOOK_SECONDS)
        return self.coming.popleft() if self.coming else b""

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


FRAMES = [encode(1, n, bytes([n]) * 20) for n in range(200)]
END = bytes(64)  # single delimiters always pass; no damaged frame looks like this


def sent(plan: str, armed: bool = True) -> tuple[bytes, Injector]:
    """The part of FRAMES that arrives."""
    injector, line = Injector(parse(plan), 0), Line()
    injector.armed = armed
    with injector.wrap(line) as transport:
        for frame in FRAMES:
            transport.write(frame)
        transport.write(END)
        wait_until(lambda: line.written.endswith(END))
    assert line.closed
    return line.written.removesuffix(END), injector


# --- Syntax ---


def test_parse() -> None:
    plan = parse("flip=0.01, delay=20ms,up:drop=2%,down:flip=0.5,baud=115200,latency=16ms,seed=7")
    assert plan.down == Rates(flip=0.5, delay=0.02) and plan.up == Rates(flip=0.01, delay=0.02, drop=0.02)
    assert (plan.baud, plan.latency, plan.seed) == (115200, 0.016, 7)
    assert parse("") == FaultPlan() and parse("reboot=1e-3").reboots and not plan.reboots


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flop=0.1", "fault 'flop=0.1': did you mean 'flip'?"),
        ("xyz=1", "known: flip, drop"),
        ("flip", "expected flip=0.01"),
        ("flip=2", "a share of all frames from 0 to 1"),
        ("flip=20ms", "a share of all frames"),
        ("delay=20", "a time in us, ms or s"),
        ("delay=20min", "a time in us, ms or s"),
        ("delay=nan", "a time"),
        ("baud=9", "300 or more"),
        ("seed=x", "a whole number"),
        ("left:flip=0.1", "expected up:flip or down:flip"),
        ("up:baud=9600", "baud is for both directions"),
    ],
)
def test_parse_refuses(text: str, words: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse(text)
    assert words in str(caught.value)


@given(st.text(alphabet="flipdropdelay=.,:%0123456789ms upon", max_size=30))
def test_parse_of_anything_is_a_plan_or_an_error(text: str) -> None:
    try:
        plan = parse(text)
    except FaultError:
        return
    assert all(0 <= rate <= 60 for rates in (plan.up, plan.down) for rate in vars(rates).values())


def test_a_reboot_fault_needs_a_process() -> None:
    with pytest.raises(FaultError, match=r"^/dev/ttyACM0: fault 'reboot' restarts processes"):
        launch(parse_urls(["/dev/ttyACM0"]), lambda board: None, faults=parse("reboot=0.1")).__enter__()  # type: ignore[arg-type, return-value]


# --- What arrives ---


def test_without_faults_all_arrives() -> None:
    assert sent("")[0] == b"".join(FRAMES)


@pytest.mark.parametrize("fault", ["flip", "drop", "duplicate", "insert", "truncate"])
def test_each_fault_has_its_effect_and_is_counted(fault: str) -> None:
    arrived, injector = sent(f"{fault}=0.2,seed=3")
    hits = injector.injected[fault]
    assert 20 < hits < 65 and set(injector.injected) == {fault}
    decoder = Decoder()
    good = decoder.feed(arrived)
    original = [frame.sequence for frame in Decoder().feed(b"".join(FRAMES))]
    assert {frame.sequence for frame in good} <= set(original)
    if fault == "duplicate":
        assert len(good) == 200 + hits
    elif fault == "drop":
        assert len(good) == 200 - hits and decoder.damaged == 0
    else:
        assert 200 - 2 * hits <= len(good) < 200 and decoder.damaged > 0  # a lost delimiter loses the next frame too


def test_a_frame_that_is_overtaken_comes_behind_the_next_one_and_none_is_lost() -> None:
    arrived, injector = sent("reorder=0.2,seed=4")  # the last one is not
    order = [frame.sequence for frame in Decoder().feed(arrived)]
    assert sorted(order) == list(range(200)) and 20 < injector.injected["reorder"] < 65
    late = sum(later < sooner for sooner, later in pairwise(order))
    assert 15 < late <= injector.injected["reorder"]


def test_a_frame_that_none_overtakes_arrives_late() -> None:
    clock = FakeClock()
    lane = Lane(None, clock)
    began = clock.now
    lane.put(b"first", overtaken=True)
    assert lane.get(0.9 * OVERTAKEN_SECONDS) == b""
    assert lane.get(OVERTAKEN_SECONDS) == b"first" and clock.now == pytest.approx(began + OVERTAKEN_SECONDS)
    lane.put(b"first", overtaken=True)
    lane.put(b"second")
    assert lane.get(0.0) == b"secondfirst"


def test_the_other_faults_of_a_seed_are_the_same_with_reordering() -> None:
    assert sent("drop=0.1,seed=5,reorder=0.3")[1].injected["drop"] == sent("drop=0.1,seed=5")[1].injected["drop"]


def test_the_same_seed_gives_the_same_faults() -> None:
    plan = "flip=0.1,drop=0.05,insert=0.1,down:truncate=0.05"
    assert sent(f"{plan},seed=1")[0] == sent(f"{plan},seed=1")[0] != sent(f"{plan},seed=2")[0]


def test_faults_affect_bytes_to_the_host_too() -> None:
    line, injector = Line(), Injector(parse("up:drop=0.3,seed=2"), 0)
    line.coming.extend(b"".join(FRAMES)[at : at + 100] for at in range(0, 200 * len(FRAMES[0]), 100))
    line.coming.append(END)
    arrived = b""
    with injector.wrap(line) as transport:
        while not arrived.endswith(END):
            arrived += transport.read(HUNG_SECONDS)
    assert len(Decoder().feed(arrived)) == 200 - injector.injected["drop"] < 200


def test_a_disconnect_is_a_port_error_and_needs_an_armed_injector() -> None:
    injector = Injector(parse("down:disconnect=1"), 0)
    with injector.wrap(Line()) as transport:
        transport.write(FRAMES[0])
        injector.armed = True
        with pytest.raises(PortError, match="/dev/test: the line went away"):
            transport.write(FRAMES[0])
            transport.read(HUNG_SECONDS)
    assert injector.injected == {"disconnect": 1}


def test_a_reboot_calls_its_hook() -> None:
    calls: list[int] = []
    injector = Injector(parse("down:reboot=1"), 0)
    injector.armed = True
    with injector.wrap(Line(), lambda: calls.append(1)) as transport:
        transport.write(FRAMES[0])
    assert calls == [1]


# --- Pace ---

BAUD, LATENCY = 115200, 0.016
BYTE_SECONDS = 10 / BAUD


def test_bytes_arrive_when_the_line_has_carried_them() -> None:
    clock = FakeClock()
    lane = Lane(BAUD, clock)
    began = clock.now
    lane.put(b"a" * 576)
    lane.put(b"b" * 576, later=LATENCY)
    lane.put(b"c")  # this byte has no latency, and still does not overtake the one before it
    assert lane.get(0.049) == b"" and clock.now == pytest.approx(began + 0.049)
    assert lane.get(1.0) == b"a" * 576 and clock.now == pytest.approx(began + 576 * BYTE_SECONDS)
    assert lane.get(1.0) == b"b" * 576 + b"c" and clock.now == pytest.approx(began + 1152 * BYTE_SECONDS + LATENCY)
    assert clock.waits == 3, "it sleeps until something arrives"


def test_a_stalled_line_continues_with_the_next_byte() -> None:
    clock = FakeClock()
    lane = Lane(None, clock)
    began = clock.now
    lane.stall(STALL_SECONDS)
    lane.put(b"late")
    assert lane.get(0.5 * STALL_SECONDS) == b"" and lane.get(STALL_SECONDS) == b"late"
    assert clock.now == began + STALL_SECONDS


def test_a_paced_line_takes_its_time_in_both_directions() -> None:
    clock, line = HeldClock(), Line()
    with Injector(paced(BAUD, LATENCY), 0, clock).wrap(line) as transport:
        transport.write(bytes(576))
        transport.write(bytes(576))
        clock.advance(1151.5 * BYTE_SECONDS)
        wait_until(lambda: len(line.written) == 1151)
        looks = clock.looks
        wait_until(lambda: clock.looks > looks + 1)
        assert len(line.written) == 1151
        clock.advance(BYTE_SECONDS)
        wait_until(lambda: len(line.written) == 1152)

        line.coming.append(bytes(576))
        began, got = clock.monotonic(), 0
        while got < 576:
            clock.advance(BYTE_SECONDS)
            got += len(transport.read(0.0))
        assert clock.monotonic() - began > 576 * BYTE_SECONDS + LATENCY


class PacedLine:
    """Both directions of a paced line between a session and a board, all in one thread."""

    name, baud = "/dev/paced", BAUD

    def __init__(self, board: FakeBoard, clock: FakeClock) -> None:
        self._board, self._clock = board, clock
        self._down, self._up = Lane(BAUD, clock), Lane(BAUD, clock)

    def write(self, data: bytes) -> None:
        self._down.put(data)

    def read(self, timeout: float) -> bytes:
        until = self._clock.now + timeout
        while True:
            if arrived := self._up.get(0.0):
                return arrived
            self._board.receive(self._down.get(0.0))
            while self._board.work():
                pass
            said = self._board.take()
            for at in range(0, len(said), PIECE_BYTES):
                self._up.put(said[at : at + PIECE_BYTES], LATENCY)
            dues = [due for due in (self._down.due, self._up.due) if due is not None]
            if self._clock.now >= until:
                return b""
            self._clock.now = max(self._clock.now, min([until, *dues]))

    def close(self) -> None:
        pass

    def __enter__(self) -> PacedLine:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("window", "least"), [(256, 0.62), (1024, 0.85)])
def test_weights_fill_a_paced_line(window: int, least: float) -> None:
    """The line is busy for a larger share of the time than with one chunk at a time, which gives 56 and 83 %."""
    clock = FakeClock()
    board = FakeBoard(clock=clock, weights=2500, window=window)
    session = Session(PacedLine(board, clock), clock=clock)
    session.hello()
    before, began = session.traffic, clock.now
    session.load(1, [Part()])
    assert least < (session.traffic - before).down / (clock.now - began) / (BAUD / 10) <= 1.0


class Part:
    """2,500 weights."""

    offset, dtype, scale, data = 0, Dtype.F32, 0.0, np.arange(2500, dtype="<f4").tobytes()
