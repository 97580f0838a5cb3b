"""The way between a server and its gateways, as the server sees it: opaque bytes there, opaque bytes back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from ..devices.link.link_errors import LinkError


class BackhaulError(LinkError):
    """Gateways cannot be reached, or none is left; the finished rounds are kept."""


@dataclass(frozen=True)
class Reply:
    """A gateway's reply to the message ``to``: its ``content``, or None and why there will be none."""

    to: str
    content: bytes | None
    why: str = ""


@dataclass(frozen=True)
class BackhaulTraffic:
    """Bytes of the messages to and from gateways so far, without what carries them, and their number."""

    down: int = 0
    up: int = 0
    messages: int = 0

    def __sub__(self, earlier: BackhaulTraffic) -> BackhaulTraffic:
        """What has been sent since ``earlier``."""
        return BackhaulTraffic(self.down - earlier.down, self.up - earlier.up, self.messages - earlier.messages)


class Backhaul(Protocol):
    """Carries messages to gateways, which have numbers. Every method raises BackhaulError when it cannot be used any more."""

    @property
    def traffic(self) -> BackhaulTraffic:
        """What has been sent so far."""

    def present(self) -> frozenset[int]:
        """The gateways that can be reached now."""

    def send(self, gateway: int, content: bytes) -> str:
        """Sends a message to a gateway; returns the message's id, by which its reply is told."""

    def replies(self, waiting: Collection[str]) -> list[Reply]:
        """The replies to messages that have come since they were last asked for."""

    def wait(self, waited: float) -> None:
        """Waits a little, after ``waited`` seconds without anything new."""

    def now(self) -> float:
        """Seconds, of a clock that only goes forward."""
