"""The devices of a fleet: which are connected, and the search for the others, which runs in parallel to the rounds."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from tinymetafed_codegen.protocol import Program, Recipe

from ..federation.audit import Votes
from ..federation.board_state import BoardState, Presence
from ..learn.codecs.delta import DeltaError
from .device import Device
from .link.clock import Clock
from .link.link_errors import (
    AFTER_RESET,
    DeviceRefused,
    DeviceSilent,
    DeviceSlow,
    LaunchError,
    LinkError,
    PortError,
    PortHeld,
    SessionLost,
    WrongFirmware,
)

PATIENCE_SECONDS = 10.0  # time for a lost device to come back: a reset, a replugged cable, a boot loader
HELD_SECONDS = 30.0  # the same while another program holds its port; ModemManager looks at a new port for 10 s
TRY_SECONDS = 2.0  # of one try to reconnect
SCAN_SECONDS = 1.0  # between two looks whether a port has appeared
LATE_SECONDS = (5.0, 80.0)  # first and longest pause between two tries where none has appeared; it doubles each time
MAX_FAILURES = 5  # in a row, each after a successful Hello: the line is unreliable
UNRELIABLE_SECONDS = 300.0  # before such a device is tried again
STOPPING = "the devices are being stopped"
MAX_INVALID_UPDATES = 2  # and claims that another board has not confirmed


class FleetError(LinkError):
    """Devices cannot work together, or none is left."""


class Interrupted(LinkError):
    """The work of all devices ends, so this device does not finish its item."""


class Overdue(DeviceSlow):
    """A device that takes so long for its item that another one, which began it later, has done it."""


@dataclass(eq=False)
class Member:
    """A device and its state in the fleet."""

    device: Device
    presence: Presence = Presence.UP
    reason: str = ""  # why it is not up
    doing: str = ""  # what it works on, for those who watch
    gone: float = 0.0  # time of its loss, by the fleet's clock
    failures: int = 0  # in a row
    naps: int = 0  # in a row: how often it went to sleep, or was reset, before it had done an item
    invalid_updates: int = 0
    pause: float = LATE_SECONDS[0]
    wrong: WrongFirmware | None = None  # what was flashed onto it
    votes: Votes = field(default_factory=Votes)  # of other boards about its results
    search: threading.Thread | None = None  # the latest for it
    excluded: bool = False  # dropped by ``Fleet.exclude``
    again: float = math.inf  # time from which it is tried again, if it is dropped
    missed: tuple[int, float] | None = None  # the first round that ended without it since it last took part, and when

    @property
    def up(self) -> bool:
        """Whether it is connected and configured."""
        return self.presence is Presence.UP

    @property
    def expected(self) -> bool:
        """Whether a round waits for it, where no other device can do its work."""
        return self.presence in (Presence.UP, Presence.AWAY)

    @property
    def unique_id(self) -> bytes:
        """The board's id."""
        return self.device.hello.unique_id

    @property
    def state(self) -> BoardState:
        """What it is doing."""
        traffic = self.device.traffic
        return BoardState(
            url=self.device.url,
            board=self.device.board,
            unique_id=self.unique_id.hex(),
            presence=self.presence,
            reason="" if self.up else self.reason,
            doing=self.doing if self.up else "",
            bytes_down=traffic.down,
            bytes_up=traffic.up,
            retries=traffic.retries,
        )

    @property
    def tells_of_naps(self) -> bool:
        """Whether its return is told: not each of one that falls asleep again and again, but each time they have doubled."""
        return self.naps <= MAX_FAILURES or self.naps & (self.naps - 1) == 0

    @property
    def in_vain(self) -> str:
        """The end of a sentence about a board that has come back often and done nothing."""
        return f"; it went away {self.naps} times and has done nothing in between" if self.naps > MAX_FAILURES else ""

    def succeeded(self) -> None:
        """Notes that it has done an item."""
        self.failures, self.naps, self.pause = 0, 0, LATE_SECONDS[0]


class Roster:
    """Members and their programs. A lost member is searched in a thread of its own, until it is back or ``close``.

    ``changed`` protects the members' presence and is notified when it changes; ``returned`` is called for a member that is
    up again, with ``changed`` held.
    """

    def __init__(self, devices: Sequence[Device], on_event: Callable[[str], None], patience: float, clock: Clock) -> None:
        self.members = [Member(device) for device in devices]
        self.on_event = on_event
        self.patience = patience
        self.changed = threading.Condition()
        self.returned: Callable[[Member], None] = lambda member: None
        self.failure: BaseException | None = None  # of a search; nothing can be done about it
        self._clock = clock
        self._programs: dict[Program, Recipe] = {}
        self._searches: list[threading.Thread] = []
        self._closing = threading.Condition()
        self.stopped = False

    def stop(self) -> None:
        """Ends all searches, and what another thread does in ``configure``, soon."""
        with self._closing:
            self.stopped = True
            self._closing.notify_all()

    def close(self) -> None:
        """Ends all searches, and waits for their ends."""
        self.stop()
        for search in self._searches:
            search.join()
        for member in self.members:
            if member.presence is Presence.AWAY:
                self.on_event(f"{member.reason}; it was not back at the end")

    @property
    def awaits_sleepers(self) -> bool:
        """Whether a member that is not connected is expected back, however long that takes."""
        return math.isinf(self.patience)

    # --- Programs ---

    def configure(self, program: Program, recipe: Recipe, is_claim: Callable[[LinkError], bool]) -> None:
        """Sets a program on every member; see ``Fleet.configure``. A refusal that ``is_claim`` may be a lie."""
        self._try_unreliable()
        with self.changed:
            if self._programs.get(program) == recipe:
                return
            self._programs[program] = recipe
            present = [member for member in self.members if member.up]
        refusals: list[tuple[Member, LinkError]] = []
        for member in present:
            if self.stopped:
                break
            try:
                member.device.session.configure(program, recipe)
            except LinkError as error:
                if is_claim(error):
                    refusals.append((member, error))
                else:
                    self.lose(member, error)
        if refusals and len(refusals) == len(present):
            raise refusals[0][1]
        for member, refusal in refusals:
            self.drop(member, refusal, "it refuses a program that other boards accept")
        with self.changed:
            while self.failure is None and not self.stopped and not any(member.up for member in self.members):
                if not any(member.expected for member in self.members):
                    raise self.nobody_left()
                self.changed.wait(0.5)
        if self.failure is not None:
            raise self.failure
        if self.stopped:
            raise Interrupted(STOPPING)

    def nobody_left(self) -> LinkError:
        """The error for a fleet of which no device is left."""
        wrong = [member.wrong for member in self.members if member.wrong is not None]
        if len(wrong) == len(self.members):
            return wrong[0]
        why = "; ".join(member.reason for member in self.members)
        return FleetError(f"no device is left: {why}; reset the boards, check cables and power, and try again")

    # --- Losing devices ---

    def lose(self, member: Member, error: Exception) -> None:
        """Notes that a member has failed, and searches it."""
        member.reason = in_short(error)
        member.gone = self._clock.monotonic()
        slept = self.awaits_sleepers and _may_sleep(error)
        member.failures += not slept
        member.naps += slept
        member.invalid_updates += isinstance(error, DeltaError)
        if member.presence is Presence.DROPPED:
            return
        rests = isinstance(error, Overdue)
        with self.changed:
            member.presence = Presence.LOST if rests else Presence.AWAY
        if member.invalid_updates >= MAX_INVALID_UPDATES:
            self.drop(member, error, f"it sent {member.invalid_updates} invalid updates")
        elif member.failures >= MAX_FAILURES:
            self.drop(member, error, f"it failed {member.failures} times in a row", seconds=UNRELIABLE_SECONDS)
        else:
            if rests:
                self.on_event(f"{member.reason}; other devices do its work, for {member.pause:g} s at least")
            self._begin_search(member, rests)

    def readmit(self, member: Member) -> None:
        """Searches a device that was excluded, and configures it anew."""
        if member.excluded:
            self._use_again(member, "excluded no longer")

    def readmit_all(self) -> None:
        """Searches all devices that are not used any more; nothing that they did before counts."""
        for member in self.members:
            if member.presence is Presence.DROPPED:
                member.failures, member.invalid_updates, member.votes = 0, 0, Votes()
                self._use_again(member, "tried again in a new run")

    def _try_unreliable(self) -> None:
        """Searches devices whose lines were unreliable some time ago; each is dropped again at its next failure."""
        now = self._clock.monotonic()
        for member in self.members:
            if member.presence is Presence.DROPPED and now >= member.again:
                member.failures = MAX_FAILURES - 1
                self._use_again(member, f"tried again after {UNRELIABLE_SECONDS:g} s")

    def _use_again(self, member: Member, why: str) -> None:
        if member.search is not None:
            member.search.join()  # it gives up, as the device is dropped
        with self.changed:
            member.presence, member.excluded, member.again = Presence.AWAY, False, math.inf
            member.reason, member.gone = f"{member.device.url}: {why}", self._clock.monotonic()
        self._begin_search(member, rests=False)

    def _begin_search(self, member: Member, rests: bool) -> None:
        member.search = threading.Thread(target=self._search, args=(member, rests), daemon=True)
        self._searches = [other for other in self._searches if other.is_alive()] + [member.search]
        member.search.start()

    def drop(
        self, member: Member, error: Exception | str, why: str, *, excluded: bool = False, seconds: float = math.inf
    ) -> None:
        """Does not use a device any more, or for so many seconds.

        ``excluded``: until ``readmit``, as not for what it did itself.
        """
        with self.changed:
            if member.presence is Presence.DROPPED:
                return
            member.presence, member.excluded = Presence.DROPPED, excluded
            member.again = self._clock.monotonic() + seconds
            member.reason = in_short(error)
            self.changed.notify_all()
        how_long = "any more" if math.isinf(seconds) else f"for {seconds:g} s"
        self.on_event(f"{member.reason}; not used {how_long}, because {why}")

    def refute(self, member: Member, by: Member, what: str) -> None:
        """Counts a claim of a device that another device has not confirmed."""
        member.invalid_updates += 1
        if member.invalid_updates >= MAX_INVALID_UPDATES:
            why = f"other boards do not confirm its results; the last was {what}"
            self.drop(member, f"{member.device.url}: {by.device.url} has another result", why)

    # --- Finding them again ---

    def _search(self, member: Member, rests: bool) -> None:
        """Reconnects and configures a member; with ``rests`` after a pause. Runs in a thread of its own."""
        given_up = partial(self._given_up, member)
        try:
            if rests:
                self._rest(member, until_seen=False)
            elif member.naps > MAX_FAILURES:
                self._pause(member, SCAN_SECONDS, until_seen=False)
            while not given_up():
                left = member.gone + min(self.patience, PATIENCE_SECONDS) - self._clock.monotonic()
                try:
                    how = member.device.rejoin(min(max(0.0, left), TRY_SECONDS), given_up)
                    if self._welcome(member, how):
                        return
                except (LinkError, LaunchError) as error:
                    self._miss(member, error)
        except BaseException as error:
            with self.changed:
                self.failure = self.failure or error
                self.changed.notify_all()

    def _welcome(self, member: Member, how: str) -> bool:
        """Configures a member that was reconnected, and lets it work, unless it has been dropped. Raises LinkError."""
        known: dict[Program, Recipe] = {}
        told = False
        while True:
            with self.changed:
                missing = {program: recipe for program, recipe in self._programs.items() if known.get(program) != recipe}
                if self._given_up(member):
                    return False
                if not missing and told:
                    member.presence, member.wrong = Presence.UP, None
                    self.returned(member)
                    self.changed.notify_all()
                    return True
            for program, recipe in missing.items():
                member.device.session.configure(program, recipe)
                known[program] = recipe
            if not told:
                if member.tells_of_naps:
                    self.on_event(f"{member.reason}; {member.device.url} {how}{member.in_vain}")
                told = True

    def _miss(self, member: Member, error: Exception) -> None:
        """Notes why a member was not found, and pauses before the next try."""
        if self._given_up(member):
            return
        why, now = in_short(error), self._clock.monotonic()
        held = isinstance(error, PortHeld)
        was, presence = member.reason, member.presence
        lost = now >= member.gone + (max(self.patience, HELD_SECONDS) if held else self.patience)
        with self.changed:
            if isinstance(error, WrongFirmware):
                member.wrong = error
            if member.presence is Presence.AWAY and (lost or member.wrong is error):
                member.presence = Presence.LOST
            if held or member.presence is Presence.LOST:
                member.reason = why
            others = any(other.expected for other in self.members if other is not member)
            self.changed.notify_all()
        if isinstance(error, WrongFirmware):
            if others and why != was:
                self.on_event(f"{error}; until then other devices do its work")
        elif held and why != was:
            self.on_event(f"{why}; waiting for it")
        if lost and presence is Presence.AWAY and member.wrong is not error:
            self.on_event(f"{why}; lost after {now - member.gone:.1f} s, other devices do its work")
        if member.presence is Presence.LOST:
            self._rest(member, until_seen=True)
        elif held or now >= member.gone + PATIENCE_SECONDS:  # a sleeper, which is awake only for a short time
            self._pause(member, SCAN_SECONDS, until_seen=True)

    def _rest(self, member: Member, *, until_seen: bool) -> None:
        """Leaves a device alone for its pause, which doubles."""
        pause, member.pause = member.pause, min(2 * member.pause, LATE_SECONDS[1])
        self._pause(member, pause, until_seen=until_seen)

    def _pause(self, member: Member, seconds: float, *, until_seen: bool) -> None:
        """Waits; with ``until_seen`` only until a port appears that may be the device's."""
        ends = self._clock.monotonic() + seconds
        while (left := ends - self._clock.monotonic()) > 0 and not self._given_up(member):
            with self._closing:
                if not self.stopped:
                    self._clock.wait(self._closing, min(left, SCAN_SECONDS))
            if until_seen and member.device.may_be_back():
                return

    def _given_up(self, member: Member) -> bool:
        return self.stopped or member.presence is Presence.DROPPED


def _may_sleep(error: Exception) -> bool:
    """Whether a device failed as one does that has gone to sleep, or has woken without memory of what it was told."""
    if isinstance(error, DeviceRefused):
        return error.status in AFTER_RESET
    return isinstance(error, (PortError, DeviceSilent, SessionLost))


def in_short(error: Exception | str) -> str:
    """The error in one line, without its remedy: the fleet handles it."""
    return " ".join(str(error).split()).partition("; ")[0]
