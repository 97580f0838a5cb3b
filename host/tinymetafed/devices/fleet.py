"""A fleet of devices that share a queue of work; what one device loses or claims alone is done again on another."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Self

from tinymetafed_codegen.protocol import Program, Recipe, Status

from ..federation.audit import Audit
from ..federation.board_state import BoardState, Presence
from ..federation.clients import Doubtful, Served, Traffic, TrainingFailed
from ..federation.quorum import Absence, Closing, Returned
from ..learn.codecs.delta import DeltaError
from .closing_time import ClosingTime
from .device import Device
from .link.clock import SYSTEM_CLOCK, Clock
from .link.link_errors import AFTER_RESET, DeviceRefused, DeviceSlow, LinkError, SampleTooLarge, WrongFirmware
from .link.session import Session
from .roster import PATIENCE_SECONDS, FleetError, Member, Overdue, Roster, in_short
from .work_queue import Crew, Item, Job, Outcome, Queue, Times

OVERDUE_SECONDS = 5.0  # an item may take so long before an idle device does it too, however short the others were
OVERDUE_FACTOR = 4.0  # and so many times what the slowest device was seen to need
ENDLESS_SECONDS = 20.0  # the same, before a device must begin again that nobody can stand in for
ENDLESS_FACTOR = 8.0


class Endless(DeviceSlow):
    """A device that takes so long for its item that it will probably never end."""


class Interrupted(LinkError):
    """The work of all devices ends, so this device does not finish its item."""


class Fleet:
    """The devices of one experiment; one thread at a time may call its methods.

    A lost device is searched until the end of the ``with`` block, in threads of their own.
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
        self.roster.configure(program, recipe, lambda error: _claim(error) is not None)

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
        changed, members = self.roster.changed, self._members
        queue = Queue[Item, Outcome](jobs, list(jobs), changed, self._times.setdefault(kind, Times()))
        if closing is not None:
            queue.closing = ClosingTime(closing, self._clock.monotonic())

        def serve(member: Member, start: Callable[[Member], None]) -> None:
            self._serve(member, queue, work, name, kind, start, audit)

        crew = Crew(self._pool, queue, serve)
        try:
            with changed:
                workers = self._take_turns(jobs)
                queue.serving.update(workers)
                self.roster.returned = crew.start
            for member in workers[1:]:
                crew.submit(member)
            if workers:
                serve(workers[0], crew.start)  # a single item needs no other thread
            with changed:
                while not (queue.over() or queue.hopeless(members) or self.roster.failure):
                    self._wait(queue)
                self.roster.returned = lambda member: None
            if self.roster.failure is not None:
                raise self.roster.failure
            while crew.futures:
                crew.futures.pop().result()
        except BaseException as error:  # Ctrl-C too: the other devices leave their current item
            queue.fail(error)
            if isinstance(error, KeyboardInterrupt) and (busy := [member.device.url for member in queue.busy]):
                self.on_event(f"interrupted: waiting for {', '.join(busy)}, for one step at most")
            raise queue.failure or error from None
        finally:
            self.roster.returned = lambda member: None
            wait(crew.futures)  # no device is at work any more
        for job in queue.waiting:
            if queue.closing is not None and queue.closing.at is not None:
                self._leave_out(job, queue.closing, name)
            elif job.only_board is None or all(member.presence is Presence.DROPPED for member in members):
                raise self.roster.nobody_left()
            else:
                self._skip(job, name)
        if queue.closing is not None and (done := queue.done) < min(queue.closing.quorum, len(jobs)):
            raise FleetError(queue.closing.impossible(done, [member.reason for member in members if not member.expected]))
        return [job.served for job in jobs if job.served is not None]

    def _take_turns(self, jobs: Sequence[Job[Item, Outcome]]) -> list[Member]:
        """The connected devices that begin; each call begins with another device."""
        order = self._members[self._turn :] + self._members[: self._turn]
        self._turn = (self._turn + len(jobs)) % len(self._members)
        up = [member for member in order if member.up]
        return up[: max(1, len(jobs))] if all(job.only_board is None for job in jobs) else up

    # --- Ending without some items ---

    def _wait(self, queue: Queue[Item, Outcome]) -> None:
        """Waits for a change, with the queue's lock held, and ends the work if it is time."""
        self._close_if_due(queue)
        if queue.over():
            return
        if queue.closing is None:  # only a deadline needs the clock
            queue.changed.wait(0.5)
        else:
            self._clock.wait(queue.changed, 0.5)

    def _close_if_due(self, queue: Queue[Item, Outcome]) -> None:
        """Ends the work, whose lock is held, if it is time and enough items are done; says now and then that they are not."""
        if queue.closing is None or queue.closed:
            return
        if word := queue.closing.look(self._clock.monotonic(), queue.done):
            self.on_event(word)
        if queue.closed:
            for member, (job, _) in queue.busy.items():
                job.at_close = member
            queue.changed.notify_all()

    def _leave_out(self, job: Job[Item, Outcome], closing: ClosingTime, name: str) -> None:
        """Skips an item that was not done when the work ended, and notes who is late."""
        own = next((member for member in self._members if member.unique_id == job.only_board), None)
        if job.only_board is not None and (own is None or own.presence is Presence.DROPPED):
            self._skip(job, name)
            return
        member = own or job.at_close
        away = member is not None and not member.up
        if member is not None and member.missed is None and closing.at is not None:
            member.missed = closing.round, closing.at
        if member is None:
            absence = "no board was free for it"
        else:
            reason = job.note.removeprefix(f"{member.device.url}: ")
            absence = f"{member.device.url} was {'away' if away else 'at work'}{reason and f': {reason}'}"
        job.served = Served(None, "", False, closing.why(absence), Absence("" if member is None else member.device.url, away))

    def _back(self, member: Member) -> Returned | None:
        """The journal's note that a device takes part again after it was late; None if it was not, or was noted already."""
        if member.missed is None:
            return None
        (round_, ended), member.missed = member.missed, None
        return Returned(member.device.url, round_, round(self._clock.monotonic() - ended, 3))

    # --- One device's part ---

    def _serve(
        self,
        member: Member,
        queue: Queue[Item, Outcome],
        work: Callable[[Session, Item], Outcome],
        name: str,
        kind: Hashable,
        start: Callable[[Member], None],
        audit: Audit[Outcome] | None,
    ) -> None:
        """Works on items until none is left for this device, or it is lost."""
        try:
            while (job := self._take(member, queue)) is not None:
                session, member.doing = member.device.session, f"{name} {job.item}"
                session.watch = partial(self._leave, member, queue, job, start)
                try:
                    outcome = work(session, job.item)
                except Interrupted:
                    if queue.failure is not None:
                        return  # what has failed elsewhere ends the work
                except (LinkError, TrainingFailed, DeltaError, Doubtful) as error:
                    if job.served is None or isinstance(error, Overdue):
                        self._believe(member, job, error, name)
                else:
                    self._accept(member, queue, job, outcome, name, audit)
                finally:
                    session.watch, member.doing = None, ""
                with queue.changed:
                    _, began = queue.busy.pop(member)
                    if job.served is None:
                        if job not in queue.waiting and all(job is not other for other, _ in queue.busy.values()):
                            self._offer(queue, job, start)
                    elif job.served.device == member.device.url:
                        queue.times.add(member, self._clock.monotonic() - began)
                    self._tell(queue)
        except BaseException as error:
            queue.fail(error)
            raise
        finally:
            with queue.changed:
                queue.busy.pop(member, None)
                self._tell(queue)

    def _tell(self, queue: Queue[Item, Outcome]) -> None:
        """Wakes the threads that wait for a change, with the queue's lock held, unless nothing can have changed for them.

        While others are at work, an item that is done gives nobody anything to do: one that is not is offered. Each time that
        threads are woken for nothing costs many of them, where a fleet has many boards. A deadline counts what is done.
        """
        if not queue.busy or queue.closing is not None or queue.failure is not None:
            queue.changed.notify_all()

    def _offer(self, queue: Queue[Item, Outcome], job: Job[Item, Outcome], start: Callable[[Member], None]) -> None:
        """Puts an item back into the queue, whose lock is held, and wakes an idle device for it."""
        job.latest = None
        queue.waiting.insert(0, job)
        idle = [member for member in self._members if member.up and member not in queue.serving]
        if job.audited is not None:
            idle = [member for member in idle if member not in job.tried]
            job.audited.shuffle(idle)
        if idle:
            start(idle[0])
        queue.changed.notify_all()

    def _accept(
        self,
        member: Member,
        queue: Queue[Item, Outcome],
        job: Job[Item, Outcome],
        outcome: Outcome,
        name: str,
        audit: Audit[Outcome] | None,
    ) -> None:
        """Takes the outcome of an item, unless another device had it sooner; devices that claimed something else were wrong.

        An outcome that is audited is only noted until a second device comes to the same, or no other device is left to ask.
        """
        member.succeeded()
        claim = None if audit is None or job.only_board is not None else audit.claim(outcome)
        with queue.changed:
            if job.served is not None:
                return
            agree = [other for other, same in job.tried.items() if claim is not None and same == claim and other is not member]
            if audit is not None and claim is not None and not agree:
                if audit.due(member.votes):
                    job.audited = audit.random
                others = {other for other in self._members if other.up} - {member} - job.tried.keys()
                if job.audited is not None and others:
                    job.tried[member] = claim
                    return
            for other, (item, began) in queue.busy.items():
                if item is job and began < queue.busy[member][1]:
                    job.note = f"{other.device.url}: not done after {self._clock.monotonic() - began:.1f} s"
            job.served = Served(outcome, member.device.url, bool(job.note), job.note, back=self._back(member))
            if job in queue.waiting:
                queue.waiting.remove(job)
            wrong = [other for other, same in job.tried.items() if same is not None and other not in [member, *agree]]
            for other in [member, *agree] if agree else []:
                other.votes.confirmed += 1
            for other in wrong if agree else []:
                other.votes.refuted += 1
        if job.note:
            self.on_event(f"{name} {job.item} redone on {member.device.url}")
        self._claimed.clear()
        for other in wrong:
            if agree:
                self._outvoted(other, member, f"{name} {job.item}")
            elif job.audited is not None:
                who = f"{other.device.url} and {member.device.url}"
                self.on_event(f"{who} come to different results of {name} {job.item}, and there is no third board to ask")
            else:
                self.roster.refute(other, member, f"{name} {job.item}")

    def _outvoted(self, member: Member, by: Member, what: str) -> None:
        """Reports a device when two others have agreed on another result; excludes it if that has happened too often."""
        self.on_event(
            f"{member.device.url}: its result of {what} is not that of two other boards, {by.device.url} is one of them"
        )
        if member.votes.excluded:
            self.roster.drop(member, member.device.url, f"other boards came to other results {member.votes.refuted} times")

    def _believe(self, member: Member, job: Job[Item, Outcome], error: Exception, name: str) -> None:
        """Decides about an item that a device has not done: without ``served`` it is to be done again.

        Raises:
            Error: ``error``, if it is a claim that another device has confirmed, or that none can be asked about.
        """
        claim = _claim(error)
        if claim is None:
            self.roster.lose(member, error)
            if isinstance(error, DeltaError):
                job.tried[member] = None
            if job.served is None:
                job.note = in_short(error)
            return
        before, job.note = job.note, in_short(error)
        own = job.only_board is not None
        said = self._claimed if own else {same: other for other, same in job.tried.items() if other is not member}
        witness = said.get(claim)
        others = {other for other in self._members if other.expected} - {member} - (set() if own else job.tried.keys())
        if witness in (None, member) and others and not (own and isinstance(error, Doubtful)):
            job.tried[member] = claim
            if own:
                self._claimed[claim] = member
                job.served = Served(None, "", False, job.note)
                self.on_event(f"{name} {job.item} skipped: {job.note}")
                return
            if isinstance(error, DeviceRefused):
                self.roster.lose(member, error)  # what is on this port now is asked when it is reconnected
            self.on_event(f"{job.note}; {name} {job.item} is done again on another board")
            return
        if witness not in (None, member):
            self.on_event(f"{member.device.url} confirms {name} {job.item}: {job.note}")
        if not isinstance(error, Doubtful):
            raise error
        job.served = Served(error.outcome, member.device.url, bool(before), job.note)
        if witness not in (None, member):
            for other, another in job.tried.items():
                if another not in (None, claim):
                    self.roster.refute(other, member, f"{name} {job.item}")

    def _leave(
        self,
        member: Member,
        queue: Queue[Item, Outcome],
        job: Job[Item, Outcome],
        start: Callable[[Member], None],
    ) -> LinkError | None:
        """Why a device should leave the item that it works on; None if it should not.

        An item that takes long is offered to idle devices too. The device that did not begin it first is not to blame if it
        is not the first to end.
        """
        if queue.failure is not None:
            return Interrupted(f"{member.device.url}: left its work, because that of all devices ends")
        now = self._clock.monotonic()
        since = queue.busy.get(member)
        early = since is not None and now - since[1] <= OVERDUE_SECONDS
        if early and job.served is None and queue.closing is None:
            return None  # as nearly always, and without the lock, for which the threads of many boards would wait
        with queue.changed:
            self._close_if_due(queue)
            if queue.closed:
                return Interrupted(f"{member.device.url}: left its work, because the round has ended")
            took = now - queue.busy[member][1] if member in queue.busy else 0.0
            if job.served is None:
                idle = any(other.up and other not in queue.busy and other not in job.tried for other in self._members)
                longest = queue.times.longest
                late = took > max(OVERDUE_SECONDS, OVERDUE_FACTOR * longest)
                if late and idle and not queue.waiting and job.latest is member and job.only_board is None:
                    self._offer(queue, job, start)
                if not longest or took <= max(ENDLESS_SECONDS, ENDLESS_FACTOR * longest):
                    return None
                return Endless(
                    f"{member.device.url}: not done after {took:.1f} s, where {longest:.1f} s were enough before; look "
                    "what slows this board down, or reset it"
                )
        if job.latest is member:
            return Interrupted(f"{member.device.url}: left its work, because another device has done it")
        return Overdue(
            f"{member.device.url}: not done after {took:.1f} s, when {job.served.device} had done the same; look what slows "
            "this board down, or leave it out"
        )

    def _take(self, member: Member, queue: Queue[Item, Outcome]) -> Job[Item, Outcome] | None:
        """The next item for this device; waits while another device may still fail and return its item.

        None if there is nothing left for it, or it is not up; then it has left the ``serving``.
        """
        with queue.changed:
            while member.up and not queue.over():
                for job in queue.waiting:
                    others = any(other.expected and other not in job.tried for other in self._members)
                    avoids = member in job.tried and job.only_board is None and others
                    if job.only_board in (None, member.unique_id) and not avoids:
                        queue.waiting.remove(job)
                        queue.busy[member], job.latest = (job, self._clock.monotonic()), member
                        return job
                if queue.hopeless(self._members):
                    break
                self._wait(queue)
            queue.serving.discard(member)
        return None

    def _skip(self, job: Job[Item, Outcome], name: str) -> None:
        wanted = job.only_board
        assert wanted is not None
        board = next((member for member in self._members if member.unique_id == wanted), None)
        why = f"its board {wanted.hex()} is not among the devices" if board is None else f"its board is lost: {board.reason}"
        job.served = Served(None, "", False, why)
        self.on_event(f"{name} {job.item} skipped: {why}")


def _claim(error: Exception) -> Hashable | None:
    """What a device claims about its item, equal for devices that agree; None for a failure of the device itself."""
    if isinstance(error, Doubtful):
        return error.claim
    if isinstance(error, DeviceRefused):
        return None if error.status in AFTER_RESET else (error.message, error.status)
    if isinstance(error, TrainingFailed):
        return error.status if error.status in (Status.NOT_FINITE, Status.OVERFLOW) else None
    return type(error).__name__ if isinstance(error, (WrongFirmware, SampleTooLarge)) else None
