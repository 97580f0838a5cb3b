"""Results that one board claims alone: another board must confirm them, and a board that lies is excluded."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from clocks import wait_until
from stand_ins import Events, StandIn, fleet, work

from tinymetafed.devices.link.link_errors import DeviceRefused, SampleTooLarge, WrongFirmware
from tinymetafed.devices.roster import MAX_INVALID_UPDATES
from tinymetafed.federation.audit import MOST_REFUTED, Audit
from tinymetafed.federation.board_state import Presence
from tinymetafed.federation.clients import Doubtful, TrainingFailed
from tinymetafed_codegen.protocol import Load, Program, Recipe, Status

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
    together.exclude(b"a", "its deltas point in another direction")
    together.exclude(b"nobody", "it is not there")
    together.map(range(4), work)
    assert [each.served for each in stand_ins] == [[], [0, 1, 2, 3]]
    said = "a: its deltas point in another direction"
    assert events == [f"{said}; not used any more, because it stands out from the others"]
    (skipped,) = together.map([1], work, pinned=lambda item: b"a")
    assert (skipped.status, skipped.note) == ("skipped", f"its board is lost: {said}")


def test_an_excluded_board_can_be_used_again_with_all_programs() -> None:
    stand_ins, events = [StandIn("a"), StandIn("b"), StandIn("c")], Events()
    with fleet(*stand_ins, events=events) as together:
        together.exclude(b"a", "its deltas point in another direction")
        together.roster.drop(together.roster.members[1], "b: lies", "it sent 2 invalid updates")
        together.exclude(b"b", "its deltas point in another direction")
        assert together.dropped == {b"b"}
        together.configure(Program.TRAIN, Recipe(()))
        for board in (b"a", b"b", b"c", b"nobody"):
            together.readmit(board)
        assert [each.device for each in together.map([0], work, pinned=lambda item: b"a")] == ["a"]
        (skipped,) = together.map([1], work, pinned=lambda item: b"b")
        assert skipped.status == "skipped", "it was not the exclusion that dropped it"
        together.exclude(b"a", "again")
        assert together.roster.members[0].presence is Presence.DROPPED
