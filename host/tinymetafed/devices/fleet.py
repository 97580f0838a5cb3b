"""A fleet of devices that share a queue of work; what one device loses or claims alone is done again on another."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Lock
from typing import Any, Self

from tinymetafed_codegen.protocol import Program, Recipe

from ..federation.audit import Audit
from ..federation.board_state import BoardState, Presence
from ..federation.clients import Served, Traffic
from ..federation.quorum import Closing
from .closing_time import ClosingTime
from .device import Device
from .link.clock import SYSTEM_CLOCK, Clock
from .link.session import Session
from .roster import PATIENCE_SECONDS, STOPPING, FleetError, Interrupted, Member, Roster
from .shared_work import SharedWork, claim_of
from .work_queue import Crew, Item, Job, Outcome, Queue, Times


class Fleet:
    """The devices of one experiment; one thread at a time may call its methods.

    A lost device is searched until the end of the ``with`` block, in threads of their own. The end also ends what another
    thread does here: its call raises Interrupted.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        *,
        on_event: Callable[[str], None] = lambda line: None,
        patience: float = PATIENCE_SECONDS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Makes a fleet of connected devices.

        Args:
            devices: Connected devices with different unique ids.
            on_event: Called with one line of text for each problem and how it was handled, from any thread.
            patience: Seconds to wait for a lost device before other devices take over its work; infinite: it sleeps, is always
                expected, and a loss is not its fault.
            clock: Clock to measure time with.

        Raises:
            FleetError: Two devices have the same unique id.
        """
        self.on_event = on_event
        self._clock = clock
        self.roster = Roster(devices, on_event, patience, clock)
        self._members = self.roster.members
        # Its threads stay for the next call: starting them in every round took 5 % of the host's time with 50 boards.
        self._pool = ThreadPoolExecutor(max_workers=max(1, len(devices)), thread_name_prefix="fleet")
        self._working = Lock()  # held by a call of ``map`` or ``configure``
        self._queue: Queue[Any, Any] | None = None  # of that call
        self._turn = 0
        self._times: dict[Hashable, Times] = {}  # of items that are done, by kind
        self._claimed: dict[Hashable, Member] = {}  # by devices about clients of their own, since the last success of any
        seen: dict[bytes, Device] = {}
        for device in devices:
            if (other := seen.setdefault(device.hello.unique_id, device)) is not device:
                raise FleetError(
                    f"{other.url} and {device.url}: both boards have the unique id {device.hello.unique_id.hex()}, so their "
                    "updates cannot be told apart; give one of them another id or leave it out"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.roster.stop()
        if (queue := self._queue) is not None:
            queue.fail(Interrupted(STOPPING))
            self._tell_of_waiting(queue)
        with self._working:
            self.roster.close()
        self._pool.shutdown()

    @property
    def devices(self) -> list[Device]:
        """All devices, those that are not connected at the moment included."""
        return [member.device for member in self._members]

    @property
    def traffic(self) -> Traffic:
        """All bytes so far, those of lost sessions included."""
        return sum((device.traffic for device in self.devices), Traffic())

    @property
    def states(self) -> list[BoardState]:
        """What every device is doing, for those who watch; may be asked from any thread."""
        return [member.state for member in self._members]

    def configure(self, program: Program, recipe: Recipe) -> None:
        """Sets a program on every device that does not have it yet, and on each device that reconnects later.

        Args:
            program: Program to set.
            recipe: What the program trains.

        Raises:
            LinkError: A device refused it, or no device is left.
        """
        with self._working:  # the lines are not closed meanwhile
            self.roster.configure(program, recipe, lambda error: claim_of(error) is not None)

    def exclude(self, unique_id: bytes, why: str) -> None:
        """Does not use a device any more; ``why`` is the end of a sentence. Nothing for a device that is not there."""
        for member in self._members:
            if member.unique_id == unique_id:
                self.roster.drop(member, f"{member.device.url}: {why}", "it stands out from the others", excluded=True)

    @property
    def dropped(self) -> set[bytes]:
        """Unique ids of devices that are not used any more for what they did, without those that ``exclude`` named."""
        return {member.unique_id for member in self._members if member.presence is Presence.DROPPED and not member.excluded}

    def readmit(self, unique_id: bytes) -> None:
        """Uses a device again that was excluded, once it is reconnected; nothing for another one."""
        for member in self._members:
            if member.unique_id == unique_id:
                self.roster.readmit(member)

    def readmit_all(self) -> None:
        """Uses all devices again that are not used any more, once they are reconnected, as a new run does."""
        self.roster.readmit_all()

    def map(
        self,
        items: Sequence[Item],
        work: Callable[[Session, Item], Outcome],
        *,
        pinned: Callable[[Item], bytes | None] | None = None,
        name: str = "client",
        kind: Hashable = None,
        audit: Audit[Outcome] | None = None,
        closing: Closing | None = None,
    ) -> list[Served[Outcome]]:
        """Calls ``work(session, item)`` for every item, each on any free device.

        If a device fails, its item is done again from the start, on the same or another device. What a device claims that
        would end the run (training failed, a refused request) counts only if a second device comes to the same, or if there
        is no other device to ask. Where an item can be done by one board only, it is skipped instead, unless another board
        claims the same of its own item.

        Args:
            items: The items.
            work: The work on one item; it must give the same outcome on every device.
            pinned: Gives the unique id of the only board that can do an item, None if any can. While that board is lost,
                the item is skipped.
            name: What events call an item.
            kind: Equal for items that take about as long; what earlier ones took decides when one takes too long.
            audit: Which outcomes a second device must come to as well; None for none.
            closing: When the work ends without items that are not done, which are skipped; None if it waits for all.

        Returns:
            The outcomes, in the order of ``items``.

        Raises:
            FleetError: No device is left, or too few for the quorum.
            Error: What devices agree on: diverged training, a request with a bad value.
        """
        jobs = [Job[Item, Outcome](item, pinned(item) if pinned else None) for item in items]
        queue = Queue[Item, Outcome](jobs, list(jobs), self.roster.changed, self._times.setdefault(kind, Times()))
        if closing is not None:
            queue.closing = ClosingTime(closing, self._clock.monotonic())

        shared = SharedWork[Item, Outcome](self.roster, queue, work, name, audit, self._claimed, self.on_event, self._clock)
        with self._working:
            self._queue = queue
            if self.roster.stopped:
                queue.fail(Interrupted(STOPPING))
            try:
                return self._share(queue, shared)
            finally:
                self._queue = None

    def _share(self, queue: Queue[Item, Outcome], shared: SharedWork[Item, Outcome]) -> list[Served[Outcome]]:
        """Has the devices do all items of a queue; see ``map``."""
        jobs, changed, members = queue.jobs, queue.changed, self._members
        crew = Crew(self._pool, queue, shared.serve)
        try:
            with changed:
                workers = self._take_turns(jobs)
                queue.serving.update(workers)
                self.roster.returned = crew.start
            for member in workers[1:]:
                crew.submit(member)
            if workers:
                shared.serve(workers[0], crew.start)  # a single item needs no other thread
            with changed:
                while not (queue.over() or queue.hopeless(members) or self.roster.failure):
                    shared.wait()
                self.roster.returned = lambda member: None
            if self.roster.failure is not None:
                raise self.roster.failure
            while crew.futures:
                crew.futures.pop().result()
            if queue.failure is not None:  # of another thread, which ends the work of this one
                raise queue.failure
        except BaseException as error:  # Ctrl-C too: the other devices leave their current item
            queue.fail(error)
            if isinstance(error, KeyboardInterrupt):
                self._tell_of_waiting(queue)
            raise queue.failure or error from None
        finally:
            self.roster.returned = lambda member: None
            wait(crew.futures)  # no device is at work any more
        for job in queue.waiting:
            if queue.closing is not None and queue.closing.at is not None:
                shared.leave_out(job, queue.closing)
            elif job.only_board is None or all(member.presence is Presence.DROPPED for member in members):
                raise self.roster.nobody_left()
            else:
                shared.skip(job)
        if queue.closing is not None and (done := queue.done) < min(queue.closing.quorum, len(jobs)):
            raise FleetError(queue.closing.impossible(done, [member.reason for member in members if not member.expected]))
        return [job.served for job in jobs if job.served is not None]

    def _tell_of_waiting(self, queue: Queue[Any, Any]) -> None:
        """Says which devices are at work when their work is interrupted."""
        if busy := [member.device.url for member in list(queue.busy)]:
            self.on_event(f"interrupted: waiting for {', '.join(busy)}, for one step at most")

    def _take_turns(self, jobs: Sequence[Job[Item, Outcome]]) -> list[Member]:
        """The connected devices that begin; each call begins with another device."""
        order = self._members[self._turn :] + self._members[: self._turn]
        self._turn = (self._turn + len(jobs)) % len(self._members)
        up = [member for member in order if member.up]
        return up[: max(1, len(jobs))] if all(job.only_board is None for job in jobs) else up
