"""The interface between a run and its clients, on devices or simulated: train one round, or adapt and predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import Status
from tinymetafed_codegen.section import StrictJson

from ..learn.codecs.delta import Sparse
from ..learn.tasks import Samples
from ..learn.weights import Floats
from .quorum import Absence, Returned

Outcome = TypeVar("Outcome")
Taken = TypeVar("Taken")


class TrainingFailed(Error):
    """A client's training stopped before its last step; ``status`` is the reason (protocol.Status)."""

    def __init__(self, text: str, status: Status) -> None:
        super().__init__(text)
        self.status = status


class Doubtful(Error, Generic[Outcome]):
    """An outcome that is too unlikely to be accepted from one board; it counts once another board comes to the same.

    ``outcome``: what the board gave. ``claim``: equal for equal outcomes.
    """

    def __init__(self, text: str, outcome: Outcome, claim: str) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.claim = claim


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes on the wire, framing, retries and damaged frames included.

    ``samples_down`` and ``samples_up`` are the part of ``down`` and ``up`` that Sample, Predict and their answers take, and
    waiting for steps on samples that the board has kept: so what is left does not depend on a board's memory.
    ``spared``: bytes that downloads by difference have saved; ``down`` and ``spared`` together are those of full downloads.
    """

    down: int = 0
    up: int = 0
    samples_down: int = 0
    samples_up: int = 0
    retries: int = 0
    spared: int = 0

    def __sub__(self, earlier: Traffic) -> Traffic:
        """The traffic since ``earlier``."""
        return Traffic(
            self.down - earlier.down,
            self.up - earlier.up,
            self.samples_down - earlier.samples_down,
            self.samples_up - earlier.samples_up,
            self.retries - earlier.retries,
            self.spared - earlier.spared,
        )

    def __add__(self, other: Traffic) -> Traffic:
        """The sum, for instance of two boards."""
        return Traffic(
            self.down + other.down,
            self.up + other.up,
            self.samples_down + other.samples_down,
            self.samples_up + other.samples_up,
            self.retries + other.retries,
            self.spared + other.spared,
        )


@dataclass(frozen=True)
class Served(Generic[Outcome]):
    """The result of one client's work: its outcome and the device that did it, or the reason why it was skipped.

    ``late``: the round ended before it was done. ``back``: its device was late in an earlier round.
    """

    outcome: Outcome | None
    device: str  # its URL, "" when skipped
    redone: bool
    note: str  # why it was redone or skipped, or what is unlikely in it; one line
    late: Absence | None = None
    back: Returned | None = None

    @property
    def status(self) -> str:
        """Accepted, redone (accepted after a first attempt was lost), or skipped."""
        return "skipped" if not self.device else "redone" if self.redone else "accepted"

    def of(self, take: Callable[[Outcome], Taken]) -> Served[Taken]:
        """The same with a part of the outcome."""
        taken = None if self.outcome is None else take(self.outcome)
        return Served(taken, self.device, self.redone, self.note, self.late, self.back)


@dataclass(frozen=True)
class DeviceFacts(StrictJson):
    """A device: URL, board, unique id in hexadecimal ("" if it has none), receive window in bytes."""

    url: str
    board: str
    unique_id: str
    receive_window: int


@dataclass(frozen=True)
class Adapted:
    """One client's adaptation.

    ``before`` and ``after`` are the outputs, float32 [count, output_size], on its test samples; ``after`` is NaN if training
    diverged. ``weights``: the trained weights, float32 [n_parameters], global ones first; None if they were not asked for.
    ``count``: number of samples that it adapted with; 0 where that is not recorded.
    """

    client: int
    test: Samples
    before: Floats
    after: Floats
    weights: Floats | None = None
    count: int = 0


class Trainers(Protocol):
    """The training clients of one experiment, on devices, behind gateways or simulated."""

    @property
    def traffic(self) -> Traffic:
        """All bytes so far."""

    @property
    def devices(self) -> list[DeviceFacts]:
        """The devices that the clients run on, for the journal."""

    def exclude(self, board: str, why: str) -> None:
        """Gives a board no more work in this run.

        Args:
            board: Its unique id, in hexadecimal.
            why: The reason, as the end of a sentence.
        """

    def train(
        self, weights: Floats, clients: Sequence[int], round_: int, boards: Sequence[bytes] | None = None
    ) -> list[Served[Sparse]]:
        """Trains each client for one meta-training round.

        Args:
            weights: float32[n_global], as the server holds them.
            clients: Numbers of the clients.
            round_: Number of the round.
            boards: For each client number the unique id of its board; None if any device may train any client.

        Returns:
            The clients' deltas, in the order of ``clients``.

        Raises:
            Error: LinkError, StrategyError or TrainingFailed.
        """


class Clients(Trainers, Protocol):
    """The clients of one experiment, on devices or simulated, those included that no one trains on."""

    def adapt(
        self,
        weights: Floats,
        clients: Sequence[int],
        count: int,
        on_client: Callable[[], None] = lambda: None,
        test_of: Callable[[int], Samples] | None = None,
    ) -> list[Adapted]:
        """Adapts each client and predicts its test samples before and after.

        Args:
            weights: float32[n_global], as the server holds them.
            clients: Numbers of the clients.
            count: Number of samples that each client adapts with.
            on_client: Called after each client.
            test_of: The samples to predict, by client; None for those that the task tests a client on.

        Returns:
            The adaptations, in the order of ``clients``.

        Raises:
            Error: LinkError or StrategyError.
        """
