"""The work of a fleet on its items, as each of its devices does it: takes an item, and says what became of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Generic

from tinymetafed_codegen.protocol import Status

from ..federation.audit import Audit
from ..federation.board_state import Presence
from ..federation.clients import Doubtful, Served, TrainingFailed
from ..federation.quorum import Absence, Returned
from ..learn.codecs.delta import DeltaError
from .closing_time import ClosingTime
from .link.clock import Clock
from .link.link_errors import AFTER_RESET, DeviceRefused, DeviceSlow, LinkError, SampleTooLarge, WrongFirmware
from .link.session import Session
from .roster import Interrupted, Member, Overdue, Roster, in_short
from .work_queue import Item, Job, Outcome, Queue

OVERDUE_SECONDS = 5.0  # an item may take so long before an idle device does it too, however short the others were
OVERDUE_FACTOR = 4.0  # and so many times what the slowest device was seen to need
ENDLESS_SECONDS = 20.0  # the same, before a device must begin again that nobody can stand in for
ENDLESS_FACTOR = 8.0


class Endless(DeviceSlow):
    """A device that takes so long for its item that it will probably never end."""


@dataclass(eq=False)
class SharedWork(Generic[Item, Outcome]):
    """One call of ``Fleet.map``: its queue, and what its devices need to know; any device's thread may call its methods.

    It knows no thread of its own, so that nothing here leads back to itself (see ``Crew``).

    Attributes:
        roster: The devices.
        queue: The items.
        work: The work on one item.
        name: What events call an item.
        audit: Which outcomes a second device must come to as well; None for none.
        claimed: What devices claim about items that only they can do, since the last success of any; kept between calls.
        on_event: Called with one line of text for each problem.
        clock: Clock to measure time with.
    """

    roster: Roster
    queue: Queue[Item, Outcome]
    work: Callable[[Session, Item], Outcome]
    name: str
    audit: Audit[Outcome] | None
    claimed: dict[Hashable, Member]
    on_event: Callable[[str], None]
    clock: Clock

    # --- Ending without some items ---

    def wait(self) -> None:
        """Waits for a change, with the queue's lock held, and ends the work if it is time."""
        self._close_if_due()
        if self.queue.over():
            return
        if self.queue.closing is None:  # only a deadline needs the clock
            self.queue.changed.wait(0.5)
        else:
            self.clock.wait(self.queue.changed, 0.5)

    def _close_if_due(self) -> None:
        """Ends the work, whose lock is held, if it is time and enough items are done; says now and then that they are not."""
        if self.queue.closing is None or self.queue.closed:
            return
        if word := self.queue.closing.look(self.clock.monotonic(), self.queue.done):
            self.on_event(word)
        if self.queue.closed:
            for member, (job, _) in self.queue.busy.items():
                job.at_close = member
            self.queue.changed.notify_all()

    def leave_out(self, job: Job[Item, Outcome], closing: ClosingTime) -> None:
        """Skips an item that was not done when the work ended, and notes who is late."""
        own = next((member for member in self.roster.members if member.unique_id == job.only_board), None)
        if job.only_board is not None and (own is None or own.presence is Presence.DROPPED):
            self.skip(job)
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
        return Returned(member.device.url, round_, round(self.clock.monotonic() - ended, 3))

    # --- One device's part ---

    def serve(self, member: Member, start: Callable[[Member], None]) -> None:
        """Works on items until none is left for this device, or it is lost."""
        try:
            while (job := self._take(member)) is not None:
                session, member.doing = member.device.session, f"{self.name} {job.item}"
                session.watch = partial(self._leave, member, job, start)
                try:
                    outcome = self.work(session, job.item)
                except Interrupted:
                    if self.queue.failure is not None:
                        return  # what has failed elsewhere ends the work
                except (LinkError, TrainingFailed, DeltaError, Doubtful) as error:
                    if job.served is None or isinstance(error, Overdue):
                        self._believe(member, job, error)
                else:
                    self._accept(member, job, outcome)
                finally:
                    session.watch, member.doing = None, ""
                with self.queue.changed:
                    _, began = self.queue.busy.pop(member)
                    if job.served is None:
                        if job not in self.queue.waiting and all(job is not other for other, _ in self.queue.busy.values()):
                            self._offer(job, start)
                    elif job.served.device == member.device.url:
                        self.queue.times.add(member, self.clock.monotonic() - began)
                    self._tell()
        except BaseException as error:
            self.queue.fail(error)
            raise
        finally:
            with self.queue.changed:
                self.queue.busy.pop(member, None)
                self._tell()

    def _tell(self) -> None:
        """Wakes the threads that wait for a change, with the queue's lock held, unless nothing can have changed for them.

        While others are at work, an item that is done gives nobody anything to do: one that is not is offered. Each time that
        threads are woken for nothing costs many of them, where a fleet has many boards. A deadline counts what is done.
        """
        if not self.queue.busy or self.queue.closing is not None or self.queue.failure is not None:
            self.queue.changed.notify_all()

    def _offer(self, job: Job[Item, Outcome], start: Callable[[Member], None]) -> None:
        """Puts an item back into the self.queue, whose lock is held, and wakes an idle device for it."""
        job.latest = None
        self.queue.waiting.insert(0, job)
        idle = [member for member in self.roster.members if member.up and member not in self.queue.serving]
        if job.audited is not None:
            idle = [member for member in idle if member not in job.tried]
            job.audited.shuffle(idle)
        if idle:
            start(idle[0])
        self.queue.changed.notify_all()

    def _accept(self, member: Member, job: Job[Item, Outcome], outcome: Outcome) -> None:
        """Takes the outcome of an item, unless another device had it sooner; devices that claimed something else were wrong.

        An outcome that is audited is only noted until a second device comes to the same, or no other device is left to ask.
        """
        member.succeeded()
        claim = None if self.audit is None or job.only_board is not None else self.audit.claim(outcome)
        with self.queue.changed:
            if job.served is not None:
                return
            agree = [other for other, same in job.tried.items() if claim is not None and same == claim and other is not member]
            if self.audit is not None and claim is not None and not agree:
                if self.audit.due(member.votes):
                    job.audited = self.audit.random
                others = {other for other in self.roster.members if other.up} - {member} - job.tried.keys()
                if job.audited is not None and others:
                    job.tried[member] = claim
                    return
            for other, (item, began) in self.queue.busy.items():
                if item is job and began < self.queue.busy[member][1]:
                    job.note = f"{other.device.url}: not done after {self.clock.monotonic() - began:.1f} s"
            job.served = Served(outcome, member.device.url, bool(job.note), job.note, back=self._back(member))
            if job in self.queue.waiting:
                self.queue.waiting.remove(job)
            wrong = [other for other, same in job.tried.items() if same is not None and other not in [member, *agree]]
            for other in [member, *agree] if agree else []:
                other.votes.confirmed += 1
            for other in wrong if agree else []:
                other.votes.refuted += 1
        if job.note:
            self.on_event(f"{self.name} {job.item} redone on {member.device.url}")
        self.claimed.clear()
        for other in wrong:
            if agree:
                self._outvoted(other, member, f"{self.name} {job.item}")
            elif job.audited is not None:
                who = f"{other.device.url} and {member.device.url}"
                self.on_event(f"{who} have different results for {self.name} {job.item}, and there is no third board to ask")
            else:
                self.roster.refute(other, member, f"{self.name} {job.item}")

    def _outvoted(self, member: Member, by: Member, what: str) -> None:
        """Reports a device when two others have agreed on another result; excludes it if that has happened too often."""
        self.on_event(
            f"{member.device.url}: its result of {what} differs from that of two other boards; {by.device.url} is one of them"
        )
        if member.votes.excluded:
            self.roster.drop(member, member.device.url, f"other boards contradicted its results {member.votes.refuted} times")

    def _believe(self, member: Member, job: Job[Item, Outcome], error: Exception) -> None:
        """Decides about an item that a device has not done: without ``served`` it is to be done again.

        Raises:
            Error: ``error``, if it is a claim that another device has confirmed, or that none can be asked about.
        """
        claim = claim_of(error)
        if claim is None:
            self.roster.lose(member, error)
            if isinstance(error, DeltaError):
                job.tried[member] = None
            if job.served is None:
                job.note = in_short(error)
            return
        before, job.note = job.note, in_short(error)
        own = job.only_board is not None
        said = self.claimed if own else {same: other for other, same in job.tried.items() if other is not member}
        witness = said.get(claim)
        others = {other for other in self.roster.members if other.expected} - {member} - (set() if own else job.tried.keys())
        if witness in (None, member) and others and not (own and isinstance(error, Doubtful)):
            job.tried[member] = claim
            if own:
                self.claimed[claim] = member
                job.served = Served(None, "", False, job.note)
                self.on_event(f"{self.name} {job.item} skipped: {job.note}")
                return
            if isinstance(error, DeviceRefused):
                self.roster.lose(member, error)  # what is on this port now is asked when it is reconnected
            self.on_event(f"{job.note}; {self.name} {job.item} is done again on another board")
            return
        if witness not in (None, member):
            self.on_event(f"{member.device.url} confirms {self.name} {job.item}: {job.note}")
        if not isinstance(error, Doubtful):
            raise error
        job.served = Served(error.outcome, member.device.url, bool(before), job.note)
        if witness not in (None, member):
            for other, another in job.tried.items():
                if another not in (None, claim):
                    self.roster.refute(other, member, f"{self.name} {job.item}")

    def _leave(self, member: Member, job: Job[Item, Outcome], start: Callable[[Member], None]) -> LinkError | None:
        """Why a device should leave the item that it works on; None if it should not.

        An item that takes long is offered to idle devices too. The device that did not begin it first is not to blame if it
        is not the first to end.
        """
        if self.queue.failure is not None:
            return Interrupted(f"{member.device.url}: stopped its work, because all devices are stopping")
        now = self.clock.monotonic()
        since = self.queue.busy.get(member)
        early = since is not None and now - since[1] <= OVERDUE_SECONDS
        if early and job.served is None and self.queue.closing is None:
            return None  # as nearly always, and without the lock, for which the threads of many boards would wait
        with self.queue.changed:
            self._close_if_due()
            if self.queue.closed:
                return Interrupted(f"{member.device.url}: stopped its work, because the round has ended")
            took = now - self.queue.busy[member][1] if member in self.queue.busy else 0.0
            if job.served is None:
                idle = any(
                    other.up and other not in self.queue.busy and other not in job.tried for other in self.roster.members
                )
                longest = self.queue.times.longest
                late = took > max(OVERDUE_SECONDS, OVERDUE_FACTOR * longest)
                if late and idle and not self.queue.waiting and job.latest is member and job.only_board is None:
                    self._offer(job, start)
                if not longest or took <= max(ENDLESS_SECONDS, ENDLESS_FACTOR * longest):
                    return None
                return Endless(
                    f"{member.device.url}: not done after {took:.1f} s, where {longest:.1f} s were enough before; find "
                    "out what slows this board down, or reset it"
                )
        if job.latest is member:
            return Interrupted(f"{member.device.url}: stopped its work, because another device has done it")
        return Overdue(
            f"{member.device.url}: not done after {took:.1f} s, when {job.served.device} had done the same; find out what "
            "slows this board down, or leave it out"
        )

    def _take(self, member: Member) -> Job[Item, Outcome] | None:
        """The next item for this device; waits while another device may still fail and return its item.

        None if there is nothing left for it, or it is not up; then it has left the ``serving``.
        """
        with self.queue.changed:
            while member.up and not self.queue.over():
                for job in self.queue.waiting:
                    others = any(other.expected and other not in job.tried for other in self.roster.members)
                    avoids = member in job.tried and job.only_board is None and others
                    if job.only_board in (None, member.unique_id) and not avoids:
                        self.queue.waiting.remove(job)
                        self.queue.busy[member], job.latest = (job, self.clock.monotonic()), member
                        return job
                if self.queue.hopeless(self.roster.members):
                    break
                self.wait()
            self.queue.serving.discard(member)
        return None

    def skip(self, job: Job[Item, Outcome]) -> None:
        """Notes that the only board which can do an item is not there."""
        wanted = job.only_board
        assert wanted is not None
        board = next((member for member in self.roster.members if member.unique_id == wanted), None)
        why = f"its board {wanted.hex()} is not among the devices" if board is None else f"its board is lost: {board.reason}"
        job.served = Served(None, "", False, why)
        self.on_event(f"{self.name} {job.item} skipped: {why}")


def claim_of(error: Exception) -> Hashable | None:
    """What a device claims about its item, equal for devices that agree; None for a failure of the device itself."""
    if isinstance(error, Doubtful):
        return error.claim
    if isinstance(error, DeviceRefused):
        return None if error.status in AFTER_RESET else (error.message, error.status)
    if isinstance(error, TrainingFailed):
        return error.status if error.status in (Status.NOT_FINITE, Status.OVERFLOW) else None
    return type(error).__name__ if isinstance(error, (WrongFirmware, SampleTooLarge)) else None
