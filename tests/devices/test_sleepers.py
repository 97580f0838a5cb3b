"""Boards that sleep: a round ends at its deadline with a quorum, names who was late, and loses nobody for good."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from clocks import HUNG_SECONDS, HeldClock, wait_until
from fake_device import FakeDevice

from tinymetafed.devices import launch as launching
from tinymetafed.devices.device_urls import DeviceSpec, parse
from tinymetafed.devices.fleet import Fleet
from tinymetafed.devices.link.link_errors import DeviceRefused, DeviceSilent, LinkError, PortError
from tinymetafed.devices.roster import MAX_FAILURES, FleetError
from tinymetafed.federation.clients import Served, Traffic
from tinymetafed.federation.quorum import Absence, Closing, Returned
from tinymetafed.learn.codecs.delta import DeltaError
from tinymetafed_codegen.protocol import Load, Status

DEADLINE = 90.0


@dataclass
class Hello:
    unique_id: bytes


@dataclass(eq=False)
class Sleeper:
    """A stand-in for a device and its session, which works and can be found while it is ``awake``.

    ``trouble``: raised in turn by its first items. ``slow``: its items never end.
    """

    url: str
    awake: bool = True
    slow: bool = False
    trouble: list[Exception] = field(default_factory=list)
    served: list[int] = field(default_factory=list)
    sought: int = 0
    watch: Callable[[], LinkError | None] | None = None
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def session(self) -> Sleeper:
        return self

    @property
    def hello(self) -> Hello:
        return Hello(self.url.encode())

    def configure(self, *_: Any) -> None:
        pass

    def rejoin(self, patience: float, stop: Callable[[], bool]) -> str:
        self.sought += 1
        if not self.awake:
            raise PortError(self.url, "does not exist; plug it in")
        return "answers again"

    def may_be_back(self) -> bool:
        return self.awake

    def work(self, item: int) -> int:
        if not self.awake:
            raise PortError(self.url, "was lost")
        if self.trouble:
            raise self.trouble.pop(0)
        while self.slow:
            if self.watch is not None and (reason := self.watch()) is not None:
                raise reason
        self.served.append(item)
        return item * item


class Rounds:
    """A fleet whose rounds are played in a thread, so that the test decides what time it is."""

    def __init__(self, *devices: Sleeper, quorum: int) -> None:
        self.clock, self.events = HeldClock(), list[str]()
        self.devices, self.quorum, self.number = devices, quorum, 0
        self.fleet = Fleet(devices, on_event=self.events.append, patience=math.inf, clock=self.clock)  # type: ignore[arg-type]
        self._pool = ThreadPoolExecutor(1)

    def begin(self, *, pinned: bool = True) -> Future[list[Served[int]]]:
        """Begins a round with an item for each board, its own if ``pinned``."""
        closing = Closing(self.number, self.quorum, DEADLINE)
        self.number += 1
        began = self.clock.monotonic()
        items = range(len(self.devices))
        own = (lambda item: self.devices[item].url.encode()) if pinned else None
        done = self._pool.submit(self.fleet.map, items, lambda session, item: session.work(item), pinned=own, closing=closing)  # type: ignore[attr-defined]
        assert self.clock.monotonic() == began
        return done

    def look(self) -> None:
        """Returns once every waiting thread has seen what time it is."""
        looks = self.clock.looks
        wait_until(lambda: self.clock.looks > looks + 10 * len(self.devices))

    def close(self) -> None:
        with self.fleet:
            pass
        self._pool.shutdown()


@pytest.fixture
def play() -> Iterator[Callable[..., Rounds]]:
    """Makes rounds, and ends their threads."""
    made: list[Rounds] = []

    def make(*devices: Sleeper, quorum: int) -> Rounds:
        made.append(Rounds(*devices, quorum=quorum))
        return made[-1]

    yield make
    for each in made:
        each.close()


def boards(count: int, *, asleep: int = 0) -> list[Sleeper]:
    """Boards of which the last ones sleep."""
    return [Sleeper(f"b{n}", awake=n < count - asleep) for n in range(count)]


def test_a_round_ends_at_its_deadline_with_a_quorum_and_names_who_is_late(play: Callable[..., Rounds]) -> None:
    devices = boards(5, asleep=2)
    there = play(*devices, quorum=3)
    done = there.begin()
    wait_until(lambda: all(device.served for device in devices[:3]) and all(device.sought for device in devices[3:]))
    there.clock.advance(DEADLINE - 1)
    there.look()
    assert not done.done(), "before the deadline a round waits for every board"
    there.clock.advance(1)
    served = done.result()
    assert [each.outcome for each in served] == [0, 1, 4, None, None]
    assert [each.status for each in served] == ["accepted"] * 3 + ["skipped"] * 2
    assert [each.late for each in served[3:]] == [Absence("b3", away=True), Absence("b4", away=True)]
    assert served[3].note.startswith("late: the round ended 90.0 s after its start; b3 was away: was lost")


def test_a_round_in_which_all_are_awake_does_not_wait_for_its_deadline(play: Callable[..., Rounds]) -> None:
    served = play(*boards(4), quorum=2).begin().result()
    assert [each.outcome for each in served] == [0, 1, 4, 9]
    assert not any(each.late or each.back for each in served)


def test_below_the_quorum_a_round_waits_on_and_says_so(play: Callable[..., Rounds]) -> None:
    devices = boards(5, asleep=3)
    there = play(*devices, quorum=3)
    done = there.begin()
    wait_until(lambda: all(device.served for device in devices[:2]) and all(device.sought for device in devices[2:]))
    there.clock.advance(DEADLINE)
    wait_until(lambda: there.events)
    assert there.events[-1].startswith("round 0: 2 of the 3 clients that run.quorum asks for are done after 90.0 s")
    there.clock.advance(1000)
    wait_until(lambda: len(there.events) == 2)
    there.look()
    assert not done.done()
    devices[2].awake = True
    wait_until(lambda: there.clock.advance(0.1) or done.done())
    served = done.result()
    assert [each.outcome for each in served] == [0, 1, 4, None, None], "the quorum is there, and the deadline is over"


def test_a_run_whose_boards_are_all_asleep_waits_and_goes_on_when_they_wake(play: Callable[..., Rounds]) -> None:
    devices = boards(3, asleep=3)
    there = play(*devices, quorum=2)
    done = there.begin()
    wait_until(lambda: all(device.sought for device in devices))
    for _ in range(3):
        there.clock.advance(3600)
        there.look()
    assert not done.done() and any("0 of the 2 clients" in event for event in there.events)
    for device in devices:
        device.awake = True
    wait_until(lambda: there.clock.advance(0.1) or done.done())
    assert sum(each.outcome is not None for each in done.result()) >= 2


def test_ctrl_c_ends_the_wait_for_boards_that_are_all_asleep(play: Callable[..., Rounds]) -> None:
    there = play(*boards(2, asleep=2), quorum=1)
    looks = there.clock.wait

    def pressed(changed: threading.Condition, seconds: float) -> None:
        if threading.current_thread() is threading.main_thread() and all(device.sought for device in there.devices):
            raise KeyboardInterrupt
        looks(changed, seconds)

    there.clock.wait = pressed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        there.fleet.map([0, 1], lambda session, item: session.work(item), closing=Closing(0, 1, DEADLINE))  # type: ignore[attr-defined]


def test_who_comes_back_takes_part_again_and_the_round_says_how_late_it_is(play: Callable[..., Rounds]) -> None:
    devices = boards(3, asleep=1)
    there = play(*devices, quorum=2)
    for _ in range(2):
        done = there.begin()
        wait_until(lambda: all(device.sought for device in devices[2:]) and len(devices[0].served) == there.number)
        wait_until(lambda: len(devices[1].served) == there.number)
        there.clock.advance(DEADLINE)
        assert done.result()[2].late == Absence("b2", away=True)
    devices[2].awake = True
    wait_until(lambda: there.clock.advance(0.1) or there.fleet.roster.members[2].up)
    served = there.begin().result()
    ended = served[2].back
    assert served[2].outcome == 4 and ended is not None
    assert (ended.device, ended.round) == ("b2", 0), "the first round that ended without it"
    assert ended.seconds >= DEADLINE, "a round later"
    assert there.begin().result()[2].back is None, "it is told once"


def test_a_board_that_is_at_work_at_the_deadline_leaves_its_item_and_stays(play: Callable[..., Rounds]) -> None:
    devices = boards(3)
    devices[1].slow = True
    there = play(*devices, quorum=2)
    done = there.begin()
    wait_until(lambda: devices[0].served and devices[2].served)
    there.clock.advance(DEADLINE)
    late = done.result()[1]
    assert late.late == Absence("b1", away=False) and "b1 was at work" in late.note
    devices[1].slow = False
    back = there.begin().result()[1]
    assert back.outcome == 1 and back.back == Returned("b1", 0, 0.0)
    assert not devices[1].sought, "nobody looks for it: it was never away"


def test_what_any_board_can_do_is_done_by_those_awake(play: Callable[..., Rounds]) -> None:
    devices = boards(5, asleep=3)
    served = play(*devices, quorum=1).begin(pinned=False).result()
    assert [each.outcome for each in served] == [0, 1, 4, 9, 16]
    assert {each.device for each in served} <= {"b0", "b1"}


@pytest.mark.parametrize(
    "sleep",
    [
        DeviceSilent("b1: no answer to Load in 3.1 s; reset the board"),
        PortError("b1", "was lost"),
        DeviceRefused("b1", Load, Status.BAD_STATE, 0),
    ],
    ids=["silent", "gone", "no memory"],
)
def test_going_to_sleep_however_often_is_no_failure(play: Callable[..., Rounds], sleep: Exception) -> None:
    devices = boards(2)
    devices[1].trouble = [sleep] * (3 * MAX_FAILURES)
    there = play(*devices, quorum=1)
    done = there.begin()
    wait_until(lambda: there.clock.advance(0.1) or (done.done() and not devices[1].trouble))
    done.result()
    assert not any("not used any more" in event for event in there.events)
    wait_until(lambda: there.clock.advance(0.1) or there.fleet.roster.members[1].up)
    assert there.begin().result()[1].outcome == 1


def test_a_board_that_wakes_only_to_sleep_again_fills_no_terminal(play: Callable[..., Rounds]) -> None:
    devices = boards(2)
    devices[1].trouble = [PortError("b1", "was lost") for _ in range(70)]
    there = play(*devices, quorum=1)
    done = there.begin()
    wait_until(lambda: there.clock.advance(0.1) or not devices[1].trouble)
    wait_until(lambda: there.clock.advance(0.1) or done.done())
    told = [event for event in there.events if "answers again" in event]
    assert len(told) == MAX_FAILURES + 4, "each of the first, then the 8th, 16th, 32nd and 64th"
    assert told[-1] == "b1: was lost; b1 answers again; it went away 64 times and has done nothing in between"


def test_a_quorum_that_no_board_is_left_for_ends_the_run_by_name(play: Callable[..., Rounds]) -> None:
    devices = boards(3)
    for device in devices[1:]:
        device.trouble = [DeltaError(f"{device.url}: its update is invalid") for _ in range(2)]
    there = play(*devices, quorum=3)
    done = there.begin()
    wait_until(lambda: there.clock.advance(0.1) or done.done())
    with pytest.raises(FleetError, match=r"round 0: 1 clients are done, run\.quorum asks for 3, and no board is left.*b1"):
        done.result()


def test_a_board_that_sleeps_when_the_run_begins_is_waited_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "SCAN_SECONDS", 0.01)
    port, events, known = tmp_path / "ttyACM0", list[str](), list[bytes]()

    def begin() -> None:
        specs = parse([str(port)])
        with launching.launch(specs, Path, start=HUNG_SECONDS, awaits_sleepers=True, on_event=events.append) as devices:
            known.extend(device.hello.unique_id for device in devices)

    board = FakeDevice(unique_id=b"a board.")
    try:
        with ThreadPoolExecutor(1) as pool:
            begun = pool.submit(begin)
            wait_until(lambda: events)
            assert "ttyACM0" in events[0] and "waiting until" in events[0] and not known
            port.symlink_to(board.url)
            begun.result(HUNG_SECONDS)
    finally:
        board.close()
    assert known == [b"a board."] and len(events) == 1


@pytest.mark.parametrize("others", [1, 0])
def test_a_board_that_only_its_broker_names_is_not_waited_for(
    others: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker has missed that it is gone. Without any other board that is the error."""
    board, ghost, events = (
        FakeDevice(unique_id=b"a board."),
        DeviceSpec(str(tmp_path / "ghost"), "serial", found=True),
        list[str](),
    )
    try:
        there = [DeviceSpec(board.url, "serial", found=True)][:others]
        monkeypatch.setattr(launching, "found_boards", lambda specs, clock, on_event: [ghost, *there])
        begun = launching.launch([], Path, start=HUNG_SECONDS, awaits_sleepers=True, on_event=events.append)
        if others:
            with begun as devices:
                assert [device.hello.unique_id for device in devices] == [b"a board."]
            (said,) = events
            assert said.startswith(f"{ghost.url}: ") and said.endswith("; the run continues without it, as other boards answer")
        else:
            with pytest.raises(PortError, match=ghost.url), begun:
                pass
    finally:
        board.close()
