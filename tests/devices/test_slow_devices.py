"""Devices that take much longer than others: another device does their work too, and the first result counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from clocks import wait_until
from stand_ins import Events, StandIn, fleet, work

from tinymetafed.devices.roster import LATE_SECONDS
from tinymetafed.devices.shared_work import ENDLESS_FACTOR, ENDLESS_SECONDS, OVERDUE_SECONDS


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
