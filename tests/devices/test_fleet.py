"""A fleet: work goes on while devices fail, vanish and return; each item is done once or reported lost."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from clocks import HUNG_SECONDS
from stand_ins import Events, StandIn, fleet, silent, work

from tinymetafed.devices import work_queue
from tinymetafed.devices.link.link_errors import DeviceRefused, PortHeld, WrongFirmware
from tinymetafed.devices.roster import LATE_SECONDS, MAX_FAILURES, MAX_INVALID_UPDATES, UNRELIABLE_SECONDS, FleetError
from tinymetafed.federation.board_state import Presence
from tinymetafed.federation.clients import Traffic
from tinymetafed.learn.codecs.delta import DeltaError
from tinymetafed_codegen.protocol import Configure, Load, Program, Recipe, Status


@pytest.mark.parametrize("count", [1, 2, 3])
def test_outcomes_come_in_the_items_order(count: int) -> None:
    """The first device ends last if there are several."""
    last = threading.Event()
    stand_ins = [StandIn(f"d{n}") for n in range(count)]
    if count > 1:
        stand_ins[0].gate = last

    def work_until_the_last(session: Any, item: int) -> int:
        outcome = work(session, item)
        if sum(len(stand_in.served) for stand_in in stand_ins) == 6:
            last.set()
        return outcome

    served = fleet(*stand_ins).map(range(7), work_until_the_last)
    assert [each.outcome for each in served] == [i * i for i in range(7)]
    assert {each.status for each in served} == {"accepted"} and sorted(i for s in stand_ins for i in s.served) == list(range(7))
    assert fleet(*stand_ins).map([], work) == []


def test_devices_work_at_the_same_time_and_take_turns() -> None:
    meeting = threading.Barrier(3, timeout=HUNG_SECONDS)  # breaks unless all three arrive

    def wait(session: Any, item: int) -> int:
        meeting.wait()
        return item

    stand_ins = [StandIn("a"), StandIn("b"), StandIn("c")]
    together = fleet(*stand_ins)
    assert [each.outcome for each in together.map([0, 1, 2], wait)] == [0, 1, 2]
    for item in range(6):
        together.map([item], work)
    assert [len(stand_in.served) for stand_in in stand_ins] == [2, 2, 2]


@pytest.mark.parametrize("count", [1, 3])
def test_an_item_that_a_device_loses_is_redone(count: int) -> None:
    events = Events()
    back = events.gate("a answers again")
    stand_ins = [StandIn("a", [None, silent("a")]), *(StandIn(f"s{n}", gate=back) for n in range(1, count))]
    together = fleet(*stand_ins, events=events)
    together.configure(Program.TRAIN, Recipe(()))
    served = together.map(range(9), work)
    assert [each.outcome for each in served] == [i * i for i in range(9)]
    (redone,) = [each for each in served if each.redone]
    assert redone.status == "redone" and redone.note == "a: no answer to Train in 3.1 s"
    assert "a: no answer to Train in 3.1 s; a answers again" in events
    assert any(event.startswith("client ") and " redone on " in event for event in events)
    assert stand_ins[0].rejoined == 1 and stand_ins[0].configured == 2


def test_a_device_that_stays_away_is_lost_and_found_later() -> None:
    events = Events()
    away, stays = StandIn("away", [silent("away")], away=math.inf), StandIn("stays", gate=events.gate("lost after"))
    together = fleet(away, stays, events=events)
    assert [each.outcome for each in together.map(range(4), work)] == [0, 1, 4, 9]
    assert any("away: does not exist; lost after 0.2 s" in event for event in events)
    assert away.served == []
    away.away = 0.0
    stays.gate = events.gate("away answers again")
    away.clock.advance(LATE_SECONDS[0])  # the fleet looks for it again some seconds later
    assert [each.outcome for each in together.map(range(4), work)] == [0, 1, 4, 9]
    assert away.rejoined == 1


def test_whoever_watches_sees_what_each_device_does() -> None:
    good, bad = StandIn("good"), StandIn("bad", [silent("bad")], away=math.inf)
    seen: list[list[tuple[str, str, str, str]]] = []

    def watched(session: Any, item: int) -> int:
        outcome = work(session, item)
        seen.append([(each.url, each.presence, each.doing, each.reason) for each in made.states])
        return outcome

    made = fleet(good, bad)
    assert len(made.map([5, 6], watched)) == 2
    assert seen[-1][0] == ("good", "connected", f"client {good.served[-1]}", "")
    states = {each.url: each for each in made.states}
    assert (states["good"].doing, states["bad"].doing) == ("", "")
    assert states["bad"].presence in ("away", "lost") and "bad" in states["bad"].reason


def test_a_port_that_is_held_is_waited_for_longer() -> None:
    class Held(StandIn):
        def rejoin(self, patience: float, stop: Callable[[], bool]) -> str:
            if not self.away:
                return super().rejoin(patience, stop)
            self.away -= 1  # tries
            self.clock.advance(1.0)
            raise PortHeld(self.url, "is busy, held by ModemManager (pid 7); close the program")

        def may_be_back(self) -> bool:
            self.clock.advance(1.0)  # while the fleet pauses
            return True

    events = Events()
    held = Held("held", [silent("held")], away=9)
    (served,) = fleet(held, events=events, patience=10.0).map([3], work)
    assert served.outcome == 9
    assert [event for event in events if "waiting" in event] == ["held: is busy, held by ModemManager (pid 7); waiting for it"]
    held.trouble, held.away = [silent("held")], math.inf
    with pytest.raises(FleetError, match=r"no device is left: held: is busy, held by ModemManager \(pid 7\)"):
        fleet(held, patience=10.0).map([3], work)


def test_the_error_without_any_device_names_all_devices() -> None:
    stand_ins = [StandIn("a", [silent("a")], away=math.inf), StandIn("b", [silent("b")], away=math.inf)]
    with pytest.raises(FleetError, match="no device is left: a: does not exist; b: does not exist"):
        fleet(*stand_ins, patience=0.05).map(range(4), work)


def test_a_client_bound_to_a_lost_board_is_skipped() -> None:
    events = Events()
    home, other = StandIn("home", [silent("home")], away=math.inf), StandIn("other")
    owners: dict[int, bytes | None] = {0: b"home", 1: None, 2: b"other", 3: b"elsewhere"}
    served = fleet(home, other, events=events, patience=0.05).map(range(4), work, pinned=owners.__getitem__)
    assert [each.status for each in served] == ["skipped", "accepted", "accepted", "skipped"]
    assert [each.outcome for each in served] == [None, 1, 4, None] and served[0].device == ""
    assert "its board is lost: home" in served[0].note and "is not among the devices" in served[3].note
    assert other.served == [1, 2]


def test_a_board_that_comes_back_in_time_keeps_its_clients() -> None:
    home, other = StandIn("home", [silent("home")], away=4.9), StandIn("other")
    served = fleet(home, other, patience=5.0).map([0, 1], work, pinned={0: b"home", 1: None}.__getitem__)
    assert [each.status for each in served] == ["redone", "accepted"] and served[0].device == "home"


def test_a_board_with_one_wrong_answer_still_serves_its_client() -> None:
    home, other = StandIn("home", [DeltaError("home: its update is invalid and was discarded: NaN")]), StandIn("other")
    served = fleet(home, other).map([0, 1], work, pinned={0: b"home", 1: None}.__getitem__)
    assert [each.status for each in served] == ["redone", "accepted"] and served[0].device == "home"


def test_a_device_with_two_wrong_answers_is_dropped() -> None:
    events = Events()
    wrong = StandIn("wrong", [DeltaError("wrong: its update is invalid and was discarded: NaN")] * 9)
    right = StandIn("right", gate=events.gate("not used any more"))
    served = fleet(wrong, right, events=events).map(range(8), work)
    assert [each.outcome for each in served] == [i * i for i in range(8)]
    assert {each.device for each in served} == {"right"} and wrong.served == []
    assert any("wrong" in event and "not used any more, because it sent 2 invalid updates" in event for event in events)
    with pytest.raises(FleetError, match="no device is left: wrong"):
        fleet(StandIn("wrong", [DeltaError("wrong: false")] * 9)).map([1], work)


def test_a_line_that_fails_every_time_is_given_up() -> None:
    bad = StandIn("bad", [silent("bad")] * 99)
    with pytest.raises(FleetError, match="no device is left: bad"):
        fleet(bad).map([1], work)
    assert bad.rejoined == MAX_FAILURES - 1


def test_a_board_whose_line_was_unreliable_is_tried_again_later() -> None:
    events, bad = Events(), StandIn("bad", [silent("bad")] * MAX_FAILURES)
    with fleet(bad, StandIn("good"), events=events) as together:

        def round_(number: int) -> str:
            together.configure(Program.TRAIN, Recipe((), top_k=number))
            (served,) = together.map([number], work, pinned=lambda item: b"bad")
            return served.status

        assert round_(1) == "skipped"
        assert any(f"not used for {UNRELIABLE_SECONDS:g} s, because it failed 5 times in a row" in event for event in events)
        bad.clock.advance(UNRELIABLE_SECONDS - 1)
        assert round_(2) == "skipped" and together.dropped == {b"bad"}
        bad.clock.advance(1)
        assert round_(3) == "accepted" and together.dropped == set()
        bad.trouble = [silent("bad")]
        assert round_(4) == "redone", "it has done its work since, so that one failure puts it aside no more"


def test_a_board_that_is_tried_again_and_fails_is_left_alone_at_once() -> None:
    events, bad = Events(), StandIn("bad", [silent("bad")] * 99)
    with fleet(bad, StandIn("good"), events=events) as together:
        together.map([0], work, pinned=lambda item: b"bad")
        bad.clock.advance(UNRELIABLE_SECONDS)
        together.configure(Program.TRAIN, Recipe(()))
        together.map([0], work, pinned=lambda item: b"bad")
    assert len(bad.trouble) == 99 - MAX_FAILURES - 1
    assert sum("not used for" in event for event in events) == 2


def test_a_new_run_uses_every_board_again() -> None:
    liar, good = StandIn("liar", [DeltaError("liar: false")] * MAX_INVALID_UPDATES), StandIn("good")
    with fleet(liar, good) as together:
        together.map([0], work, pinned=lambda item: b"liar")
        together.exclude(b"good", "it stands out")
        assert [member.presence for member in together.roster.members] == [Presence.DROPPED] * 2
        together.readmit_all()
        served = together.map([1, 2], work, pinned={1: b"liar", 2: b"good"}.__getitem__)
        assert [each.status for each in served] == ["accepted"] * 2
        liar.trouble = [DeltaError("liar: false")]
        together.map([3], work, pinned=lambda item: b"liar")
        assert together.dropped == set(), "what it did in an earlier run does not count"


@pytest.mark.parametrize("status", [Status.BAD_STATE, Status.BAD_TOKEN, Status.BAD_OFFSET])
def test_a_board_that_forgot_its_round_starts_it_again(status: Status) -> None:
    stand_in = StandIn("a", [DeviceRefused("a", Load, status, 0)])
    (served,) = fleet(stand_in).map([3], work)
    assert (served.outcome, served.status, stand_in.rejoined) == (9, "redone", 1)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("sample 3 is NaN"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_a_retry_cannot_fix_ends_the_work(
    count: int, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins = [StandIn(f"d{n}") for n in range(count)]
    ended = threading.Event()
    end = work_queue.Queue.fail

    def fail_and_say_so(queue: Any, reason: BaseException) -> None:
        end(queue, reason)
        ended.set()

    def fail(session: Any, item: int) -> int:
        if item == 1:
            raise error
        if item > 1:
            assert ended.wait(HUNG_SECONDS), "hung"
        return work(session, item)

    monkeypatch.setattr(work_queue.Queue, "fail", fail_and_say_so)
    with pytest.raises(type(error)):
        fleet(*stand_ins).map(range(30 * count), fail)
    assert sum(len(stand_in.served) for stand_in in stand_ins) <= count  # item 0, and the items in work at the other devices
    assert all(stand_in.rejoined == 0 for stand_in in stand_ins)


def test_a_program_that_one_board_refuses_is_configured_on_the_others() -> None:
    events = Events()

    class Refusing(StandIn):
        def configure(self, *_: Any) -> None:
            raise DeviceRefused(self.url, Configure, Status.BAD_VALUE, 0)

    together = fleet(Refusing("a"), StandIn("b"), events=events)
    together.configure(Program.TRAIN, Recipe(()))
    assert [each.device for each in together.map([1, 2], work)] == ["b", "b"]
    assert any(event.startswith("a: refused Configure (BAD_VALUE)") for event in events)
    with pytest.raises(DeviceRefused):
        fleet(Refusing("a"), Refusing("b")).configure(Program.TRAIN, Recipe(()))


@pytest.mark.parametrize("count", [1, 2])
def test_a_board_that_comes_back_with_other_firmware_is_left_out(count: int) -> None:
    events = Events()

    class Reflashed(StandIn):
        def rejoin(self, patience: float, stop: Callable[[], bool]) -> str:
            raise WrongFirmware("a: the firmware holds model 1, the experiment has model 2; flash it")

    stand_ins = [Reflashed("a", [silent("a")]), StandIn("b", gate=events.gate("a: the firmware holds model 1"))]
    together = fleet(*stand_ins[:count], events=events)
    if count == 1:
        with pytest.raises(WrongFirmware, match="a: the firmware holds"):
            together.map(range(4), work)
    else:
        assert [each.outcome for each in together.map(range(4), work)] == [0, 1, 4, 9]
        assert any("; flash it" in event for event in events)


def test_two_boards_with_one_id_are_both_named() -> None:
    first, second = StandIn("same"), StandIn("same")
    second.url = "same"
    with pytest.raises(FleetError, match="same and same: both boards have the unique id 73616d65"):
        fleet(first, second)


def test_traffic_is_the_sum_of_all_devices() -> None:
    stand_ins = [StandIn("a", traffic=Traffic(1, 2)), StandIn("b", traffic=Traffic(10, 20, retries=3))]
    assert fleet(*stand_ins).traffic == Traffic(11, 22, retries=3)
