"""The gateways of a run: who is asked to join, who takes part with which boards, who is lost or refused."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from ..federation.clients import DeviceFacts, Traffic
from .backhaul import Backhaul, BackhaulError, Reply
from .gateway_fields import GatewayMessageError
from .gateway_messages import Failed, Join, Joined, Kind, Shape, opened, read_failed, read_joined, sealed
from .terms import Terms

GATHER_SECONDS = 600.0  # for all gateways to join at the start
LOOK_SECONDS = 1.0  # between two checks which gateways are there
AGAIN_SECONDS = 5.0  # before a gateway is asked again whose name is taken, perhaps by itself before it was started again
REFUSED_SECONDS = (5.0, 80.0)  # first and longest pause before a refused one is asked again; it doubles each time
MAX_FAILURES = 5  # orders in a row
MAX_INVALID = 2  # answers that cannot be read
_NAME = re.compile(r"[\w.-]{1,64}")


class Standing(Enum):
    """Whether a gateway takes part."""

    ASKED = auto()  # has not answered yet
    UP = auto()
    LATE = auto()  # has not answered an order for so long that others do its work
    LOST = auto()  # cannot be reached; asked again when it can
    WAITS = auto()  # its name is taken
    REFUSED = auto()  # asked again now and then, as it may have been started anew, or have its boards back


@dataclass(eq=False)
class GatewayMember:
    """A gateway. ``names``: the URLs of its boards as it numbers them; ``devices``: the boards that are used."""

    number: int
    standing: Standing = Standing.ASKED
    name: str = ""
    session: int = 0
    names: tuple[str, ...] = ()
    devices: tuple[DeviceFacts, ...] = ()
    excluded: dict[bytes, str] = field(default_factory=dict)
    before: Traffic = field(default_factory=Traffic)  # what its lines had carried when it joined
    traffic: Traffic = field(default_factory=Traffic)  # since it joined
    processor: int = 0  # microseconds of its machine's processor in this session
    turn: float | None = None  # shortest time of an order, in seconds for each client of a board
    failures: int = 0  # in a row
    invalid: int = 0
    refused: str = ""  # why, the last time
    pause: float = REFUSED_SECONDS[0]  # before it is asked again, while it is refused
    since: float = 0.0  # when it was asked last

    @property
    def title(self) -> str:
        """What it is called in events."""
        return f"gateway {self.name or self.number}"


class GatewayRoster:
    """The gateways of a run, all by the number that the backhaul gives them."""

    def __init__(self, backhaul: Backhaul, terms: Terms, shape: Shape, on_event: Callable[[str], None]) -> None:
        self.excluded: dict[bytes, str] = {}  # boards that get no more work, behind any gateway
        self._backhaul, self._terms, self._shape, self._on_event = backhaul, terms, shape, on_event
        self._members: dict[int, GatewayMember] = {}
        self._asked: dict[str, GatewayMember] = {}  # by message
        self._looked = float("-inf")
        self._run = secrets.randbits(63)
        self._past = Traffic()  # of sessions that are over

    @property
    def members(self) -> list[GatewayMember]:
        """Those that have joined at some time, in the order of their names."""
        return sorted((each for each in self._members.values() if each.devices), key=lambda each: each.name)

    @property
    def up(self) -> list[GatewayMember]:
        """Those that take orders."""
        return [member for member in self.members if member.standing is Standing.UP]

    @property
    def traffic(self) -> Traffic:
        """All bytes on the lines of boards."""
        return sum((member.traffic for member in self._members.values()), self._past)

    @property
    def asked(self) -> Collection[str]:
        """Messages whose replies ``take`` waits for."""
        return self._asked.keys()

    @property
    def owners(self) -> dict[bytes, GatewayMember]:
        """The gateway of each board, by the board's unique id; one that is up before one that has lost the board."""
        last_wins = sorted(self.members, key=lambda member: member.standing is Standing.UP)
        return {bytes.fromhex(device.unique_id): member for member in last_wins for device in member.devices}

    def hopes(self, seconds: float) -> bool:
        """Whether a gateway may join soon: it was asked less than so many seconds ago, or its name is free by now."""
        now, names = self._backhaul.now(), {member.name for member in self.up}
        return any(
            (member.standing is Standing.ASKED and now - member.since < seconds)
            or (member.standing is Standing.WAITS and member.name not in names)
            for member in self._members.values()
        )

    def gather(self, count: int) -> None:
        """Waits until so many gateways have joined. Raises BackhaulError."""
        began = last = self._backhaul.now()
        while len(self.up) < count:
            self.look()
            if replies := self._backhaul.replies(self._asked):
                last = self._backhaul.now()
                for reply in replies:
                    self.take(reply)
                continue
            if (waited := self._backhaul.now() - began) > GATHER_SECONDS:
                raise BackhaulError(
                    f"{len(self.up)} of {count} gateways have joined after {waited:.0f} s: {self._names() or 'none'}; start "
                    "the others with `tinymetafed gateway`, read what they print, or give a smaller --gateways"
                )
            self._backhaul.wait(self._backhaul.now() - last)

    def look(self) -> list[GatewayMember]:
        """Asks gateways that are new or back to join; returns those that can no longer be reached; at most once a second."""
        now = self._backhaul.now()
        if now - self._looked < LOOK_SECONDS:
            return []
        self._looked = now
        present = self._backhaul.present()
        lost = [
            member
            for member in self._members.values()
            if member.number not in present and member.standing in (Standing.UP, Standing.LATE, Standing.ASKED, Standing.WAITS)
        ]
        for member in self._members.values():
            if member.number not in present:
                member.standing = Standing.LOST
        for number in sorted(present):
            member = self._members.setdefault(number, GatewayMember(number, Standing.LOST))
            again = member.standing is Standing.WAITS and now - member.since > AGAIN_SECONDS
            if member.standing is Standing.REFUSED and now - member.since > member.pause:
                member.pause = min(2 * member.pause, REFUSED_SECONDS[1])
                again = True
            if member.standing is Standing.LOST or again:
                self.ask(member)
        return lost

    def ask(self, member: GatewayMember) -> None:
        """Asks a gateway to join."""
        member.standing, member.since = Standing.ASKED, self._backhaul.now()
        question = sealed(Join(self._terms, self._run), self._terms.identity, self._shape)
        self._asked[self._backhaul.send(member.number, question)] = member

    def take(self, reply: Reply) -> None:
        """Handles the reply to a question; nothing for another reply."""
        member = self._asked.pop(reply.to, None)
        if member is None or member.standing is not Standing.ASKED:
            return
        if reply.content is None:
            member.standing = Standing.LOST  # asked again while it is present
            return
        try:
            kind, _, reader = opened(reply.content)
            answer: Joined | Failed = read_joined(reader) if kind is Kind.JOINED else read_failed(reader)
        except GatewayMessageError as error:
            self.refuse(member, str(error))
            return
        if isinstance(answer, Failed):
            self.refuse(member, answer.text)
        else:
            self._join(member, answer)

    def refuse(self, member: GatewayMember, why: str) -> None:
        """Gives a gateway no more work, until it has an answer that is not refused."""
        member.standing, member.since = Standing.REFUSED, self._backhaul.now()
        if why != member.refused:
            self._on_event(f"{member.title} is not used: {why}")
        member.refused = why

    def back(self, member: GatewayMember) -> None:
        """Uses a gateway again that was late, without boards that are behind another one by now."""
        self._keep_own(member, member.devices, self.up)
        member.standing = Standing.UP

    def add(self, member: GatewayMember, traffic: Traffic, processor: int) -> None:
        """Notes what a gateway has counted in this session. Raises GatewayMessageError for counts that have shrunk."""
        new = traffic - member.before - member.traffic
        if min(new.down, new.up, new.samples_down, new.samples_up, new.retries) < 0:
            raise GatewayMessageError("message: it has carried fewer bytes than before")
        member.traffic, member.processor = traffic - member.before, processor

    def _join(self, member: GatewayMember, joined: Joined) -> None:
        if not _NAME.fullmatch(joined.name):
            self.refuse(member, "its name is not one of up to 64 letters, digits, '.', '-' and '_'")
            return
        member.name = joined.name
        if wrong := self._terms.difference(joined.terms):
            self.refuse(member, f"it runs another experiment: it {wrong}; start it with this run's experiment and data")
            return
        if member.invalid >= MAX_INVALID and joined.session == member.session:
            self.refuse(member, member.refused)
            return
        member.invalid *= joined.session == member.session
        member.failures = min(member.failures, MAX_FAILURES - 1)  # if it fails once more, it is refused again
        others = [other for other in self._members.values() if other is not member and other.standing is Standing.UP]
        if any(other.name == joined.name for other in others):
            if not member.names:  # said once
                member.names = ("",)
                self._on_event(
                    f"two gateways are called {joined.name}; the one that came first is used, give the other one another --name"
                )
            member.standing = Standing.WAITS
            return
        for before in [each for each in self._members.values() if each.name == joined.name]:
            self._past, before.traffic = self._past + before.traffic, Traffic()
            if before is not member:
                del self._members[before.number]  # the same gateway, started again
        member.session, member.before, member.processor = joined.session, joined.traffic, 0
        named = [replace(device, url=f"{joined.name}/{device.url}") for device in joined.devices]
        member.names = tuple(device.url for device in named)
        member.excluded = {}
        self._keep_own(member, [device for place, device in enumerate(named) if place not in joined.dropped], others)
        if not member.devices:
            self.refuse(member, "all of its boards are behind another gateway too, or not used any more")
            return
        member.standing = Standing.UP
        self._on_event(f"{member.title} has joined with {len(member.devices)} board{'s' * (len(member.devices) != 1)}")

    def _keep_own(self, member: GatewayMember, devices: Iterable[DeviceFacts], others: Collection[GatewayMember]) -> None:
        """Leaves out boards whose unique id a board behind another gateway has."""
        known = {device.unique_id: device for other in others for device in other.devices}
        kept: dict[str, DeviceFacts] = {}
        for device in devices:
            if (twin := known.get(device.unique_id)) is not None:
                why = (
                    f"board {device.unique_id} is behind two gateways, {twin.url} and {device.url}; only the first one is used"
                )
                member.excluded[bytes.fromhex(device.unique_id)] = why
                self._on_event(f"{why}, unplug the other or give it an id of its own")
            elif (twin := kept.setdefault(device.unique_id, device)) is not device:
                self._on_event(
                    f"{twin.url} and {device.url} have the id {device.unique_id} both, so they count as one board; give one of "
                    "them an id of its own"
                )
        member.devices = tuple(kept.values())

    def _names(self) -> str:
        return ", ".join(member.name for member in self.up)
