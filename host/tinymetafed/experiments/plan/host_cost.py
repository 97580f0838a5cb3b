"""Processor time of host and server, as it was measured: by client and request, by update and entry."""

from __future__ import annotations

from dataclasses import dataclass

from tinymetafed_codegen.section import StrictJson


@dataclass(frozen=True)
class HostCost(StrictJson):
    """Processor seconds of a host with boards: of each client's round, and of each request to a board."""

    per_client: float
    per_request: float

    def seconds(self, requests: float) -> float:
        """Of a client's round with so many requests."""
        return self.per_client + requests * self.per_request

    @classmethod
    def through(cls, few: tuple[float, float], many: tuple[float, float]) -> HostCost:
        """The cost that explains two measurements: requests of a client's round, and its seconds; the shorter round first."""
        slope = max(0.0, (many[1] - few[1]) / (many[0] - few[0]))
        return cls(max(0.0, few[1] - slope * few[0]), slope)


@dataclass(frozen=True)
class ServerCost(StrictJson):
    """What the server takes, where updates come from gateways.

    Seconds of its processor: ``per_update`` for checking, averaging and describing each, and ``per_entry`` of it; ``unpacking``
    a byte that a gateway has packed, and ``packing`` at the gateway. ``memory_per_entry``: bytes that the server has in use at
    most, by entry of all updates of a round.
    """

    per_update: float
    per_entry: float
    packing: float
    unpacking: float
    memory_per_entry: float
