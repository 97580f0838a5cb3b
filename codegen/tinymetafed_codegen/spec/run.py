"""The ``[run]`` section: rounds, clients, when a round ends, the seed, and which weights are kept."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from ..section import Section, SpecError
from .duration import Duration, seconds_of
from .mistakes import READABLE
from .privacy import PrivacySpec


def _share(given: float) -> float:
    if not 0 < given <= 1:
        text = f"{given:g}: expected the share of a round's clients that must be done, more than 0 and at most 1"
        raise PydanticCustomError(READABLE, "{text}", {"text": text})
    return given


class RunSpec(Section):
    """The keys of [run].

    ``keep``: the ``last`` round's weights, or the ``best`` of those that are evaluated every ``evaluation.every`` rounds and at
    the end, by validation clients, which the final meta-test does not use. ``security``: whether boards and host prove to each
    other that they have the board's key, and authenticate every message ("authenticated"), or not ("none").
    ``deadline``: how long a round waits for boards that sleep or are slow, for instance "90s"; from then on it ends as soon as
    a share ``quorum`` of its clients are done. Without both, a round waits for all boards that are not lost.
    """

    rounds: Annotated[int, Field(ge=0, le=10_000_000)] = 1_000  # 0: only the initial weights are tested
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 1
    clients: Annotated[int, Field(ge=1, le=1 << 20)] | None = None  # None: the number of the task's files or boards
    devices_per_round: Annotated[int, Field(ge=1, le=1_024)] = 1
    keep: Literal["last", "best"] = "last"
    security: Literal["none", "authenticated"] = "none"
    quorum: Annotated[float, AfterValidator(_share)] | None = None
    deadline: Duration | None = None

    @property
    def chooses(self) -> bool:
        """Whether weights are chosen by the scores of validation clients; otherwise those of the last round are kept."""
        return self.keep == "best" and self.rounds > 0

    @property
    def is_authenticated(self) -> bool:
        """Whether every message between boards and host is authenticated."""
        return self.security == "authenticated"

    @property
    def deadline_seconds(self) -> float | None:
        """How long a round waits for all of its clients; None if it has no deadline."""
        return None if self.deadline is None else seconds_of(self.deadline)

    def quorum_of(self, clients: int) -> int:
        """How many of a round's clients must be done before it may end without the others."""
        # 0.6 of 5 is 3: the product is a little more in binary floating point.
        return clients if self.quorum is None else max(1, math.ceil(self.quorum * clients - 1e-9))


def check_quorum(run: RunSpec, privacy: PrivacySpec, source: str) -> None:
    """Checks that a round that may end early states how, and that its updates can do without those that are late.

    Raises:
        SpecError: It does not, or they cannot.
    """
    if run.quorum is None and run.deadline is None:
        return
    if run.quorum is None:
        raise SpecError(
            f"{source}: run.deadline = '{run.deadline}' needs run.quorum, the share of a round's clients that must be done "
            "before it ends without the others, for instance run.quorum = 0.6"
        )
    if run.deadline is None:
        raise SpecError(
            f"{source}: run.quorum = {run.quorum:g} needs run.deadline, how long a round waits for all of its clients, for "
            "instance run.deadline = '90s'"
        )
    if privacy.secure_aggregation:
        raise SpecError(
            f"{source}: run.quorum with privacy.secure_aggregation = true: the masks of a round cancel only if all of its "
            "boards open them; leave one of the two out"
        )
    if privacy.is_private:
        raise SpecError(
            f"{source}: run.quorum with privacy.clip: an update that is late may have been sent, but would not be accounted "
            "for; leave one of the two out"
        )
