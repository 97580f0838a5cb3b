"""What a run asks of clients, wherever they are: train from these weights; adapt to your own samples and answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..devices.fleet import Served
from ..devices.link.exchange import Traffic
from ..learn.codecs.delta import Sparse
from ..learn.tasks import Samples
from ..learn.weights import Floats


@dataclass(frozen=True)
class Adapted:
    """One client's adaptation: outputs [count, output_size] on its test samples before and after, NaN where it diverged."""

    client: int
    test: Samples
    before: Floats
    after: Floats


class Clients(Protocol):
    """The clients of one experiment: on devices (device.DeviceClients) or simulated (simulate.SimulatedClients)."""

    @property
    def traffic(self) -> Traffic:
        """All bytes so far."""

    @property
    def devices(self) -> list[dict[str, Any]]:
        """Where the clients are, for the journal: url, board, unique_id and receive_window of each device."""

    def train(
        self, weights: Floats, clients: Sequence[int], round_: int, boards: Sequence[bytes] | None = None
    ) -> list[Served[Sparse]]:
        """One meta-training round of each client from ``weights`` [n_global]; updates in the clients' order.

        ``boards``: unique ids of the boards that the clients live on, None where any device serves any client.
        Raises LinkError, DeltaError, StrategyError.
        """

    def adapt(
        self, weights: Floats, clients: Sequence[int], count: int, on_client: Callable[[], None] = lambda: None
    ) -> list[Adapted]:
        """Lets each client adapt with its first ``count`` samples. Raises LinkError, StrategyError."""
