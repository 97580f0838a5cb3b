"""The interface of trackers: four functions, and the typed values that they are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

Parameter = str | int | float | bool
State = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True)
class TrackedRun:
    """A run whose session begins.

    ``folder``: the run folder; ``name``: its name. ``parameters``: the complete experiment, with a name such as
    strategy.alpha_max for each key. ``rounds``: at which round the run ends. ``trained``: rounds trained already; they are
    shown, too, unless the tracker has them.
    """

    folder: Path
    name: str
    parameters: Mapping[str, Parameter]
    rounds: int
    trained: int


@dataclass(frozen=True)
class TrackedRound:
    """A finished round.

    ``round``: rounds trained, this one included: the first one is 1. ``bytes``: bytes of training on the wire so far, both
    directions, without samples. ``bytes_down``, ``bytes_up``, ``bytes_samples``: of this round. ``alpha``: the server's
    learning rate; ``update_norm``: Euclidean norm of the weights' change. ``accepted``, ``redone``, ``skipped``: clients by
    what became of their contribution; ``late``: those skipped because the round ended before they were done. ``metric``: of
    the scores, "" in rounds after which validation clients are not looked at. ``before``, ``after``: their mean score before
    and after adaptation, None if there is none or the model diverged.
    """

    round: int
    bytes: int
    bytes_down: int
    bytes_up: int
    bytes_samples: int
    seconds: float
    alpha: float
    update_norm: float
    retries: int
    accepted: int
    redone: int
    skipped: int
    late: int
    metric: str
    before: float | None
    after: float | None

    @property
    def scalars(self) -> dict[str, float]:
        """The round's numbers by the names that the built-in trackers give them; scores that there are not are left out."""
        given = {
            "training/alpha": self.alpha,
            "training/update_norm": self.update_norm,
            "training/seconds": self.seconds,
            "bytes/down": self.bytes_down,
            "bytes/up": self.bytes_up,
            "bytes/samples": self.bytes_samples,
            "clients/accepted": self.accepted,
            "clients/redone": self.redone,
            "clients/skipped": self.skipped,
            "clients/late": self.late,
            "clients/retries": self.retries,
            "validation/before": self.before,
            "validation/after": self.after,
        }
        return {name: float(value) for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class TrackedEnd:
    """The end of a session.

    ``state``: "finished", "interrupted" (it can be resumed) or "failed"; ``error``: why it failed, "" otherwise. ``round``,
    ``bytes``: as of the last round. ``weights_sha256``: of the weights that the run is for. ``metric``, ``before``, ``after``,
    ``after_ci95``: scores of the test clients, "" and None before the run has finished. ``report``: the HTML report, None of a
    run that did not get so far.
    """

    state: State
    error: str
    round: int
    bytes: int
    weights_sha256: str
    metric: str
    before: float | None
    after: float | None
    after_ci95: float | None
    report: Path | None

    @property
    def scalars(self) -> dict[str, float]:
        """The scores of the test clients by the names that the built-in trackers give them."""
        given = {"test/before": self.before, "test/after": self.after, "test/after_ci95": self.after_ci95}
        return {name: value for name, value in given.items() if value is not None}


@runtime_checkable
class Tracker(Protocol):
    """Writes what happens in a run into a log of its own; all calls come from one thread, which does nothing else.

    What these functions raise ends the log, never the run. They may be slow, as training does not wait for them.
    """

    def start(self, run: TrackedRun) -> int | None:
        """A session of a run begins.

        Args:
            run: The run, in its first session or resumed.

        Returns:
            How many rounds the log has already, so that none is written twice; None, like 0, if all are to be shown.
        """

    def round(self, round: TrackedRound) -> None:
        """A round has finished; rounds come in order, each once."""

    def finished(self, end: TrackedEnd) -> None:
        """The session has ended; a resumed run may have ended before."""

    def close(self) -> None:
        """Nothing more comes; called once, also after an error and if the run ended before its first round."""
