"""A fleet of devices that share a queue of work; lost devices are reconnected and their work is done again."""

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
from .link.link_errors import DeviceRefused, LaunchError, LinkError, SampleTooLarge, WrongFirmware
from .link.session import Session

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

PATIENCE_SECONDS = 10.0  # time for a lost device to come back: a reset, a replugged cable, a boot loader
MAX_FAILURES = 5  # in a row, each after a successful Hello: the line is unreliable
MAX_INVALID_UPDATES = 2
LATE_SECONDS = (5.0, 80.0)  # first and longest pause between two tries to reconnect a lost device; it doubles each time

# Refusals that mean that the board was reset: it does not know what the host sent before.
_AFTER_RESET = (Status.BAD_STATE, Status.BAD_TOKEN, Status.BAD_OFFSET)


class FleetError(LinkError):
    """Devices cannot work together, or none is left."""


class _Presence(Enum):
    UP = auto()
    AWAY = auto()  # not connected, for less than the patience
    LOST = auto()  # not connected for longer; tried again from time to time
    DROPPED = auto()  # excluded for the rest of the run


@dataclass(eq=False)
class _Member:
    """A device and its state in the fleet."""

    device: Device
    presence: _Presence = _Presence.UP
    reason: str = ""  # why it is not up
    gone: float = 0.0  # time of its loss, by the fleet's clock
    failures: int = 0  # in a row
    invalid_updates: int = 0
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
    """One item of the queue."""

    item: Item
    only_board: bytes | None  # unique id of the only board that can do it; None if any can
    served: Served[Outcome] | None = None
    note: str = ""  # why an attempt was lost
    avoid: _Member | None = None  # sent an invalid update for this item; another device does it if possible


@dataclass(eq=False)
class _Queue(Generic[Item, Outcome]):
    """Items waiting and in progress; every field is protected by ``changed``."""

    waiting: list[_Job[Item, Outcome]]
    idle: list[_Member]  # connected devices that have no item
    under_way: int = 0
    failure: BaseException | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def over(self) -> bool:
        """Whether all items are done or the work has failed."""
        return self.failure is not None or (not self.waiting and self.under_way == 0)

    def fail(self, error: BaseException) -> None:
        """Ends the work of all devices; the first failure is kept."""
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
        """Makes a fleet of connected devices.

        Args:
            devices: Connected devices with different unique ids.
            on_event: Called with one line of text for each problem and how it was handled, from any thread.
            patience: Seconds to wait for a lost device before other devices take over its work.
            clock: Clock to measure time with.

        Raises:
            FleetError: Two devices have the same unique id.
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
                    f"{other.url} and {device.url}: both boards have the unique id {device.hello.unique_id.hex()}, so their "
                    "updates cannot be told apart; give one of them another id or leave it out"
                )

    @property
    def devices(self) -> list[Device]:
        """All devices, those that are not connected at the moment included."""
        return [member.device for member in self._members]

    @property
    def traffic(self) -> Traffic:
        """All bytes so far, those of lost sessions included."""
        return sum((device.traffic for device in self.devices), Traffic())

    def configure(self, program: Program, recipe: Recipe) -> None:
        """Sets a program on every device that does not have it yet, and on each device that reconnects later.

        Args:
            program: Program to set.
            recipe: What the program trains.

        Raises:
            LinkError: A device refused it, or no device is left.
        """
        if self._programs.get(program) == recipe:
            return
        self._programs[program] = recipe
        for member in self._members:
            if not member.up:
                continue
            try:
                self._configure(member.device.session, program)
            except LinkError as error:
                if not _is_transient(error):
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
        """Calls ``work(session, item)`` for every item, each on any free device.

        If a device fails, its item is done again from the start, on the same or another device.

        Args:
            items: The items.
            work: The work on one item; it must give the same outcome on every device.
            pinned: Gives the unique id of the only board that can do an item, None if any can. While that board is lost,
                the item is skipped.
            name: What events call an item.

        Returns:
            The outcomes, in the order of ``items``.

        Raises:
            FleetError: No device is left.
            Error: An error that another attempt cannot change: WrongFirmware, diverged training, a request with a bad value.
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
                self._serve(workers[0], queue, work, name, start)  # a single item needs no other thread
                while futures:
                    futures.pop().result()
            except BaseException as error:  # Ctrl-C too: the other devices finish their current item only
                queue.fail(error)
                raise queue.failure or error from None
        for job in queue.waiting:
            if job.only_board is None:
                self._expect_one()
            self._skip(job, name)
        return [job.served for job in jobs if job.served is not None]

    def _take_turns(self, jobs: Sequence[_Job[Item, Outcome]]) -> tuple[list[_Member], list[_Member]]:
        """The devices that work, connected ones first, and the idle ones; each call begins with another device."""
        order = self._members[self._turn :] + self._members[: self._turn]
        self._turn = (self._turn + len(jobs)) % len(self._members)
        up = [member for member in order if member.up]
        wanted = max(1, len(jobs)) if all(job.only_board is None for job in jobs) else len(up)
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
        """Works on items until none is left for this device; reconnects the device when it is lost."""
        try:
            while member.up or self._bring_back(member, queue.over):
                job = self._take(member, queue)
                if job is None:
                    return
                lost: Exception | None = None
                try:
                    outcome = work(member.device.session, job.item)
                except (LinkError, TrainingFailed, DeltaError) as error:
                    if not _is_transient(error):
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
            with queue.changed:  # wakes threads that wait for this device
                queue.changed.notify_all()

    def _take(self, member: _Member, queue: _Queue[Item, Outcome]) -> _Job[Item, Outcome] | None:
        """The next item for this device; waits while another device may still fail and return its item."""
        with queue.changed:
            while not queue.over():
                others = any(other.up for other in self._members if other is not member)
                for job in queue.waiting:
                    avoids = job.avoid is member and job.only_board is None and others
                    if job.only_board in (None, member.unique_id) and not avoids:
                        queue.waiting.remove(job)
                        queue.under_way += 1
                        return job
                wanted = {job.only_board for job in queue.waiting}
                if queue.under_way == 0 and not any(m.expected and wanted & {None, m.unique_id} for m in self._members):
                    return None
                queue.changed.wait(0.5)
        return None

    def _skip(self, job: _Job[Item, Outcome], name: str) -> None:
        wanted = job.only_board
        assert wanted is not None
        board = next((member for member in self._members if member.unique_id == wanted), None)
        why = f"its board {wanted.hex()} is not among the devices" if board is None else f"its board is lost: {board.reason}"
        job.served = Served(None, "", False, why)
        self.on_event(f"{name} {job.item} skipped: {why}")

    # --- Losing devices and reconnecting them ---

    def _lose(self, member: _Member, error: Exception) -> None:
        member.reason = _in_short(error)
        member.gone = self._clock.monotonic()
        member.failures += 1
        member.invalid_updates += isinstance(error, DeltaError)
        member.presence = _Presence.AWAY
        if member.invalid_updates >= MAX_INVALID_UPDATES or member.failures >= MAX_FAILURES:
            member.presence = _Presence.DROPPED
            why = f"failed {member.failures} times in a row"
            if member.invalid_updates >= MAX_INVALID_UPDATES:
                why = f"sent {member.invalid_updates} invalid updates"
            self.on_event(f"{member.reason}; not used any more, because it {why}")

    def _bring_back(self, member: _Member, over: Callable[[], bool] = lambda: False) -> bool:
        """Tries to reconnect a device, for its patience at most and only while there is work; then configures it."""
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
                    self._configure(device.session, program)
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
                    self.on_event(f"{why}; lost after {self.patience:g} s, other devices do its work")
                member.presence = _Presence.LOST
                member.next_try = self._clock.monotonic() + member.pause
                member.pause = min(2 * member.pause, LATE_SECONDS[1])
                return False
        return False

    def _configure(self, session: Session, program: Program) -> None:
        session.configure(program, self._programs[program])

    def _expect_one(self) -> None:
        if not any(member.up for member in self._members):
            raise FleetError(f"no device is left: {'; '.join(member.reason for member in self._members)}")


def _is_transient(error: Exception) -> bool:
    """Whether the same work may succeed after a restart of this device, or on another one."""
    if isinstance(error, DeviceRefused):
        return error.status in _AFTER_RESET
    if isinstance(error, TrainingFailed):
        return error.status not in (Status.NOT_FINITE, Status.OVERFLOW)
    return not isinstance(error, (WrongFirmware, SampleTooLarge))


def _in_short(error: Exception) -> str:
    """The error in one line, without its remedy: the fleet handles it."""
    return " ".join(str(error).split()).partition("; ")[0]
