"""A fleet: work goes on while devices fail, send wrong answers, vanish and return; each item is done once or reported lost."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from clocks import HUNG_SECONDS, HeldClock, wait_until

from tinymetafed.devices import work_queue
from tinymetafed.devices.fleet import Fleet
from tinymetafed.devices.link.link_errors import DeviceRefused, DeviceSilent, PortError, PortHeld, SampleTooLarge, WrongFirmware
from tinymetafed.devices.roster import LATE_SECONDS, MAX_FAILURES, MAX_INVALID_UPDATES, UNRELIABLE_SECONDS, FleetError
from tinymetafed.devices.shared_work import ENDLESS_FACTOR, ENDLESS_SECONDS, OVERDUE_SECONDS
from tinymetafed.federation.audit import MOST_REFUTED, Audit
from tinymetafed.federation.board_state import Presence
from tinymetafed.federation.clients import Doubtful, Traffic, TrainingFailed
from tinymetafed.learn.codecs.delta import DeltaError
from tinymetafed_codegen.protocol import Configure, Load, Program, Recipe, Status


@dataclass
class Hello:
    unique_id: bytes


@dataclass(eq=False)
class StandIn:
    """A stand-in for a device and its session: raises each of ``trouble`` in turn (None: no error), and rejoins on request.

    It rejoins ``away`` seconds, by ``clock``, after the fleet first looks for it. It starts no work before ``gate`` is open.
    """

    url: str
    trouble: list[Exception | None] = field(default_factory=list)
    away: float = 0.0
    gate: threading.Event | None = None
    clock: HeldClock = field(default_factory=HeldClock)  # shared with the fleet
    served: list[int] = field(default_factory=list)
    configured: int = 0
    rejoined: int = 0
    inside: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    board: str = "stand-in"

    @property
    def session(self) -> StandIn:
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

    def may_be_back(self) -> bool:
        return False

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


def fleet(*stand_ins: StandIn, events: Events | None = None, patience: float = 0.2) -> Fleet:
    clock = HeldClock()
    for stand_in in stand_ins:
        stand_in.clock = clock
    heard = Events() if events is None else events
    made = Fleet(stand_ins, on_event=heard.hear, patience=patience, clock=clock)  # type: ignore[arg-type]
    _MADE.append(made)
    return made


_MADE: list[Fleet] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Ends the searches of all fleets that a test has made."""
    yield
    for made in _MADE:
        with made:
            pass
    _MADE.clear()


class Events(list[str]):
    """Records the fleet's events; the first with given words opens a gate."""

    def __init__(self) -> None:
        super().__init__()
        self._gates: list[tuple[str, threading.Event]] = []

    def gate(self, words: str) -> threading.Event:
        """A gate that the first event containing ``words`` opens."""
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


CLAIMS = [
    TrainingFailed("a: NOT_FINITE", Status.NOT_FINITE),
    TrainingFailed("a: OVERFLOW", Status.OVERFLOW),
    *(DeviceRefused("a", Load, status, 0) for status in (Status.BAD_VALUE, Status.UNKNOWN_TYPE, Status.TOO_LARGE)),
    SampleTooLarge("a: sample 3 takes 900 bytes"),
    WrongFirmware("a: flash it"),
]


@pytest.mark.parametrize("error", CLAIMS, ids=str)
@pytest.mark.parametrize("count", [1, 3])
def test_what_boards_agree_on_ends_the_work(count: int, error: Exception) -> None:
    stand_ins = [StandIn(f"d{n}") for n in range(count)]
    tried: list[str] = []

    def fail(session: Any, item: int) -> int:
        if item == 1:
            tried.append(session.url)
            raise error
        return work(session, item)

    with pytest.raises(type(error)):
        fleet(*stand_ins).map(range(4), fail)
    assert len(tried) == len(set(tried)) == min(count, 2)


@pytest.mark.parametrize("error", CLAIMS, ids=str)
def test_what_one_board_claims_alone_is_done_again_on_another(error: Exception) -> None:
    events = Events()

    class Liar(StandIn):
        def work(self, item: int) -> int:
            wait_until(lambda: all(stand_in.inside for stand_in in honest))  # so that it has one client
            return super().work(item)

    liar = Liar("liar", [error] * 99)
    honest = [StandIn("b"), StandIn("c")]
    together = fleet(liar, *honest, events=events)
    for _ in range(MAX_INVALID_UPDATES):
        for stand_in in honest:
            stand_in.gate = events.gate("on another board")  # so that the liar has a client
        assert [each.outcome for each in together.map(range(3), work)] == [0, 1, 4]
    assert liar.served == [] and any(event.startswith("liar: ") and "not used any more" in event for event in events)


@pytest.mark.parametrize("error", CLAIMS, ids=str)
def test_what_a_board_claims_about_its_own_client_skips_it_until_another_board_agrees(error: Exception) -> None:
    boards = [StandIn("a", [error] * 9), StandIn("b"), StandIn("c", [None, error])]
    together = fleet(*boards)
    homes = [b"a", b"b", b"c"]
    first = together.map(range(3), work, pinned=homes.__getitem__)
    assert [each.status for each in first] == ["skipped", "accepted", "accepted"] and first[0].note == str(error).partition(
        ";"
    )[0]
    boards[1].trouble = [error]
    with pytest.raises(type(error)):
        together.map(range(3), work, pinned=homes.__getitem__)


def test_a_doubtful_outcome_counts_once_another_board_has_the_same() -> None:
    stand_ins = [StandIn("a"), StandIn("b"), StandIn("c")]

    def doubt(session: Any, item: int) -> int:
        raise Doubtful(f"{session.url}: a large change", item + (session.url == "a"), str(item + (session.url == "a")))

    served = fleet(*stand_ins).map([5, 6], doubt)
    assert [each.outcome for each in served] == [5, 6]
    (alone,) = fleet(StandIn("b")).map([5], doubt)
    assert (alone.outcome, alone.status, alone.note) == (5, "accepted", "b: a large change")


def audit(share: float = 0.0) -> Audit[int]:
    """Audits what boards do that are not proven, and a share of the rest."""
    return Audit(share, claim=lambda outcome: outcome, random=Random(1))


def lying(session: Any, item: int) -> int:
    """Boards whose name begins with "liar" all give the same wrong outcome."""
    return work(session, item) + int(session.url.startswith("liar"))


def test_audits_find_a_board_that_lies_and_no_lie_counts() -> None:
    stand_ins = [StandIn("liar"), StandIn("b"), StandIn("c")]
    events = Events()
    together = fleet(*stand_ins, events=events)
    for item in range(20):
        (served,) = together.map([item], lying, audit=audit())
        assert (served.outcome, served.status) == (item * item, "accepted")
    refused = [event for event in events if event.startswith("liar: its result of client")]
    assert len(refused) == MOST_REFUTED
    assert events[-1] == f"liar; not used any more, because other boards contradicted its results {MOST_REFUTED} times"
    assert len(stand_ins[0].served) == MOST_REFUTED


@pytest.mark.parametrize("first", [True, False])
def test_two_boards_that_lie_alike_among_ten_are_excluded_and_no_other(first: bool) -> None:
    liars, honest = [StandIn("liar 1"), StandIn("liar 2")], [StandIn(name) for name in "abcdefgh"]
    stand_ins = [*liars, *honest] if first else [*honest, *liars]
    events = Events()
    together = fleet(*stand_ins, events=events)
    asked = audit(0.3)
    outcomes = [together.map([item], lying, audit=asked)[0].outcome for item in range(200)]
    assert {event.split(";")[0] for event in events if "not used any more" in event} == {"liar 1", "liar 2"}
    assert outcomes[100:] == [item * item for item in range(100, 200)]


def test_proven_boards_are_audited_in_the_share_that_was_asked_for() -> None:
    stand_ins = [StandIn("a"), StandIn("b"), StandIn("c")]
    together = fleet(*stand_ins)
    for share, most in ((0.0, 0), (0.25, 60)):
        for item in range(20):
            together.map([item], work, audit=audit())  # until all are proven
        before = sum(len(each.served) for each in stand_ins)
        asked = audit(share)
        for item in range(100):
            together.map([item], work, audit=asked)
        repeated = sum(len(each.served) for each in stand_ins) - before - 100
        assert bool(most) <= repeated <= most


def test_two_boards_that_differ_are_both_named_and_both_kept() -> None:
    events = Events()
    together = fleet(StandIn("liar"), StandIn("b"), events=events)
    for item in range(5):
        together.map([item], lying, audit=audit())
    assert len(events) == 5 and all("have different results for client" in event for event in events)
    assert all("liar" in event and "b" in event and "no third board" in event for event in events)


def test_a_client_of_one_board_only_is_not_audited() -> None:
    stand_ins = [StandIn("a"), StandIn("b"), StandIn("c")]
    fleet(*stand_ins).map(range(3), work, pinned=lambda item: b"abc"[item : item + 1], audit=audit(1.0))
    assert [each.served for each in stand_ins] == [[0], [1], [2]]


def test_an_excluded_board_gets_no_work() -> None:
    stand_ins, events = [StandIn("a"), StandIn("b")], Events()
    together = fleet(*stand_ins, events=events)
    together.exclude(b"a", "its deltas point where others do not")
    together.exclude(b"nobody", "it is not there")
    together.map(range(4), work)
    assert [each.served for each in stand_ins] == [[], [0, 1, 2, 3]]
    said = "a: its deltas point where others do not"
    assert events == [f"{said}; not used any more, because it stands out from the others"]
    (skipped,) = together.map([1], work, pinned=lambda item: b"a")
    assert (skipped.status, skipped.note) == ("skipped", f"its board is lost: {said}")


def test_an_excluded_board_can_be_used_again_with_all_programs() -> None:
    stand_ins, events = [StandIn("a"), StandIn("b"), StandIn("c")], Events()
    with fleet(*stand_ins, events=events) as together:
        together.exclude(b"a", "its deltas point where others do not")
        together.roster.drop(together.roster.members[1], "b: lies", "it sent 2 invalid updates")
        together.exclude(b"b", "its deltas point where others do not")
        assert together.dropped == {b"b"}
        together.configure(Program.TRAIN, Recipe(()))
        for board in (b"a", b"b", b"c", b"nobody"):
            together.readmit(board)
        assert [each.device for each in together.map([0], work, pinned=lambda item: b"a")] == ["a"]
        (skipped,) = together.map([1], work, pinned=lambda item: b"b")
        assert skipped.status == "skipped", "it was not the exclusion that dropped it"
        together.exclude(b"a", "again")
        assert together.roster.members[0].presence is Presence.DROPPED


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


@dataclass(eq=False)
class Watched(StandIn):
    """Works on its first item until it is told to leave it."""

    watch: Any = None
    at_work: bool = False

    def work(self, item: int) -> int:
        if not self.at_work:
            self.at_work = True
            wait_until(self.told_to_leave)
            raise self.watch()
        return super().work(item)

    def told_to_leave(self) -> bool:
        self.clock.advance(OVERDUE_SECONDS / 20)
        return self.watch() is not None


def test_a_board_that_takes_much_longer_than_others_leaves_its_item_to_an_idle_one() -> None:
    events = Events()
    slow, quick = Watched("slow"), StandIn("quick")
    together = fleet(slow, quick, events=events)

    def one(session: Any, item: int) -> int:
        if session is quick:
            wait_until(lambda: slow.at_work)
        return work(session, item)

    served = together.map(range(3), one)
    assert [each.outcome for each in served] == [0, 1, 4] and {each.device for each in served} == {"quick"}
    (redone,) = [each for each in served if each.redone]
    assert redone.note.startswith("slow: not done after")
    assert any("when quick had done the same; other devices do its work, for 5 s at least" in event for event in events)
    assert slow.rejoined == 0, "it is left alone for some seconds"
    quick.clock.advance(LATE_SECONDS[0])
    quick.gate = events.gate("slow answers again")
    assert [each.outcome for each in together.map(range(3), one)] == [0, 1, 4] and slow.rejoined == 1


@pytest.mark.parametrize("count", [1, 3])
def test_a_board_that_nobody_can_stand_in_for_begins_again(count: int) -> None:
    class Endless(Watched):
        def told_to_leave(self) -> bool:
            self.clock.advance(ENDLESS_SECONDS / 4)
            return self.watch() is not None

    events = Events()
    endless, others = Endless("endless", at_work=True), [StandIn(f"b{n}") for n in range(1, count)]
    together = fleet(endless, *others, events=events)
    homes = [b"endless", b"b1", b"b2"][:count]

    def one(session: Any, item: int) -> int:
        if not session.served:
            session.clock.advance(0.1)  # how long an item takes
        return work(session, item)

    assert [each.status for each in together.map(range(count), one, pinned=homes.__getitem__)] == ["accepted"] * count
    endless.at_work = False
    served = together.map(range(count), one, pinned=homes.__getitem__)
    assert [each.outcome for each in served] == [item * item for item in range(count)]
    assert served[0].status == "redone" and served[0].note.startswith("endless: not done after")
    assert endless.rejoined == 1


def test_a_board_that_takes_ever_longer_gets_no_more_time_for_it() -> None:
    class Creeping(StandIn):
        watch: Any = None
        takes = 0.1
        longest = 0.0

        def work(self, item: int) -> int:
            self.takes *= ENDLESS_FACTOR - 1  # always less than what the last item would allow
            for step in range(1, 21):
                self.clock.advance(self.takes / 20)
                self.longest = max(self.longest, step * self.takes / 20)
                if (left := self.watch()) is not None:
                    self.takes = 0.1
                    raise left
            return super().work(item)

    events = Events()
    creeping = Creeping("creeping")
    together = fleet(creeping, events=events)
    for _ in range(12):
        assert together.map([3], work)[0].outcome == 9
    assert creeping.longest < 2 * ENDLESS_SECONDS
    assert any(event.startswith("creeping: not done after") for event in events)


def test_the_first_of_two_boards_to_end_an_item_that_takes_long_counts() -> None:
    class Slow(StandIn):
        watch: Any = None

        def work(self, item: int) -> int:
            def helped() -> bool:
                self.clock.advance(OVERDUE_SECONDS / 20)
                assert self.watch() is None
                return helper.at_work

            wait_until(helped)
            return super().work(item)

    events = Events()
    slow, helper = Slow("slow"), Watched("helper")
    (served,) = fleet(slow, helper, events=events).map([7], work)
    assert (served.outcome, served.device, served.status, served.note) == (49, "slow", "accepted", "")
    assert events == [] and helper.at_work and helper.rejoined == 0


def test_an_interrupt_says_what_it_waits_for_and_other_boards_leave_their_items() -> None:
    events = Events()
    slow, quick = Watched("slow"), StandIn("quick")

    def one(session: Any, item: int) -> int:
        if session is quick:
            wait_until(lambda: slow.at_work)
            raise KeyboardInterrupt
        return work(session, item)

    with pytest.raises(KeyboardInterrupt):
        fleet(quick, slow, events=events).map(range(2), one)
    assert events == ["interrupted: waiting for slow, for one step at most"]


def test_two_boards_with_one_id_are_both_named() -> None:
    first, second = StandIn("same"), StandIn("same")
    second.url = "same"
    with pytest.raises(FleetError, match="same and same: both boards have the unique id 73616d65"):
        fleet(first, second)


def test_traffic_is_the_sum_of_all_devices() -> None:
    stand_ins = [StandIn("a", traffic=Traffic(1, 2)), StandIn("b", traffic=Traffic(10, 20, retries=3))]
    assert fleet(*stand_ins).traffic == Traffic(11, 22, retries=3)
