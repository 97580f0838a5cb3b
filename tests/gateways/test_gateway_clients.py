"""A run behind gateways: the same weights however its clients are spread, and whatever gateways fail, lie or come late."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from gateways_in_memory import CLIENTS, ROUNDS, SimulatedBoards, Site, first, gateway, setup, simulated, site, trained

from tinymetafed.devices.roster import FleetError
from tinymetafed.federation.clients import Served, Traffic, TrainingFailed
from tinymetafed.federation.rounds import rounds
from tinymetafed.gateways.backhaul import BackhaulError
from tinymetafed.gateways.gateway_clients import FIRST_SECONDS, LATE_FACTOR
from tinymetafed.gateways.gateway_roster import MAX_FAILURES, REFUSED_SECONDS, Standing
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.weights import sha256
from tinymetafed_codegen.protocol import Status

FORWARD, PRE_SUMMED = (), ("strategy.gateways=pre-summed",)
TOPOLOGIES = ((4,), (4, 4, 4), (1, 7), (2, 3, 4, 1, 2))


def resealed(content: bytearray) -> None:
    """Makes the CRC of a changed message right."""
    content[24:28] = struct.pack("<I", zlib.crc32(bytes(content[:24]) + bytes(4) + bytes(content[28:])))


@pytest.mark.parametrize("keys", [FORWARD, PRE_SUMMED])
def test_any_topology_ends_on_the_weights_of_one_simulation(keys: tuple[str, ...]) -> None:
    alone = simulated(setup(*keys))
    for boards in TOPOLOGIES:
        there = site(*boards, keys=keys)
        there.clients.roster.gather(len(boards))
        done = trained(there.made, there.clients)
        assert [sha256(each.weights) for each in done] == [sha256(each.weights) for each in alone]
        assert len(there.backhaul.sent) == len(boards) * (ROUNDS + 1), "one message per gateway and round, and one to join"
        shares = [len(there.boards(number).orders[0]) for number in range(1, len(boards) + 1)]
        most = max(-(-share // count) for share, count in zip(shares, boards, strict=True))
        assert sum(shares) == CLIENTS and most == -(-CLIENTS // sum(boards)), "no board has more to do than it must"


def test_pre_summed_weights_are_others_but_near() -> None:
    forward, summed = simulated(setup())[-1].weights, simulated(setup(*PRE_SUMMED))[-1].weights
    assert sha256(forward) != sha256(summed)
    assert np.allclose(forward, summed, atol=1e-3), "boards get float16, which a last bit may round to its neighbour"


def test_forwarded_contributions_are_those_of_the_simulation_with_the_board_that_made_them() -> None:
    there = site(2, 3)
    there.clients.roster.gather(2)
    alone, done = simulated(there.made), trained(there.made, there.clients)
    for one, other in zip(alone, done, strict=True):
        assert [part.digest for part in one.contributions] == [part.digest for part in other.contributions]
        assert {part.device for part in other.contributions} == {device.url for device in there.clients.devices}
        assert other.traffic.down > 0 and other.traffic.up == one.traffic.up
    assert {device.url for device in there.clients.devices} == {
        "lab0/native#1", "lab0/native#2", "lab1/native#1", "lab1/native#2", "lab1/native#3"
    }  # fmt: skip


def test_pre_summed_contributions_name_the_board_and_have_no_digest() -> None:
    there = site(2, 3, keys=PRE_SUMMED)
    there.clients.roster.gather(2)
    done = trained(there.made, there.clients)
    assert {part.digest for each in done for part in each.contributions} == {""}
    assert all(part.status == "accepted" and part.entries for each in done for part in each.contributions)


@pytest.mark.parametrize("keys", [FORWARD, PRE_SUMMED])
def test_a_gateway_that_dies_in_a_round_is_redone_by_others(keys: tuple[str, ...]) -> None:
    there = site(4, 4, 4, keys=keys)
    there.clients.roster.gather(3)
    there.backhaul.dies[2] = 3
    done = trained(there.made, there.clients)
    assert sha256(done[-1].weights) == sha256(simulated(there.made)[-1].weights)
    redone = [part for part in done[1].contributions if part.status == "redone"]
    assert len(redone) == 4 and all("lab1 is lost" in part.note for part in redone)
    assert {part.status for each in [done[0], *done[2:]] for part in each.contributions} == {"accepted"}
    assert "gateway lab1 is lost; others do its 4 clients" in there.said


def test_a_gateway_that_messages_cannot_reach_gets_no_second_order() -> None:
    there = site(4, 4)
    there.clients.roster.gather(2)
    there.backhaul.unreachable.add(2)
    done = trained(there.made, there.clients)
    assert sha256(done[-1].weights) == sha256(simulated(there.made)[-1].weights)
    redone = [part.note for each in done for part in each.contributions if part.status == "redone"]
    assert redone == ["gateway lab1 is lost (node unavailable)"] * 6


def test_a_gateway_that_is_started_again_joins_again() -> None:
    there = site(4, 4)
    there.clients.roster.gather(2)
    there.backhaul.dies[2] = 2
    weights = None
    for each in rounds(there.made.strategy, there.made.task, there.clients, first(there.made)):
        if each.index == 1:
            there.backhaul.gateways[7] = gateway(there.made, "lab1", 4)
            there.backhaul.clock += 5
        weights = each.weights
    assert weights is not None and sha256(weights) == sha256(simulated(there.made)[-1].weights)
    assert len(there.boards(7).orders) == ROUNDS - 3, "it joins while round 2 goes on"
    assert len(there.clients.devices) == 8, "it replaces itself"
    assert there.clients.traffic.up == sum(each.traffic.up for each in simulated(there.made)), (
        "nothing is counted twice or lost"
    )


def test_a_gateway_restarted_under_the_same_number_is_asked_to_join_again() -> None:
    there = site(4, 4)
    there.clients.roster.gather(2)
    there.backhaul.gateways[2] = gateway(there.made, "lab1", 3)
    done = trained(there.made, there.clients)
    assert sha256(done[-1].weights) == sha256(simulated(there.made)[-1].weights)
    assert len(there.clients.devices) == 7


def test_a_gateway_that_never_answers_holds_no_run() -> None:
    there = site(4, 4)
    there.clients.roster.gather(2)
    there.backhaul.silent.add(2)
    done = trained(there.made, there.clients)
    assert sha256(done[-1].weights) == sha256(simulated(there.made)[-1].weights)
    assert sum("gateway lab1 has not answered after 60" in line for line in there.said) == 1


@pytest.mark.parametrize("keys", [FORWARD, PRE_SUMMED])
@pytest.mark.parametrize("damage", ["short", "flipped", "foreign format", "foreign arithmetic"])
def test_answers_that_cannot_be_read_reach_no_weight(keys: tuple[str, ...], damage: str) -> None:
    there = site(4, 4, keys=keys)
    there.clients.roster.gather(2)

    def damaged(number: int, content: bytes) -> bytes:
        if number == 1:
            return content
        changed = bytearray(content)
        place = {"flipped": len(content) // 2, "foreign format": 4, "foreign arithmetic": 6}.get(damage)
        if place is None:
            return content[:-9]
        changed[place] ^= 0x10
        if damage == "foreign arithmetic":
            resealed(changed)
        return bytes(changed)

    there.backhaul.change = damaged
    done = trained(there.made, there.clients)
    assert sha256(done[-1].weights) == sha256(simulated(there.made)[-1].weights)
    assert any(line.startswith("gateway lab1 is not used: ") for line in there.said)


def test_a_claim_of_one_gateway_that_training_failed_ends_no_run() -> None:
    there = site(4, 4)
    there.clients.roster.gather(2)

    def fails(served: list[Served[Sparse]]) -> list[Served[Sparse]]:
        raise TrainingFailed("client 3: training failed: NOT_FINITE", Status.NOT_FINITE)

    there.boards(2).alter = fails
    done = trained(there.made, there.clients)
    assert sha256(done[-1].weights) == sha256(simulated(there.made)[-1].weights)
    there = site(4, 4)
    there.clients.roster.gather(2)
    there.boards(1).alter = there.boards(2).alter = fails
    with pytest.raises(TrainingFailed, match="client 3: training failed") as failed:
        trained(there.made, there.clients)
    assert failed.value.status is Status.NOT_FINITE


def test_without_any_gateway_left_the_run_stops_and_says_so() -> None:
    there = site(4, 4)
    there.clients.roster.gather(2)
    there.backhaul.dies |= {1: 3, 2: 3}
    with pytest.raises(BackhaulError, match=r"no gateway is left in round 1: gateway lab. is lost.*continue this run"):
        trained(there.made, there.clients)


def test_too_few_gateways_are_named() -> None:
    there = site(4, 4)
    with pytest.raises(BackhaulError, match=r"2 of 3 gateways have joined after 600 s: lab0, lab1; start the others"):
        there.clients.roster.gather(3)


def test_a_gateway_of_another_experiment_is_refused_by_key() -> None:
    made, other = setup(), setup("run.seed=9")
    there = Site.of(made, gateway(made, "lab0", 4), gateway(other, "lab1", 4))
    with pytest.raises(BackhaulError, match="1 of 2"):
        there.clients.roster.gather(2)
    assert there.said[-1] == (
        "gateway lab1 is not used: it runs another experiment: it has run.seed = 9, and this run has 1; start it with this "
        "run's experiment and data"
    )


def test_a_gateway_refuses_an_order_of_another_experiment() -> None:
    made, other = setup(), setup("run.seed=9")
    here, there = site(4), Site.of(other, gateway(other, "lab1", 4))
    here.clients.roster.gather(1)
    there.clients.roster.gather(1)
    here.backhaul.gateways[1] = there.backhaul.gateways[1]
    with pytest.raises(BackhaulError, match="another experiment"):
        trained(made, here.clients)
    assert there.boards(1).orders == []


def test_a_board_behind_two_gateways_is_used_behind_the_first_one() -> None:
    made = setup()
    there = Site.of(made, gateway(made, "lab0", 3, ids_from=10), gateway(made, "lab1", 3, ids_from=12))
    there.clients.roster.gather(2)
    done = trained(made, there.clients)
    assert sha256(done[-1].weights) == sha256(simulated(made)[-1].weights)
    assert len(there.clients.devices) == 5
    assert list(there.boards(2).excluded) == [f"{12:016x}"]
    assert any(
        f"board {12:016x} is behind two gateways, lab0/native#3 and lab1/native#1; only the first" in line
        for line in there.said
    )


def test_two_gateways_of_one_name_are_told_apart() -> None:
    made = setup()
    there = Site.of(made, gateway(made, "lab", 3, ids_from=10), gateway(made, "lab", 3, ids_from=90))
    with pytest.raises(BackhaulError, match="1 of 2"):
        there.clients.roster.gather(2)
    assert sum("two gateways are called lab" in line for line in there.said) == 1


def test_clients_with_boards_of_their_own_are_trained_there_or_skipped() -> None:
    made = setup()
    there = site(6, 6)
    there.clients.roster.gather(2)
    boards = [bytes.fromhex(device.unique_id) for device in there.clients.devices]
    by_board = {bytes.fromhex(device.unique_id): device.url for device in there.clients.devices}
    there.backhaul.dies[2] = 3
    done = trained(made, there.clients, boards)
    assert all(part.device == by_board[boards[part.client]] for part in done[0].contributions)
    for each in done[1:]:
        assert {part.status for part in each.contributions} == {"accepted", "skipped"}
        assert all(("lab1" in part.note) == (part.status == "skipped") for part in each.contributions)


def own_boards(there: Site) -> list[bytes]:
    """A board for each client."""
    return [bytes.fromhex(device.unique_id) for device in there.clients.devices]


@pytest.mark.parametrize("loss", ["dies", "silent"])
def test_no_round_ends_untrained_because_the_only_gateway_is_lost(loss: str) -> None:
    there = site(CLIENTS)
    there.clients.roster.gather(1)
    boards, done = own_boards(there), []
    with pytest.raises(BackhaulError, match=r"no gateway is left in round 1: gateway lab0 .*continue this run"):
        for each in rounds(there.made.strategy, there.made.task, there.clients, first(there.made), boards=boards):
            done.append(each)
            if loss == "dies":
                there.backhaul.gateways.clear()
            else:
                there.backhaul.silent.add(1)
    assert len(done) == 1 and not any("skipped" in line for line in there.said)


def test_clients_wait_for_their_gateway_while_it_joins_again() -> None:
    made, there = setup(), site(6, 6)
    there.clients.roster.gather(2)
    boards = own_boards(there)
    for each in rounds(made.strategy, made.task, there.clients, first(made), boards=boards):
        there.backhaul.gateways[2] = gateway(made, "lab1", 6)
        assert {part.status for part in each.contributions} <= {"accepted", "redone"}


def test_a_gateway_that_asks_for_nobody_holds_no_client_of_another() -> None:
    there = site(6, 6)
    there.clients.roster.gather(2)
    boards = own_boards(there)
    there.backhaul.dies[2] = 3
    there.backhaul.gateways[3] = gateway(there.made, "lab2", 6)
    there.backhaul.silent.add(3)
    done = trained(there.made, there.clients, boards)
    assert len(done) == ROUNDS and {part.status for part in done[-1].contributions} == {"accepted", "skipped"}
    assert there.backhaul.clock < 200, "it is waited for once"


def test_training_that_fails_at_every_gateway_ends_a_run_whose_clients_have_boards() -> None:
    def fails(served: list[Served[Sparse]]) -> list[Served[Sparse]]:
        raise TrainingFailed("client 3: training failed: NOT_FINITE", Status.NOT_FINITE)

    there = site(6, 6)
    there.clients.roster.gather(2)
    there.boards(2).alter = fails
    done = trained(there.made, there.clients, own_boards(there))
    assert [sum(part.status == "skipped" for part in each.contributions) for each in done] == [6] * ROUNDS
    there.boards(1).alter = fails
    with pytest.raises(TrainingFailed, match="client 3: training failed"):
        trained(there.made, there.clients, own_boards(there))


@pytest.mark.parametrize(("quorum", "closes"), [(0.5, True), (0.75, False)])
def test_a_round_with_a_quorum_skips_clients_of_a_lost_gateway_once_it_is_done(quorum: float, closes: bool) -> None:
    there = site(6, 6, keys=(f"run.quorum={quorum}", "run.deadline=60s"))
    there.clients.roster.gather(2)
    boards = own_boards(there)
    there.backhaul.dies[2] = 3
    if closes:
        done = trained(there.made, there.clients, boards)
        assert [sum(part.status == "accepted" for part in each.contributions) for each in done] == [12, 6, 6, 6]
        return
    with pytest.raises(BackhaulError, match=r"6 of 12 clients are done in round 1, run.quorum asks for 9.*lab1 is lost"):
        trained(there.made, there.clients, boards)


def test_a_board_that_has_moved_to_another_gateway_is_used_there() -> None:
    made = setup()
    there = Site.of(made, gateway(made, "zeta", CLIENTS, ids_from=10))
    there.clients.roster.gather(1)
    boards = own_boards(there)
    there.backhaul.gateways.pop(1)
    there.backhaul.clock += 2
    there.clients.roster.look()
    there.backhaul.gateways[2] = gateway(made, "alpha", CLIENTS, ids_from=10)
    there.backhaul.clock += 2
    there.clients.roster.gather(1)
    for each in trained(made, there.clients, boards):
        assert {(part.status, part.device[:6]) for part in each.contributions} == {("accepted", "alpha/")}


def test_a_late_gateway_that_answers_has_lost_the_boards_that_are_behind_another_one() -> None:
    made = setup()
    there = Site.of(made, gateway(made, "zeta", 4, ids_from=10))
    roster = there.clients.roster
    roster.gather(1)
    late = roster.up[0]
    late.standing = Standing.LATE
    there.backhaul.gateways[2] = gateway(made, "alpha", 3, ids_from=10)
    there.backhaul.clock += 2
    roster.gather(1)
    roster.back(late)
    assert [device.url for member in roster.up for device in member.devices] == [
        "alpha/native#1", "alpha/native#2", "alpha/native#3", "zeta/native#4"
    ]  # fmt: skip
    assert [board.hex() for board in late.excluded] == [f"{id_:016x}" for id_ in (10, 11, 12)]


def test_a_gateway_with_more_to_say_than_fits_is_understood() -> None:
    there = site(4, 4)
    there.clients.roster.gather(2)

    def fails(served: list[Served[Sparse]]) -> list[Served[Sparse]]:
        raise BackhaulError("no device is left: " + "; ".join(f"native#{i}: \x1b[2Jno answer ä" for i in range(90)))

    there.boards(2).alter = fails
    there.boards(1).alter = lambda served: [replace(each, note="\x9bbad\x1b[2J " + "ä" * 3000) for each in served]
    trained(there.made, there.clients)
    assert not any("refused" in line for line in there.said)
    assert any("lab1 has not trained its 6 clients: no device is left: native#0: ?[2Jno answer" in line for line in there.said)


def test_a_gateway_that_was_refused_and_is_started_correctly_under_its_number_joins() -> None:
    made, other = setup(), setup("run.seed=9")
    there = Site.of(made, gateway(other, "lab0", 4))
    with pytest.raises(BackhaulError, match="0 of 1"):
        there.clients.roster.gather(1)
    there.backhaul.gateways.pop(1)
    there.backhaul.clock += 2
    assert there.clients.roster.look() == []
    there.backhaul.gateways[1] = gateway(made, "lab0", 4)
    there.backhaul.clock += 2
    there.clients.roster.gather(1)
    assert there.said[-1] == "gateway lab0 has joined with 4 boards"


def test_a_refused_gateway_is_asked_again_after_a_time_in_which_nobody_looked() -> None:
    made, wrong = setup(), setup("run.seed=9")
    there = Site.of(made, gateway(wrong, "lab0", 4), gateway(made, "lab1", 4))
    roster = there.clients.roster
    roster.gather(1)
    for at in range(3):  # for instance while unseen clients are tested
        there.backhaul.clock += 30
        roster.look()
        for reply in there.backhaul.replies(roster.asked):
            roster.take(reply)
        if at == 1:
            there.backhaul.gateways[1] = gateway(made, "lab0", 4)
    assert sum("lab0 is not used" in line for line in there.said) == 1, "it is told once"
    assert there.said[-1] == "gateway lab0 has joined with 4 boards"


def test_a_gateway_that_is_refused_for_its_answers_is_used_only_after_it_was_started_again() -> None:
    there = site(4, 4)
    there.clients.roster.gather(2)
    there.backhaul.change = lambda number, content: content if number == 1 else content[:-9]
    trained(there.made, there.clients)
    there.backhaul.change = lambda number, content: content
    told = len(there.said)

    def asked_later() -> Standing:
        there.backhaul.clock += REFUSED_SECONDS[1] + 1
        there.clients.roster.look()
        for reply in there.backhaul.replies(there.clients.roster.asked):
            there.clients.roster.take(reply)
        return there.clients.roster.members[-1].standing

    assert asked_later() is Standing.REFUSED and there.said[told:] == [], "it is the same gateway, which is told once"
    there.backhaul.gateways[2] = gateway(there.made, "lab1", 4)
    assert asked_later() is Standing.UP


def test_boards_that_one_run_excludes_are_used_by_the_next() -> None:
    there = site(3)
    there.clients.roster.gather(1)
    victim = there.clients.devices[1]
    there.clients.exclude(victim.unique_id, "stands out")
    trained(there.made, there.clients)
    assert list(there.boards(1).excluded) == [victim.unique_id]
    after = Site.of(there.made, there.backhaul.gateways[1])
    after.clients.roster.gather(1)
    done = trained(after.made, after.clients)
    assert len(after.clients.devices) == 3 and after.boards(1).excluded == {}
    assert any(part.device == victim.url for each in done for part in each.contributions)


def test_boards_that_a_gateway_does_not_use_any_more_are_not_counted() -> None:
    there = site(4)
    dropped = there.boards(1).devices[1]
    there.clients.roster.gather(1)
    there.boards(1).dropped.add(dropped.unique_id)
    there.clients.roster.ask(there.clients.roster.members[0])  # as after a moment without a network
    there.clients.roster.gather(1)
    assert [device.url for device in there.clients.devices] == ["lab0/native#1", "lab0/native#3", "lab0/native#4"]
    done = trained(there.made, there.clients)
    assert {part.device for each in done for part in each.contributions} == {device.url for device in there.clients.devices}


def test_boards_that_a_gateway_did_not_use_any_more_get_work_in_the_next_run() -> None:
    there = site(4)
    there.clients.roster.gather(1)
    dropped = there.boards(1).devices[1]
    there.boards(1).dropped.add(dropped.unique_id)
    trained(there.made, there.clients)
    after = Site.of(there.made, there.backhaul.gateways[1])
    after.clients.roster.gather(1)
    assert len(after.clients.devices) == 4 and not after.boards(1).dropped


def test_a_gateway_whose_boards_fail_for_a_while_is_used_again() -> None:
    there = site(4, 4, keys=("run.rounds=10",))
    there.clients.roster.gather(2)
    failures = [FleetError("no device is left: native#1: no answer")] * MAX_FAILURES

    def fails(served: list[Served[Sparse]]) -> list[Served[Sparse]]:
        if failures:
            raise failures.pop()
        return served

    there.boards(2).alter = fails
    for each in rounds(there.made.strategy, there.made.task, there.clients, first(there.made)):
        if each.index == MAX_FAILURES - 1:
            assert "gateway lab1 is not used: it failed 5 times in a row" in there.said and not failures
        there.backhaul.clock += REFUSED_SECONDS[0] - 1
    assert len(there.boards(2).orders) == 10 - 2, "it is left out for two rounds, and then asked again"


def test_a_gateway_that_lies_about_its_time_holds_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    times = count(0, 10**9)
    monkeypatch.setattr("tinymetafed.gateways.gateway.monotonic", lambda: float(next(times)))
    there = site(4, 4)
    there.clients.roster.gather(2)
    for each in rounds(there.made.strategy, there.made.task, there.clients, first(there.made)):
        there.backhaul.silent.add(2)
        assert each.index == 0 or there.backhaul.clock < 100
    assert all(cost.longest <= cost.seconds for cost in there.clients.costs)


def test_a_gateway_that_takes_ever_longer_gets_no_more_time_for_it() -> None:
    there = site(4, 4)
    there.clients.roster.gather(2)
    waited, factor = 1.0, LATE_FACTOR - 1
    lates: list[float] = []

    def slowly(number: int, content: bytes) -> bytes:
        nonlocal waited
        if number == 2:
            there.backhaul.clock += waited
            lates.append(waited)
            waited *= factor  # always less than what the last order would allow
        return content

    there.backhaul.change = slowly
    done = trained(there.made, there.clients)
    assert sha256(done[-1].weights) == sha256(simulated(there.made)[-1].weights)
    assert there.clients._most_seconds() <= FIRST_SECONDS, lates


@pytest.mark.parametrize("claims", [[2**60] * 9, [2**40, 3, 2, 1, 0, 0, 0, 0, 0]])
def test_a_gateway_that_lies_about_its_bytes_is_not_used(claims: list[int]) -> None:
    class Boasting(SimulatedBoards):
        @property
        def traffic(self) -> Traffic:
            return Traffic(down=claims.pop(0) if len(claims) > 1 else claims[0])

    there = site(4, 4)
    there.boards(2).__class__ = Boasting
    there.clients.roster.gather(1)
    done = trained(there.made, there.clients)
    assert sha256(done[-1].weights) == sha256(simulated(there.made)[-1].weights)
    assert all(0 <= each.traffic.down < 2**50 for each in done)
    assert any(re.match("gateway (lab1|2) is not used: ", line) for line in there.said)


def test_a_board_that_the_server_excludes_gets_no_work() -> None:
    there = site(3, 3)
    there.clients.roster.gather(2)
    victim = there.clients.devices[1]
    there.clients.exclude(victim.unique_id, "stands out")
    done = trained(there.made, there.clients)
    assert all(part.device != victim.url for each in done for part in each.contributions)
    assert there.boards(1).excluded == {victim.unique_id: "stands out"}
