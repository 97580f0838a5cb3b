"""The training clients of an experiment, spread over gateways; what one gateway loses is done again by others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from tinymetafed_codegen.protocol import Status

from ..federation.clients import DeviceFacts, Served, Traffic, TrainingFailed
from ..federation.sums import Share
from ..learn.codecs.delta import Sparse
from ..learn.codecs.downlink import Segment
from ..learn.fixed_sum import Integers
from ..learn.strategies import Strategy
from ..learn.weights import Floats
from .backhaul import Backhaul, BackhaulError, BackhaulTraffic, Reply
from .gateway import shape_of
from .gateway_fields import GatewayMessageError
from .gateway_messages import Failed, ForeignMessage, Kind, Trained, TrainOrder, opened, read_failed, read_trained, sealed
from .gateway_roster import MAX_FAILURES, MAX_INVALID, REFUSED_SECONDS, GatewayMember, GatewayRoster, Standing
from .terms import Terms

Outcome = TypeVar("Outcome")

FIRST_SECONDS = 600.0  # that a gateway may take for its first order
LATE_SECONDS = 60.0  # and for a later one, however short the others were
LATE_FACTOR = 8.0  # and so many times the longest so far
PATIENCE_SECONDS = 60.0  # for a lost gateway to come back, if no other can go on


@dataclass(eq=False)
class _Order:
    """An order on its way: its places in the round's list of clients, and when it was given."""

    member: GatewayMember
    order: TrainOrder
    places: tuple[int, ...]
    began: float

    @property
    def turns(self) -> int:
        """The most clients that one of the gateway's boards has to train, if all take part."""
        return max(1, -(-len(self.places) // max(1, len(self.member.devices))))


@dataclass(eq=False)
class _Round:
    """A round in progress."""

    number: int
    of: int
    exponent: int | None
    download: tuple[Segment, ...]
    clients: Sequence[int]
    boards: Sequence[bytes] | None
    waiting: list[int]  # places that no gateway works on
    due: dict[str, _Order] = field(default_factory=dict)  # by message
    tried: dict[int, set[int]] = field(default_factory=dict)  # by place: numbers of gateways that failed
    notes: dict[int, str] = field(default_factory=dict)  # by place: why it is done again, or skipped
    done: list[tuple[_Order, Trained]] = field(default_factory=list)
    failure: Failed | None = None  # the latest
    longest: float = 0.0  # seconds of an order that is done
    processor: int = 0  # microseconds of gateways
    hopeless: float | None = None  # since when clients wait, and no gateway is at work

    def again(self, places: Sequence[int], why: str) -> None:
        """Puts places back to be done by others."""
        self.waiting += places
        self.notes |= dict.fromkeys(places, why)

    def is_over(self) -> bool:
        """Whether every client is done or skipped."""
        return not self.waiting and not self.due

    @property
    def accepted(self) -> int:
        """How many clients are done."""
        return sum(each.outcome is not None for _, trained in self.done for each in trained.served or trained.shares)

    def able(self, members: Sequence[GatewayMember]) -> bool:
        """Whether one of these gateways has not failed in this round."""
        failed = set[int]().union(*self.tried.values())
        return any(member.number not in failed for member in members)


@dataclass(frozen=True)
class RoundCost:
    """What a round took.

    ``seconds``: until all gateways had answered; ``longest``: of them the longest of one gateway's own work. ``processor``:
    seconds of processors in gateways, without what boards and this machine took; 0 in the first round of a gateway.
    ``backhaul``: bytes and number of messages.
    """

    seconds: float
    longest: float
    processor: float
    backhaul: BackhaulTraffic


class GatewayClients:
    """The training clients of an experiment (clients.Trainers), each trained by any board behind any gateway."""

    def __init__(
        self,
        backhaul: Backhaul,
        strategy: Strategy,
        terms: Terms,
        on_event: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Nobody has joined yet; ``roster.gather`` waits for gateways."""
        self.costs: list[RoundCost] = []  # of all rounds of this session
        self._backhaul, self._strategy, self._terms, self._on_event = backhaul, strategy, terms, on_event
        self._shape = shape_of(strategy)
        self.roster = GatewayRoster(backhaul, terms, self._shape, on_event)
        self._longest = FIRST_SECONDS / LATE_FACTOR  # seconds of an order that is done
        self._late: dict[str, GatewayMember] = {}  # gateways that may still answer an order that others have done

    @property
    def traffic(self) -> Traffic:
        """All bytes on the lines of boards so far, those of lost gateways included."""
        return self.roster.traffic

    @property
    def devices(self) -> list[DeviceFacts]:
        """The boards of all gateways that have joined, those that are lost included."""
        return [device for member in self.roster.members for device in member.devices]

    def exclude(self, board: str, why: str) -> None:
        """See Trainers."""
        self.roster.excluded[bytes.fromhex(board)] = why

    def train(
        self, weights: Floats, clients: Sequence[int], round_: int, boards: Sequence[bytes] | None = None
    ) -> list[Served[Sparse]]:
        """See Trainers; updates come as the boards sent them."""
        done = self._train(weights, clients, round_, None, boards)
        served = {place: each for order, trained in done.done for place, each in zip(order.places, trained.served, strict=True)}
        return [_with_note(done, place, served.get(place)) for place in range(len(clients))]

    def train_summed(
        self, weights: Floats, clients: Sequence[int], round_: int, exponent: int, boards: Sequence[bytes] | None = None
    ) -> tuple[list[Served[Share]], Integers]:
        """See SummingTrainers; each gateway has added up the updates of its boards."""
        done = self._train(weights, clients, round_, exponent, boards)
        total = np.zeros(weights.size, np.int64)
        for _, trained in done.done:
            assert trained.sum_ is not None
            total += trained.sum_
        served = {place: each for order, trained in done.done for place, each in zip(order.places, trained.shares, strict=True)}
        return [_with_note(done, place, served.get(place)) for place in range(len(clients))], total

    def _train(
        self, weights: Floats, clients: Sequence[int], number: int, exponent: int | None, boards: Sequence[bytes] | None
    ) -> _Round:
        """Has every client trained, or skipped where its board is behind no gateway that is there."""
        began, before = self._backhaul.now(), self._backhaul.traffic
        download = tuple(self._strategy.downloaded(weights))
        waiting = list(range(len(clients)))
        round_ = _Round(number, len(clients), exponent, download, clients, boards, waiting)
        last = began
        while True:
            self._look(round_)
            self._hand_out(round_)
            if round_.is_over():
                break
            replies = self._backhaul.replies([*round_.due, *self.roster.asked, *self._late])
            for reply in replies:
                self._take(round_, reply)
            if replies:
                last = self._backhaul.now()
            else:
                self._require_hope(round_)
                self._backhaul.wait(self._backhaul.now() - last)
        seconds, backhaul = self._backhaul.now() - began, self._backhaul.traffic - before
        self.costs.append(RoundCost(seconds, round_.longest, round_.processor / 1e6, backhaul))
        return round_

    def _look(self, round_: _Round) -> None:
        """Finds gateways that are lost or late; their clients are done again."""
        gone = self.roster.look()
        now = self._backhaul.now()
        for message, order in list(round_.due.items()):
            member = order.member
            if member in gone:
                why = f"{member.title} is lost"
            elif now - order.began > self._most_seconds(order.turns):
                why, member.standing = f"{member.title} has not answered after {now - order.began:.0f} s", Standing.LATE
                self._late[message] = member
            else:
                continue
            del round_.due[message]
            round_.again(order.places, why)
            self._on_event(f"{why}; others do its {len(order.places)} clients")
        for member in gone:
            if member.devices and all(order.member is not member for order in round_.due.values()) and not round_.notes:
                self._on_event(f"{member.title} is lost, with {len(member.devices)} boards; others do its work")

    def _most_seconds(self, turns: int = 1) -> float:
        """How long a gateway may take for an order in which a board has up to ``turns`` clients.

        Beyond FIRST_SECONDS only the shortest turn of each gateway counts, so that none gets ever more by being ever slower.
        """
        turn = max((member.turn for member in self.roster.members if member.turn is not None), default=0.0)
        known = max(min(FIRST_SECONDS, LATE_FACTOR * self._longest), LATE_FACTOR * turn * turns)
        return max(LATE_SECONDS, known) + (self._strategy.experiment.run.deadline_seconds or 0.0)

    def _hand_out(self, round_: _Round) -> None:
        """Spreads the clients that wait over the gateways that are free, in proportion to their boards."""
        busy = {order.member for order in round_.due.values()}
        free = [member for member in self.roster.up if member not in busy]
        for member, places in self._shares(round_, free).items():
            if not places:
                continue
            own = None if round_.boards is None else tuple(round_.boards[round_.clients[place]] for place in places)
            chosen = tuple(round_.clients[place] for place in places)
            excluded = tuple((self.roster.excluded | member.excluded).items())
            order = TrainOrder(
                member.session, round_.number, round_.of, round_.exponent, round_.download, chosen, own, excluded
            )
            message = self._backhaul.send(member.number, sealed(order, self._terms.identity, self._shape))
            round_.due[message] = _Order(member, order, tuple(places), self._backhaul.now())
            round_.waiting = [place for place in round_.waiting if place not in set(places)]

    def _shares(self, round_: _Round, free: Sequence[GatewayMember]) -> dict[GatewayMember, list[int]]:
        """The places that each free gateway gets."""
        if round_.boards is not None:
            return self._shares_of_owners(round_, free)
        shares: dict[GatewayMember, list[int]] = {member: [] for member in free}
        for place in sorted(round_.waiting):
            able = [member for member in free if member.number not in round_.tried.get(place, ())]
            if able:
                least = min(able, key=lambda member: (len(shares[member]) + 1) / len(member.devices))
                shares[least].append(place)
        return shares

    def _shares_of_owners(self, round_: _Round, free: Sequence[GatewayMember]) -> dict[GatewayMember, list[int]]:
        """As ``_shares``, where each client has a board of its own; skips those whose board is not there, if it may."""
        assert round_.boards is not None
        owners, may_skip = self.roster.owners, self._may_skip(round_)
        shares: dict[GatewayMember, list[int]] = {member: [] for member in free}
        for place in sorted(round_.waiting):
            board = round_.boards[round_.clients[place]]
            owner = owners.get(board)
            if owner in shares and owner.number not in round_.tried.get(place, ()):
                shares[owner].append(place)
            elif may_skip and (owner is None or owner.standing is not Standing.UP or owner in shares):
                round_.waiting.remove(place)
                if owner not in shares:  # otherwise the note says how it failed there
                    lost = "behind no gateway of this run" if owner is None else f"behind {owner.title}, which is lost"
                    round_.notes[place] = f"its board {board.hex()} is {lost}"
                self._on_event(f"client {round_.clients[place]} skipped: {round_.notes[place]}")
        return shares

    def _may_skip(self, round_: _Round) -> bool:
        """Whether clients are skipped whose board is not there: others go on with the round, and no gateway may join soon."""
        if self._strategy.experiment.run.quorum is not None:
            return round_.accepted >= self._quorum(round_)
        waited = 0.0 if round_.hopeless is None else self._backhaul.now() - round_.hopeless
        return round_.able(self.roster.up) and (waited >= PATIENCE_SECONDS or not self.roster.hopes(PATIENCE_SECONDS))

    def _quorum(self, round_: _Round) -> int:
        return self._strategy.experiment.run.quorum_of(len(round_.clients))

    def _take(self, round_: _Round, reply: Reply) -> None:
        """Handles a reply to an order or to a question."""
        if (late := self._late.pop(reply.to, None)) is not None:
            if late.standing is Standing.LATE:
                self.roster.back(late)
                self._on_event(f"{late.title} has answered an old order and is used again")
            return
        order = round_.due.pop(reply.to, None)
        if order is None:
            self.roster.take(reply)
            return
        member = order.member
        if reply.content is None:
            self._lose(round_, order, reply.why)
            return
        try:
            answer = self._answer_of(reply.content, order)
            if isinstance(answer, Trained):
                round_.processor += max(0, answer.processor - (member.processor or answer.processor))
                self.roster.add(member, answer.traffic, answer.processor)
        except GatewayMessageError as error:
            member.invalid += 1
            answer = Failed(f"its answer is refused: {error}")
            if isinstance(error, ForeignMessage) or member.invalid >= MAX_INVALID:
                self.roster.refuse(member, f"{error}")
        if isinstance(answer, Trained):
            took = min(answer.microseconds / 1e6, self._backhaul.now() - order.began)  # a gateway may state too much
            round_.longest = max(took, round_.longest)
            self._longest = max(took, self._longest if self.costs else 0.0)
            turn = took / order.turns
            member.turn = turn if member.turn is None else min(turn, member.turn)
            round_.done.append((order, answer))
            if undone := self._undone(order, answer):
                why = f"{member.title} left {len(undone)} of its {len(order.places)} clients out, which any board can train"
                round_.again(undone, why)
                self._count_failure(round_, member, undone)
                self._on_event(f"{why}; others do them")
            else:
                member.failures, member.pause = 0, REFUSED_SECONDS[0]
            return
        round_.again(order.places, f"{member.title}: {' '.join(answer.text.split())}")
        if answer.stale:
            self.roster.ask(member)
            return
        round_.failure = answer
        self._on_event(f"{member.title} has not trained its {len(order.places)} clients: {answer.text}")
        self._count_failure(round_, member, order.places)

    def _undone(self, order: _Order, answer: Trained) -> list[int]:
        """Places that a gateway has left out though any board can train them, and no deadline allows it."""
        if order.order.boards is not None or self._strategy.experiment.run.quorum is not None:
            return []
        outcomes: Sequence[Served[Sparse] | Served[Share]] = answer.served if order.order.exponent is None else answer.shares
        return [place for place, each in zip(order.places, outcomes, strict=True) if each.outcome is None]

    def _count_failure(self, round_: _Round, member: GatewayMember, places: Sequence[int]) -> None:
        """Notes that a gateway has not trained some places; refuses it if it fails in every round."""
        for place in places:
            round_.tried.setdefault(place, set()).add(member.number)
        member.failures += 1
        if member.failures >= MAX_FAILURES and member.standing is Standing.UP:
            self.roster.refuse(member, f"it failed {member.failures} times in a row")

    def _lose(self, round_: _Round, order: _Order, why: str) -> None:
        """Gives the order of a lost gateway to others; the gateway is asked to join again when it is back."""
        member = order.member
        member.standing, member.failures = Standing.LOST, member.failures + 1
        round_.again(order.places, f"{member.title} is lost ({why})")
        self._on_event(f"{member.title} is lost; others do its {len(order.places)} clients")
        if member.failures >= MAX_FAILURES:
            self.roster.refuse(member, f"it was lost {member.failures} times in a row")

    def _answer_of(self, content: bytes, order: _Order) -> Trained | Failed:
        """The answer to an order. Raises GatewayMessageError."""
        kind, identity, reader = opened(content)
        if kind is Kind.FAILED:
            return read_failed(reader)
        if kind is not Kind.TRAINED or identity != self._terms.identity:
            raise GatewayMessageError(f"message: {kind.name} of another run, expected TRAINED")
        return read_trained(reader, self._shape, order.member.names, order.order)

    def _require_hope(self, round_: _Round) -> None:
        """Raises TrainingFailed or BackhaulError if clients wait that no gateway can train any more."""
        if not round_.waiting or round_.due:
            round_.hopeless = None
            return
        now = self._backhaul.now()
        if round_.hopeless is None:
            round_.hopeless = now
        waited = now - round_.hopeless
        if waited < (most := self._most_seconds()) and self.roster.hopes(most):
            return
        failure, able = round_.failure, round_.able(self.roster.up)
        if failure is not None and not able:
            if failure.status is not Status.OK:
                raise TrainingFailed(failure.text, failure.status)
            if self.roster.up:
                raise BackhaulError(f"no gateway trains round {round_.number}: {failure.text}")
        if waited < PATIENCE_SECONDS:
            return
        lost = ", ".join(member.title for member in self.roster.members if member.standing is not Standing.UP)
        why = "; ".join(dict.fromkeys(round_.notes.values())) or f"{lost or 'all'} cannot be used"
        what = f"no gateway is left in round {round_.number}"
        if able:
            done, of = round_.accepted, len(round_.clients)
            what = f"{done} of {of} clients are done in round {round_.number}, run.quorum asks for {self._quorum(round_)}"
        raise BackhaulError(f"{what}: {why}; start the gateways again with `tinymetafed gateway`, and continue this run")


def _with_note(round_: _Round, place: int, served: Served[Outcome] | None) -> Served[Outcome]:
    """What came of a client, with why it was done again or skipped."""
    note = round_.notes.get(place, "")
    if served is None:
        return Served(None, "", False, note)
    return replace(served, redone=True, note=served.note or note) if note and served.device else served
