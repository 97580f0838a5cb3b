"""Where a session of a run takes place: on devices, or in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from tinymetafed_codegen.design import design
from tinymetafed_codegen.spec import SpecError

from ..devices.device_clients import DeviceClients
from ..devices.launch import DeviceUrlError, parse, require
from ..devices.link.faults import FaultPlan
from ..devices.running import running
from ..federation.clients import Clients
from ..federation.observer import Observer
from ..simulation.kernels import open_kernels
from ..simulation.simulated_clients import SimulatedClients
from .setup import Setup


class Site(Protocol):
    """A place for clients.

    ``hold_seconds``: how long finished rounds may wait for others to be written with (store.RunStore).
    """

    @property
    def hold_seconds(self) -> float: ...  # noqa: D102  # the class says it

    def open(self, setup: Setup, observer: Observer) -> AbstractContextManager[tuple[Clients, Clients]]:
        """The clients to train and those to test on, ready to work. Raises LinkError, BuildError, SpecError."""


@dataclass(frozen=True)
class OnDevices:
    """URLs to train and to test on, and what is done to the training lines."""

    hold_seconds: ClassVar[float] = 0.0  # what a board has trained on may exist nowhere else
    urls: Sequence[str]
    test_urls: Sequence[str]
    faults: FaultPlan | None = None
    record: Path | None = None

    @contextmanager
    def open(self, setup: Setup, observer: Observer) -> Iterator[tuple[Clients, Clients]]:
        """Builds, starts and checks the devices; stops them at the end. Raises SpecError for another number than it takes."""
        boards = setup.design.boards
        specs, test_specs = parse(self.urls, boards), parse(self.test_urls, boards)
        _a_board_for_each_client(setup, sum(spec.count for spec in specs))
        require([*specs, *test_specs], boards)
        if shared := {spec.url for spec in specs if spec.kind == "serial"} & set(self.test_urls):
            raise DeviceUrlError(f"{', '.join(sorted(shared))}: given both to train and to test on; a port serves one session")
        strategy, task = setup.strategy, setup.task
        tested = design(setup.experiment.streamed, setup.design.board, setup.source, boards)
        with (
            running(setup.design, self.urls, observer, faults=self.faults, record=self.record) as fleet,
            running(tested, self.test_urls, observer) as testers,
        ):
            yield DeviceClients(fleet, strategy, task), DeviceClients(testers, strategy, task)


@dataclass(frozen=True)
class InSimulation:
    """This process, on so many threads."""

    hold_seconds: ClassVar[float] = 0.25  # done again in less
    threads: int

    @contextmanager
    def open(self, setup: Setup, observer: Observer) -> Iterator[tuple[Clients, Clients]]:
        """Compiles the kernels, unless that has been done."""
        observer.stage("compiling the simulation")
        kernels = open_kernels(setup.design, self.threads)
        clients = SimulatedClients(kernels, setup.strategy, setup.task)
        yield clients, clients


def _a_board_for_each_client(setup: Setup, boards: int) -> None:
    """Raises SpecError where clients live on boards and there is not one for each."""
    clients = setup.task.clients
    if setup.strategy.kept and not setup.experiment.task.boards_are_clients and clients != boards:
        raise SpecError(
            f"{setup.source}: {' and '.join(setup.strategy.kept)} keeps something on a client's own board, but "
            f"run.clients = {clients} and there are {boards} boards; set run.clients = {boards}, give --device for {clients}, "
            "or simulate"
        )
