"""Devices that may come and go, and a queue of work that does not care which of them does it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar

from tinymetafed_codegen.protocol import Program, Recipe, Status

from ..federation.clients import Served, Traffic, TrainingFailed
from ..learn.codecs.delta import DeltaError
from .device import Device
from .link.clock import SYSTEM_CLOCK, Clock
from .link.errors import DeviceRefused, LaunchError, LinkError, SampleTooLarge, WrongFirmware
from .link.session import Session

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

PATIENCE_SECONDS = 10.0  # for a device that went away: a reset, a cable put back, a boot loader
MAX_FAILURES = 5  # in a row, each after a Hello that went well: the line is no good
MAX_LIES = 2
LATE_SECONDS = (5.0, 80.0)  # a lost device is looked for again after so long, then twice as long, at most so long

# Refusals that mean: this board does not know what it was told before, so it was reset.
_FORGOT = (Status.BAD_STATE, Status.BAD_TOKEN, Status.BAD_OFFSET)


class FleetError(LinkError):
    """Devices that cannot work together, or of which none is left."""


class _Presence(Enum):
    UP = auto()
    AWAY = auto()  # patience for it has not run out
    LOST = auto()  # looked for now and then
    DROPPED = auto()  # not wanted any more


@dataclass(eq=False)
class _Member:
    """A device and what the fleet knows of it."""

    device: Device
    presence: _Presence = _Presence.UP
    reason: str = ""  # why it is not up
    gone: float = 0.0  # since when, by the fleet's clock
    failures: int = 0  # in a row
    lies: int = 0
    next_try: float = 0.0
    pause: float = LATE_SECONDS[0]

    @property
    def up(self) -> bool:
        return self.presence is _Presence.UP

    @property
    def expected(self) -> bool:
        return self.presence in (_Presence.UP, _Presence.AWAY)

    @property
    def unique_id(self) -> bytes:
        return self.device.hello.unique_id


@dataclass(eq=False)
class _Job(Generic[Item, Outcome]):
    """One item on its way through the queue."""

    item: Item
    home: bytes | None  # the unique id of the only board that can do it
    served: Served[Outcome] | None = None
    note: str = ""  # why an attempt was lost
    avoid: _Member | None = None  # it lied about this item: rather another device, where one can do it


@dataclass(eq=False)
class _Queue(Generic[Item, Outcome]):
    """Items waiting and under way; every field is used under ``changed``."""

    waiting: list[_Job[Item, Outcome]]
    idle: list[_Member]  # up, but more of them than items
    under_way: int = 0
    failure: BaseException | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def over(self) -> bool:
        """Whether nothing is left to do, or nothing may be."""
        return self.failure is not None or (not self.waiting and self.under_way == 0)

    def fail(self, error: BaseException) -> None:
        """Ends it for everybody; the first reason is the one that counts."""
        with self.changed:
            self.failure = self.failure or error
            self.changed.notify_all()


class Fleet:
    """The devices of one experiment; one thread at a time may call its methods."""

    def __init__(
        self,
        devices: Sequence[Device],
        *,
        on_event: Callable[[str], None] = lambda line: None,
        patience: float = PATIENCE_SECONDS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``on_event`` is told, one line each and from any thread, what went wrong and what was done about it.

        ``patience`` is how many seconds a device may stay away before its work goes on without it. Raises FleetError
        when two devices have one unique id.
        """
        self.on_event = on_event
        self.patience = patience
        self._clock = clock
        self._members = [_Member(device) for device in devices]
        self._turn = 0
        self._programs: dict[Program, Recipe] = {}
        seen: dict[bytes, Device] = {}
        for device in devices:
            if (other := seen.setdefault(device.hello.unique_id, device)) is not device:
                raise FleetError(
                    f"{other.url} and {device.url}: both boards have the unique id {device.hello.unique_id.hex()}, so that "
                    "nobody could tell whose update is whose; give one of them another id or leave it out"
                )

    @property
    def devices(self) -> list[Device]:
        """All devices, also those that are away at the moment."""
        return [member.device for member in self._members]

    @property
    def traffic(self) -> Traffic:
        """All bytes so far, also of sessions that were lost."""
        return sum((device.traffic for device in self.devices), Traffic())

    def configure(self, program: Program, recipe: Recipe) -> None:
        """Sets a program on every device, unless it is set, and later on each one that comes back. Raises LinkError."""
        if self._programs.get(program) == recipe:
            return
        self._programs[program] = recipe
        for member in self._members:
            if not member.up:
                continue
            try:
                self._tell(member.device.session, program)
            except LinkError as error:
                if not _may_pass(error):
                    raise
                self._lose(member, error)
                self._bring_back(member)
        self._expect_one()

    def map(
        self,
        items: Sequence[Item],
        work: Callable[[Session, Item], Outcome],
        *,
        pinned: Callable[[Item], bytes | None] | None = None,
        name: str = "client",
    ) -> list[Served[Outcome]]:
        """``work(session, item)`` for every item, each on whichever device is free; outcomes in the items' order.

        What a device fails at is done again from the start, there or elsewhere: ``work`` must give the same outcome on
        every device. ``pinned`` names an item's only board by unique id; while that is lost the item is skipped.
        ``name`` is what an item is called in events. Raises FleetError when no device is left, and at once what no other
        attempt would mend: WrongFirmware, a training that diverged, a request refused for what it says.
        """
        jobs = [_Job[Item, Outcome](item, pinned(item) if pinned else None) for item in items]
        workers, idle = self._take_turns(jobs)
        queue = _Queue[Item, Outcome](list(jobs), idle)
        with ThreadPoolExecutor(max_workers=len(self._members)) as pool:
            futures: list[Future[None]] = []

            def start(member: _Member) -> None:
                futures.append(pool.submit(self._serve, member, queue, work, name, start))

            try:
                for member in workers[1:]:
                    start(member)
                self._serve(workers[0], queue, work, name, start)  # one item takes no thread but this
                while futures:
                    futures.pop().result()
            except BaseException as error:  # Ctrl-C too: the others finish what they are at, and no more
                queue.fail(error)
                raise queue.failure or error from None
        for job in queue.waiting:
            if job.home is None:
                self._expect_one()
            self._skip(job, name)
        return [job.served for job in jobs if job.served is not None]

    def _take_turns(self, jobs: Sequence[_Job[Item, Outcome]]) -> tuple[list[_Member], list[_Member]]:
        """Who works, those that are up first, and who is spare; another is first at every call."""
        order = self._members[self._turn :] + self._members[: self._turn]
        self._turn = (self._turn + len(jobs)) % len(self._members)
        up = [member for member in order if member.up]
        wanted = max(1, len(jobs)) if all(job.home is None for job in jobs) else len(up)
        return up[:wanted] + [member for member in order if not member.up], up[wanted:]

    # --- One device's part ---

    def _serve(
        self,
        member: _Member,
        queue: _Queue[Item, Outcome],
        work: Callable[[Session, Item], Outcome],
        name: str,
        start: Callable[[_Member], None],
    ) -> None:
        """Takes items until none is left for this device; gets the device back when it goes away in between."""
        try:
            while member.up or self._bring_back(member, queue.over):
                job = self._take(member, queue)
                if job is None:
                    return
                lost: Exception | None = None
                try:
                    outcome = work(member.device.session, job.item)
                except (LinkError, TrainingFailed, DeltaError) as error:
                    if not _may_pass(error):
                        raise
                    lost = error
                    self._lose(member, error)
                with queue.changed:
                    queue.under_way -= 1
                    if lost is not None:
                        job.note = member.reason
                        job.avoid = member if isinstance(lost, DeltaError) else job.avoid
                        queue.waiting.insert(0, job)
                        if queue.idle:
                            start(queue.idle.pop(0))
                    else:
                        member.failures = 0
                        job.served = Served(outcome, member.device.url, bool(job.note), job.note)
                    queue.changed.notify_all()
                if job.served is not None and job.served.redone:
                    self.on_event(f"{name} {job.item} redone on {member.device.url}")
        except BaseException as error:
            queue.fail(error)
            raise
        finally:
            with queue.changed:  # whoever waits for this device need not any longer
                queue.changed.notify_all()

    def _take(self, member: _Member, queue: _Queue[Item, Outcome]) -> _Job[Item, Outcome] | None:
        """The next item for this device; waits for one while another device may still lose its own."""
        with queue.changed:
            while not queue.over():
                others = any(other.up for other in self._members if other is not member)
                for job in queue.waiting:
                    avoids = job.avoid is member and job.home is None and others
                    if job.home in (None, member.unique_id) and not avoids:
                        queue.waiting.remove(job)
                        queue.under_way += 1
                        return job
                homes = {job.home for job in queue.waiting}
                if queue.under_way == 0 and not any(m.expected and homes & {None, m.unique_id} for m in self._members):
                    return None
                queue.changed.wait(0.5)
        return None

    def _skip(self, job: _Job[Item, Outcome], name: str) -> None:
        assert job.home is not None
        board = next((member for member in self._members if member.unique_id == job.home), None)
        why = f"its board {job.home.hex()} is not among the devices" if board is None else f"it lives on {board.reason}"
        job.served = Served(None, "", False, why)
        self.on_event(f"{name} {job.item} skipped: {why}")

    # --- Losing devices and getting them back ---

    def _lose(self, member: _Member, error: Exception) -> None:
        member.reason = _in_short(error)
        member.gone = self._clock.monotonic()
        member.failures += 1
        member.lies += isinstance(error, DeltaError)
        member.presence = _Presence.AWAY
        if member.lies >= MAX_LIES or member.failures >= MAX_FAILURES:
            member.presence = _Presence.DROPPED
            why = "it gives false updates" if member.lies >= MAX_LIES else f"it failed {member.failures} times in a row"
            self.on_event(f"{member.reason}; dropped for good, for {why}")

    def _bring_back(self, member: _Member, over: Callable[[], bool] = lambda: False) -> bool:
        """Looks for a device that is not up, no longer than its patience and there is work; configures it if it comes."""
        device = member.device
        if member.presence is _Presence.DROPPED or (
            member.presence is _Presence.LOST and self._clock.monotonic() < member.next_try
        ):
            return False
        ends = member.gone + self.patience
        while not over():
            try:
                how = device.rejoin(max(0.0, ends - self._clock.monotonic()), over)
                for program in self._programs:
                    self._tell(device.session, program)
            except WrongFirmware:
                raise
            except (LinkError, LaunchError) as error:
                why = _in_short(error)
            else:
                self.on_event(f"{member.reason}; {device.url} {how}")
                member.presence, member.pause = _Presence.UP, LATE_SECONDS[0]
                return True
            if self._clock.monotonic() >= ends:
                if member.presence is _Presence.AWAY:
                    member.reason = why
                    self.on_event(f"{why}; lost after {self.patience:g} s, its work goes to others")
                member.presence = _Presence.LOST
                member.next_try = self._clock.monotonic() + member.pause
                member.pause = min(2 * member.pause, LATE_SECONDS[1])
                return False
        return False

    def _tell(self, session: Session, program: Program) -> None:
        session.configure(program, self._programs[program])

    def _expect_one(self) -> None:
        if not any(member.up for member in self._members):
            raise FleetError(f"no device is left: {'; '.join(member.reason for member in self._members)}")


def _may_pass(error: Exception) -> bool:
    """Whether the same work may go well after a new start of this device, or on another."""
    if isinstance(error, DeviceRefused):
        return error.status in _FORGOT
    if isinstance(error, TrainingFailed):
        return error.status not in (Status.NOT_FINITE, Status.OVERFLOW)
    return not isinstance(error, (WrongFirmware, SampleTooLarge))


def _in_short(error: Exception) -> str:
    """What happened, in one line, without the remedy: the fleet applies one of its own."""
    return " ".join(str(error).split()).partition("; ")[0]
