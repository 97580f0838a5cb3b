"""Spot checks: some of what each board has done is done by another one too, because equal work gives equal bits."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..federation.clients import Served
from .fleet import Fleet
from .link.session import Session
from .roster import Member

Outcome = TypeVar("Outcome")

SHARE = 1 / 20  # of the clients of each board, at least one, that another board does too


@dataclass(frozen=True)
class SpotCheck(Generic[Outcome]):
    """What boards are checked on.

    ``work``: does one client; it must give the same outcome on every board. ``digest``: gives equal texts for equal
    outcomes. ``kind``: as for ``Fleet.map``.
    """

    fleet: Fleet
    work: Callable[[Session, int], Outcome]
    digest: Callable[[Outcome], str]
    kind: Hashable

    def confirmed(self, clients: Sequence[int], served: Sequence[Served[Outcome]]) -> list[Served[Outcome]]:
        """Lets other boards do some clients again, and all clients of a board with a result that two others do not have.

        The clients are chosen by the machine's random numbers, so that no board knows which. All boards do theirs at the same
        time; that takes as long as one client, or 5 % of the clients where that is more. With two boards that differ nobody
        knows which is wrong: an event names both. The result of a single board counts as it is.

        Args:
            clients: Numbers of the clients.
            served: Their results, in the same order.

        Returns:
            The results, with those of boards that were wrong replaced.
        """
        results = list(served)
        for place, member in self._differing(clients, results):
            found = results[place].outcome
            if found is None or not member.up or not self._is_wrong(member, clients[place], self.digest(found)):
                continue
            own = [place for place, each in enumerate(results) if each.device == member.device.url]
            again = self.fleet.map([clients[each] for each in own], self.work, kind=self.kind)
            for each, result in zip(own, again, strict=True):
                results[each] = result
        return results

    def _differing(self, clients: Sequence[int], served: Sequence[Served[Outcome]]) -> list[tuple[int, Member]]:
        """Places of clients that a second board has other results for, with the first board of each."""
        up = [member for member in self.fleet.roster.members if member.up]
        if len(up) < 2:
            return []
        checks: dict[int, tuple[int, Member, bytes]] = {}  # by client: its place, its board and the id of the second one
        for at, member in enumerate(up):
            own = [place for place, each in enumerate(served) if each.device == member.device.url]
            for n, place in enumerate(random.SystemRandom().sample(own, math.ceil(SHARE * len(own)))):
                second = up[(at + 1 + n % (len(up) - 1)) % len(up)]
                checks[clients[place]] = place, member, second.unique_id
        again = self.fleet.map(list(checks), self.work, pinned=lambda client: checks[client][2], kind=self.kind)
        return [
            (place, member)
            for (place, member, _), result in zip(checks.values(), again, strict=True)
            if result.outcome is not None and self._digest_at(served, place) not in (None, self.digest(result.outcome))
        ]

    def _digest_at(self, served: Sequence[Served[Outcome]], place: int) -> str | None:
        outcome = served[place].outcome
        return None if outcome is None else self.digest(outcome)

    def _is_wrong(self, member: Member, client: int, found: str) -> bool:
        """Whether two boards agree on another result for a client than a board has ``found``; then that board is dropped."""
        others: dict[str, Member] = {}  # by result
        members = self.fleet.roster.members
        for other in random.SystemRandom().sample(members, len(members)):
            result = None if other is member or not other.up else self._result(other, client)
            if result is None:
                continue
            if result == found:
                for liar in others.values():
                    self._drop(liar, client, member, other)
                return False
            if result in others:
                self._drop(member, client, others[result], other)
                return True
            others[result] = other
        if others:
            named = ", ".join(each.device.url for each in (member, *others.values()))
            self.fleet.on_event(f"{named}: different results for client {client}; a further board would show which is wrong")
        return False

    def _result(self, member: Member, client: int) -> str | None:
        """The digest of a client's result on one board; None if it is lost meanwhile."""
        (served,) = self.fleet.map([client], self.work, pinned=lambda item: member.unique_id, kind=self.kind)
        return None if served.outcome is None else self.digest(served.outcome)

    def _drop(self, liar: Member, client: int, *agreeing: Member) -> None:
        names = " and ".join(each.device.url for each in agreeing)
        self.fleet.roster.drop(liar, f"{liar.device.url}: a false result for client {client}", f"{names} agree on another one")
