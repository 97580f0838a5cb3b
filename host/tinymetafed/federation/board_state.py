"""What the boards of a run are doing at a moment, for those who watch it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from tinymetafed_codegen.section import StrictJson


class Presence(StrEnum):
    """Whether a device takes part."""

    UP = "connected"
    AWAY = "away"  # not connected, for less than the patience
    LOST = "lost"  # not connected for longer; rounds do not wait for it
    DROPPED = "not used"  # not searched, and given no work; for the rest of the run, unless a gateway serves another one


@dataclass(frozen=True)
class BoardState(StrictJson):
    """A board at a moment.

    ``url``, ``board``, ``unique_id``: as in DeviceFacts. ``reason``: why it is not connected, "" if it is. ``doing``: what it
    works on, as "client 7"; "" if nothing. ``bytes_down``, ``bytes_up``, ``retries``: of this session, all its lines.
    """

    url: str
    board: str
    unique_id: str
    presence: Presence
    reason: str
    doing: str
    bytes_down: int
    bytes_up: int
    retries: int


@runtime_checkable
class OnBoards(Protocol):
    """Clients on boards that can be watched; a simulation has none."""

    @property
    def states(self) -> list[BoardState]:
        """What the boards are doing at the moment. May be asked from any thread."""
