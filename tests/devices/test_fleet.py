"""A fleet: work goes on while devices fail, lie, vanish and come back; every item is done once, or said not to be."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from clocks import HUNG_SECONDS, HeldClock

from tinymetafed.devices import fleet as fleet_module
from tinymetafed.devices.fleet import LATE_SECONDS, MAX_FAILURES, Fleet, FleetError
from tinymetafed.devices.link.link_errors import DeviceRefused, DeviceSilent, PortError, WrongFirmware
from tinymetafed.federation.clients import Traffic, TrainingFailed
from tinymetafed.learn.codecs.delta import DeltaError
from tinymetafed_codegen.protocol import Load, Program, Recipe, Status


@dataclass
class Hello:
    unique_id: bytes


@dataclass(eq=False)
class Stand:
    """Stands for a device and its session: raises ``trouble`` in turn (None: all well), and comes back when asked to.

    By ``clock`` it comes back ``away`` seconds after it is first looked for. It works at nothing before ``gate`` is open.
    """

    url: str
    trouble: list[Exception | None] = field(default_factory=list)
    away: float = 0.0
    gate: threading.Event | None = None
    clock: HeldClock = field(default_factory=HeldClock)  # the fleet's
    served: list[int] = field(default_factory=list)
    configured: int = 0
    rejoined: int = 0
    inside: int = 0
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def session(self) -> Stand:
        return self

    @property
    def hello(self) -> Hello:
        return Hello(self.url.encode())

    def configure(self, *_: Any) -> None:
        self.configured += 1

    def rejoin(self, patience: float, stop: Callable[[], bool]) -> str:
        waited = min(patience, self.away)
        self.clock.advance(waited)
        self.away -= waited
        if self.away:
            raise PortError(self.url, "does not exist; plug it in")
        self.rejoined += 1
        return "answers again"

    def work(self, item: int) -> int:
        self.inside += 1
        assert self.inside == 1, "a session serves one thread at a time"
        try:
            if self.gate is not None:
                assert self.gate.wait(HUNG_SECONDS), "hung"
            trouble = self.trouble.pop(0) if self.trouble else None
            if trouble is not None:
                raise trouble
            self.served.append(item)
            return item * item
        finally:
            self.inside -= 1


def work(session: Any, item: int) -> int:
    outcome: int = session.work(item)
    return outcome


def fleet(*stands: Stand, events: Events | None = None, patience: float = 0.2) -> Fleet:
    clock = HeldClock()
    for stand in stands:
        stand.clock = clock
    heard = Events() if events is None else events
    return Fleet(stands, on_event=heard.hear, patience=patience, clock=clock)  # type: ignore[arg-type]


class Events(list[str]):
    """What the fleet has told; the first that holds certain words opens a gate."""

    def __init__(self) -> None:
        super().__init__()
        self._gates: list[tuple[str, threading.Event]] = []

    def gate(self, words: str) -> threading.Event:
        """Is opened by an event with ``words``."""
        self._gates.append((words, threading.Event()))
        return self._gates[-1][1]

    def hear(self, event: str) -> None:
        self.append(event)
        for words, gate in self._gates:
            if words in event:
                gate.set()


def silent(name: str = "x") -> DeviceSilent:
    return DeviceSilent(f"{name}: no answer to Train in 3.1 s; reset the board")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_outcomes_come_in_the_items_order(count: int) -> None:
    """The first device ends last, where there are others."""
    last = threading.Event()
    stands = [Stand(f"d{n}") for n in range(count)]
    if count > 1:
        stands[0].gate = last

    def work_until_the_last(session: Any, item: int) -> int:
        outcome = work(session, item)
        if sum(len(stand.served) for stand in stands) == 6:
            last.set()
        return outcome

    served = fleet(*stands).map(range(7), work_until_the_last)
    assert [each.outcome for each in served] == [i * i for i in range(7)]
    assert {each.status for each in served} == {"accepted"} and sorted(i for s in stands for i in s.served) == list(range(7))
    assert fleet(*stands).map([], work) == []


def test_devices_work_at_the_same_time_and_take_turns() -> None:
    meeting = threading.Barrier(3, timeout=HUNG_SECONDS)  # broken unless all three come

    def wait(session: Any, item: int) -> int:
        meeting.wait()
        return item

    stands = [Stand("a"), Stand("b"), Stand("c")]
    together = fleet(*stands)
    assert [each.outcome for each in together.map([0, 1, 2], wait)] == [0, 1, 2]
    for item in range(6):
        together.map([item], work)
    assert [len(stand.served) for stand in stands] == [2, 2, 2]


@pytest.mark.parametrize("count", [1, 3])
def test_what_one_device_loses_is_redone(count: int) -> None:
    events = Events()
    back = events.gate("a answers again")
    stands = [Stand("a", [None, silent("a")]), *(Stand(f"s{n}", gate=back) for n in range(1, count))]
    together = fleet(*stands, events=events)
    together.configure(Program.TRAIN, Recipe(()))
    served = together.map(range(9), work)
    assert [each.outcome for each in served] == [i * i for i in range(9)]
    (redone,) = [each for each in served if each.redone]
    assert redone.status == "redone" and redone.note == "a: no answer to Train in 3.1 s"
    assert "a: no answer to Train in 3.1 s; a answers again" in events
    assert any(event.startswith("client ") and " redone on " in event for event in events)
    assert stands[0].rejoined == 1 and stands[0].configured == 2


def test_a_device_that_stays_away_is_lost_and_found_later() -> None:
    events = Events()
    away, stays = Stand("away", [silent("away")], away=math.inf), Stand("stays", gate=events.gate("lost after"))
    together = fleet(away, stays, events=events)
    assert [each.outcome for each in together.map(range(4), work)] == [0, 1, 4, 9]
    assert any("away: does not exist; lost after 0.2 s" in event for event in events)
    assert away.served == []
    away.away = 0.0
    stays.gate = events.gate("away answers again")
    away.clock.advance(LATE_SECONDS[0])  # it is looked for again some seconds later
    assert [each.outcome for each in together.map(range(4), work)] == [0, 1, 4, 9]
    assert away.rejoined == 1


def test_no_device_left_names_them_all() -> None:
    stands = [Stand("a", [silent("a")], away=math.inf), Stand("b", [silent("b")], away=math.inf)]
    with pytest.raises(FleetError, match="no device is left: a: does not exist; b: does not exist"):
        fleet(*stands, patience=0.05).map(range(4), work)


def test_a_client_that_lives_on_a_lost_board_is_skipped() -> None:
    events = Events()
    home, other = Stand("home", [silent("home")], away=math.inf), Stand("other")
    owners: dict[int, bytes | None] = {0: b"home", 1: None, 2: b"other", 3: b"elsewhere"}
    served = fleet(home, other, events=events, patience=0.05).map(range(4), work, pinned=owners.__getitem__)
    assert [each.status for each in served] == ["skipped", "accepted", "accepted", "skipped"]
    assert [each.outcome for each in served] == [None, 1, 4, None] and served[0].device == ""
    assert "its board is lost: home" in served[0].note and "is not among the devices" in served[3].note
    assert other.served == [1, 2]


def test_a_board_that_comes_back_in_time_keeps_its_clients() -> None:
    home, other = Stand("home", [silent("home")], away=4.9), Stand("other")
    served = fleet(home, other, patience=5.0).map([0, 1], work, pinned={0: b"home", 1: None}.__getitem__)
    assert [each.status for each in served] == ["redone", "accepted"] and served[0].device == "home"


def test_a_board_that_lied_once_still_serves_the_client_that_lives_on_it() -> None:
    home, other = Stand("home", [DeltaError("home: its update is invalid and was discarded: NaN")]), Stand("other")
    served = fleet(home, other).map([0, 1], work, pinned={0: b"home", 1: None}.__getitem__)
    assert [each.status for each in served] == ["redone", "accepted"] and served[0].device == "home"


def test_a_device_that_lies_twice_is_dropped() -> None:
    events = Events()
    liar = Stand("liar", [DeltaError("liar: its update is invalid and was discarded: NaN")] * 9)
    honest = Stand("honest", gate=events.gate("not used any more"))
    served = fleet(liar, honest, events=events).map(range(8), work)
    assert [each.outcome for each in served] == [i * i for i in range(8)]
    assert {each.device for each in served} == {"honest"} and liar.served == []
    assert any("liar" in event and "not used any more, because it sent 2 invalid updates" in event for event in events)
    with pytest.raises(FleetError, match="no device is left: liar"):
        fleet(Stand("liar", [DeltaError("liar: false")] * 9)).map([1], work)


def test_a_line_that_fails_every_time_is_given_up() -> None:
    bad = Stand("bad", [silent("bad")] * 99)
    with pytest.raises(FleetError, match="no device is left: bad"):
        fleet(bad).map([1], work)
    assert bad.rejoined == MAX_FAILURES - 1


@pytest.mark.parametrize("status", [Status.BAD_STATE, Status.BAD_TOKEN, Status.BAD_OFFSET])
def test_a_board_that_forgot_its_round_starts_it_again(status: Status) -> None:
    stand = Stand("a", [DeviceRefused("a", Load, status, 0)])
    (served,) = fleet(stand).map([3], work)
    assert (served.outcome, served.status, stand.rejoined) == (9, "redone", 1)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "error",
    [
        WrongFirmware("flash it"),
        TrainingFailed("a: NOT_FINITE", Status.NOT_FINITE),
        DeviceRefused("a", Load, Status.BAD_VALUE, 0),
        ValueError("sample 3 is NaN"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_no_other_attempt_would_mend_ends_the_work(
    count: int, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands = [Stand(f"d{n}") for n in range(count)]
    ended = threading.Event()
    end = fleet_module._Queue.fail

    def fail_and_say_so(queue: Any, reason: BaseException) -> None:
        end(queue, reason)
        ended.set()

    def fail(session: Any, item: int) -> int:
        if item == 1:
            raise error
        if item > 1:
            assert ended.wait(HUNG_SECONDS), "hung"
        return work(session, item)

    monkeypatch.setattr(fleet_module._Queue, "fail", fail_and_say_so)
    with pytest.raises(type(error)):
        fleet(*stands).map(range(30 * count), fail)
    assert sum(len(stand.served) for stand in stands) <= count  # item 0, and what the others were at
    assert all(stand.rejoined == 0 for stand in stands)


def test_two_boards_with_one_id_are_both_named() -> None:
    first, second = Stand("same"), Stand("same")
    second.url = "same"
    with pytest.raises(FleetError, match="same and same: both boards have the unique id 73616d65"):
        fleet(first, second)


def test_traffic_is_that_of_all_devices() -> None:
    stands = [Stand("a", traffic=Traffic(1, 2)), Stand("b", traffic=Traffic(10, 20, retries=3))]
    assert fleet(*stands).traffic == Traffic(11, 22, retries=3)
