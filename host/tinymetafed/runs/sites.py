"""Where a session of a run takes place: in a simulation here; device_site.py and gateway_site.py have the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol

from ..federation.clients import Clients, Trainers
from ..federation.observer import Observer
from ..simulation.kernels import ClientKernels, open_kernels
from ..simulation.simulated_clients import SimulatedClients
from .setup import Setup


class Site(Protocol):
    """A place where clients train.

    ``hold_seconds``: how long finished rounds may wait before they are written together (see store.RunStore).
    """

    @property
    def hold_seconds(self) -> float: ...  # noqa: D102  # the class says it

    def has_stores(self, setup: Setup) -> bool:
        """Whether clients still have what they kept when an earlier session of the run ended."""

    def open(self, setup: Setup, observer: Observer) -> AbstractContextManager[tuple[Trainers, Clients]]:
        """Opens the clients to train on and those to test on. Raises LinkError, BuildError, SpecError."""


@dataclass(frozen=True)
class InSimulation:
    """A simulation in this process, on ``threads`` threads, or with the kernels that several runs of its model share."""

    hold_seconds: ClassVar[float] = 0.25  # lost rounds take less time than this to repeat
    threads: int = 1
    shared: ClientKernels | None = None

    def has_stores(self, setup: Setup) -> bool:
        """No: a simulation keeps state in memory."""
        return False

    @contextmanager
    def open(self, setup: Setup, observer: Observer) -> Iterator[tuple[Clients, Clients]]:
        """Compiles the kernels, unless they are cached."""
        kernels = self.shared
        if kernels is None or kernels.manifest.model_hash != setup.design.manifest.model_hash:
            observer.stage("compiling the simulation")
            kernels = open_kernels(setup.design, self.threads)
        clients = SimulatedClients(kernels, setup.strategy, setup.task)
        yield clients, clients
