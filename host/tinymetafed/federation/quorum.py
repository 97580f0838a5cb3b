"""Rounds that end without some of their clients: when they do, and who was late."""

from __future__ import annotations

from dataclasses import dataclass

from tinymetafed_codegen.section import StrictJson


@dataclass(frozen=True)
class Closing:
    """When a round may end without all of its clients.

    ``round``: its number. ``seconds``: after its start; ``quorum``: how many clients must be done by then, or are waited for.
    """

    round: int
    quorum: int
    seconds: float


@dataclass(frozen=True)
class Absence:
    """A client's device that was not done when the round ended.

    ``device``: its URL, "" if no device had begun the client. ``away``: whether it was not connected.
    """

    device: str
    away: bool


@dataclass(frozen=True)
class Late(StrictJson):
    """A client that was not done when its round ended; ``device`` and ``away`` as of Absence."""

    client: int
    device: str
    away: bool


@dataclass(frozen=True)
class Returned(StrictJson):
    """A device that takes part again.

    ``round``: the first of the rounds that ended without it. ``seconds``: from the end of that round to its next update.
    """

    device: str
    round: int
    seconds: float


@dataclass(frozen=True)
class LateBoard(StrictJson):
    """A board that was late.

    ``rounds``: how many rounds ended without it. ``away``: in how many of them it was not connected when they ended; in the
    others it was at work. ``longest``: the longest time in seconds from the end of a round without it to its next update; None
    if it has not come back.
    """

    device: str
    rounds: int
    away: int
    longest: float | None
