"""Audits: a second board repeats the work of the first; both must give the same bits.

Honest boards give the same bits for the same client and round, so a board that differs from two others lied or is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from random import Random, SystemRandom
from typing import Generic, TypeVar

Outcome = TypeVar("Outcome")

PROVEN = 4  # agreements for a board to be trusted, and as many more for each disagreement; until then all is repeated
MOST_REFUTED = 3  # disagreements after which a board is excluded, unless it has had more agreements


@dataclass
class Votes:
    """How often other boards came to the same result as this one (``confirmed``), and how often two agreed on another one."""

    confirmed: int = 0
    refuted: int = 0

    @property
    def proven(self) -> bool:
        """Whether it is enough to audit a share of what the board does."""
        return self.confirmed >= PROVEN * (1 + self.refuted)

    @property
    def excluded(self) -> bool:
        """Whether the board should not be used any more."""
        return self.refuted >= MOST_REFUTED and self.refuted > self.confirmed


@dataclass(frozen=True)
class Audit(Generic[Outcome]):
    """Which outcomes are audited: all of boards that are not proven, and a share of the others.

    ``claim``: equal for equal outcomes. ``random``: the system's by default, so that no board can foresee what is audited;
    among honest boards an audit changes no weight.
    """

    share: float
    claim: Callable[[Outcome], Hashable]
    random: Random = field(default_factory=SystemRandom)

    def due(self, votes: Votes) -> bool:
        """Whether what a board with these votes has done is audited."""
        return not votes.proven or self.random.random() < self.share
