"""Clients of which some do not take part in some rounds, as they did not in another run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..learn.codecs.delta import Sparse
from ..learn.tasks import Samples
from ..learn.weights import Floats
from .clients import Adapted, Clients, DeviceFacts, Served, Traffic


class Participation:
    """Clients (clients.Clients) of which those in ``absent``, by round, are skipped; all others are those of ``clients``."""

    def __init__(self, clients: Clients, absent: Mapping[int, frozenset[int]]) -> None:
        self._clients = clients
        self._absent = absent

    @property
    def traffic(self) -> Traffic:
        """See Clients."""
        return self._clients.traffic

    @property
    def devices(self) -> list[DeviceFacts]:
        """See Clients."""
        return self._clients.devices

    def exclude(self, board: str, why: str) -> None:
        """See Clients."""
        self._clients.exclude(board, why)

    def train(
        self, weights: Floats, clients: Sequence[int], round_: int, boards: Sequence[bytes] | None = None
    ) -> list[Served[Sparse]]:
        """See Clients; those that are absent in this round are skipped and train nothing."""
        absent = self._absent.get(round_, frozenset())
        present = [client for client in clients if client not in absent]
        served = dict(zip(present, self._clients.train(weights, present, round_, boards) if present else [], strict=True))
        return [served.get(client) or Served(None, "", False, "does not take part in this round") for client in clients]

    def adapt(
        self,
        weights: Floats,
        clients: Sequence[int],
        count: int,
        on_client: Callable[[], None] = lambda: None,
        test_of: Callable[[int], Samples] | None = None,
    ) -> list[Adapted]:
        """See Clients."""
        return self._clients.adapt(weights, clients, count, on_client, test_of)
