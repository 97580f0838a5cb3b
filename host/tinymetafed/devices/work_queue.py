"""The work of one call of ``Fleet.map``: its items, who is at which, and the threads of the devices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from ..federation.clients import Served
from .closing_time import ClosingTime
from .roster import Member

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(eq=False)
class Job(Generic[Item, Outcome]):
    """One item of the queue."""

    item: Item
    only_board: bytes | None  # unique id of the only board that can do it; None if any can
    served: Served[Outcome] | None = None
    note: str = ""  # why an attempt was lost
    # Devices that sent an invalid update for this item (None), or a claim; another device does it if possible.
    tried: dict[Member, Hashable] = field(default_factory=dict)
    latest: Member | None = None  # that has begun it
    at_close: Member | None = None  # that was at it when the work ended without it
    # If it counts only once two devices come to the same: draws the next one, so that no device is the witness of all others.
    audited: Random | None = None


@dataclass
class Times:
    """How long items of one kind take: of each device the shortest time of one that it has done.

    No device can make the others wait longer by taking ever more time itself: what it takes later never counts for more than
    what it took once.
    """

    shortest: dict[Member, float] = field(default_factory=dict)

    def add(self, member: Member, seconds: float) -> None:
        """Notes that a device has done an item."""
        self.shortest[member] = min(seconds, self.shortest.get(member, seconds))

    @property
    def longest(self) -> float:
        """The time of the slowest device; 0 if none has done an item."""
        return max(self.shortest.values(), default=0.0)


@dataclass(eq=False)
class Queue(Generic[Item, Outcome]):
    """Items waiting and in progress; every field is protected by ``changed``, but for a first look in ``Fleet._leave``."""

    jobs: Sequence[Job[Item, Outcome]]
    waiting: list[Job[Item, Outcome]]
    changed: threading.Condition
    times: Times  # of items of this kind that are done
    serving: set[Member] = field(default_factory=set)  # devices that have a thread
    busy: dict[Member, tuple[Job[Item, Outcome], float]] = field(default_factory=dict)  # its item, and since when
    failure: BaseException | None = None
    closing: ClosingTime | None = None  # when the work ends without items that are not done; None if it does not

    def over(self) -> bool:
        """Whether all items are done, the work has failed, or it ends without the others."""
        return self.failure is not None or self.closed or (not self.waiting and not self.busy)

    @property
    def closed(self) -> bool:
        """Whether the work ends without the items that are not done."""
        return self.closing is not None and self.closing.at is not None

    @property
    def done(self) -> int:
        """How many items have an outcome."""
        return sum(job.served is not None and job.served.outcome is not None for job in self.jobs)

    def hopeless(self, members: Sequence[Member]) -> bool:
        """Whether no item is in progress and none can be done soon."""
        wanted = {job.only_board for job in self.waiting}
        return not self.busy and not any(member.expected and wanted & {None, member.unique_id} for member in members)

    def fail(self, error: BaseException) -> None:
        """Ends the work of all devices; the first failure is kept."""
        with self.changed:
            self.failure = self.failure or error
            self.changed.notify_all()


Serve = Callable[[Member, Callable[[Member], None]], None]  # a device's part; it may start other devices


@dataclass(eq=False)
class Crew(Generic[Item, Outcome]):
    """The threads of one call of ``Fleet.map``.

    Nothing here leads back to itself. A cycle would keep the outcomes of a round, with all their arrays, until the garbage
    collector looks for cycles, which it does rarely.
    """

    pool: ThreadPoolExecutor
    queue: Queue[Item, Outcome]
    serve: Serve
    futures: list[Future[None]] = field(default_factory=list)

    def submit(self, member: Member) -> None:
        """Gives a device a thread."""
        self.futures.append(self.pool.submit(self.serve, member, self.start))

    def start(self, member: Member) -> None:
        """Gives a device a thread if it has none and there is something to do; with the queue's lock held."""
        if member not in self.queue.serving and not self.queue.over():
            self.queue.serving.add(member)
            self.submit(member)
