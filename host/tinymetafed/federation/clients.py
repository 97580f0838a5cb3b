"""What a run asks of clients, wherever they are: train from these weights; adapt to your own samples and answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Generic, Protocol, TypeVar

import pydantic.dataclasses

from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import Status

from ..learn.codecs.delta import Sparse
from ..learn.tasks import Samples
from ..learn.weights import Floats

Outcome = TypeVar("Outcome")


class TrainingFailed(Error):
    """A client's training ended before its last step; ``status`` is the reason (protocol.Status)."""

    def __init__(self, text: str, status: Status) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes on the wire with framing, retries and damage; ``samples_*``: those of Sample, Predict and their answers."""

    down: int = 0
    up: int = 0
    samples_down: int = 0
    samples_up: int = 0
    retries: int = 0

    def __sub__(self, earlier: Traffic) -> Traffic:
        """What came on top since ``earlier``."""
        return Traffic(*(getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)))

    def __add__(self, other: Traffic) -> Traffic:
        """Both together, for instance of two boards."""
        return Traffic(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Served(Generic[Outcome]):
    """What became of one piece of work: its outcome and the device that gave it; or, skipped, neither, and why."""

    outcome: Outcome | None
    device: str  # its URL, "" when skipped
    redone: bool
    note: str  # why it was redone or skipped, one line

    @property
    def status(self) -> str:
        """Accepted, redone (accepted after a first attempt was lost), or skipped."""
        return "skipped" if not self.device else "redone" if self.redone else "accepted"


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class DeviceFacts:
    """Where clients are: a device's URL, its board, its unique id in hexadecimal ("" without one), its receive window."""

    url: str
    board: str
    unique_id: str
    receive_window: int


@dataclass(frozen=True)
class Adapted:
    """One client's adaptation: outputs [count, output_size] on its test samples before and after, NaN where it diverged."""

    client: int
    test: Samples
    before: Floats
    after: Floats


class Clients(Protocol):
    """The clients of one experiment, on devices or simulated."""

    @property
    def traffic(self) -> Traffic:
        """All bytes so far."""

    @property
    def devices(self) -> list[DeviceFacts]:
        """Where the clients are, for the journal."""

    def train(
        self, weights: Floats, clients: Sequence[int], round_: int, boards: Sequence[bytes] | None = None
    ) -> list[Served[Sparse]]:
        """One meta-training round of each client from ``weights`` [n_global]; updates in the clients' order.

        ``boards``: unique ids of the boards that the clients live on, None where any device serves any client.
        Raises LinkError, DeltaError, StrategyError, TrainingFailed.
        """

    def adapt(
        self, weights: Floats, clients: Sequence[int], count: int, on_client: Callable[[], None] = lambda: None
    ) -> list[Adapted]:
        """Lets each client adapt with its first ``count`` samples. Raises LinkError, StrategyError."""
