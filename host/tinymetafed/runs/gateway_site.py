"""Where a session of a run takes place: on boards behind gateways, with the devices to test on here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import ClassVar

from tinymetafed_codegen import __version__
from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.spec import SpecError

from ..devices.device_clients import DeviceClients
from ..devices.device_urls import parse
from ..devices.launch import require
from ..devices.running import running
from ..federation.clients import Clients, Trainers
from ..federation.observer import Observer
from ..gateways.backhaul import Backhaul
from ..gateways.gateway_clients import GatewayClients
from ..gateways.terms import Terms
from ..learn.tasks import Task
from .setup import Setup

SCHEME = "gateways://"  # begins the device URL by which a journal names gateways


def terms_of(design: Design, task: Task) -> Terms:
    """The terms of a run of this version."""
    return Terms.of(design, task, __version__)


def require_single_updates(setup: Setup) -> None:
    """Raises SpecError if the boards of a round must mask their updates together."""
    if setup.strategy.secure_sum is not None:
        raise SpecError(
            f"{setup.source}: privacy.secure_aggregation = true needs all boards at one host, because they mask "
            "their updates together; leave it out, or --gateways"
        )


@dataclass(frozen=True)
class BehindGateways:
    """``count`` gateways, reached by ``way``, which is called ``name``; URLs of devices to test on.

    ``on_clients``: is given the clients once all gateways have joined.
    """

    hold_seconds: ClassVar[float] = 0.0  # a round cannot be repeated if the samples exist on the board only
    name: str
    way: Callable[[Callable[[str], None]], AbstractContextManager[Backhaul]]
    count: int
    test_urls: Sequence[str]
    on_clients: Callable[[GatewayClients], None] = lambda clients: None

    @property
    def url(self) -> str:
        """The device URL by which the journal names them."""
        return f"{SCHEME}{self.name}/{self.count}"

    def has_stores(self, setup: Setup) -> bool:
        """Boards with a store do."""
        return setup.experiment.board.store

    @contextmanager
    def open(self, setup: Setup, observer: Observer) -> Iterator[tuple[Trainers, Clients]]:
        """Waits for the gateways, and starts the devices to test on. Raises SpecError if the number of boards is wrong."""
        require_single_updates(setup)
        boards = setup.design.boards
        require(parse(self.test_urls, boards), boards)
        tested = design(setup.experiment.streamed, setup.design.board, setup.source, boards)
        strategy, task = setup.strategy, setup.task
        terms = terms_of(setup.design, task)
        with (
            self.way(observer.event) as backhaul,
            running(tested, self.test_urls, observer, data_sha256=task.data_sha256, purpose="for the test") as testers,
        ):
            clients = GatewayClients(backhaul, strategy, terms, observer.event)
            observer.stage(f"waiting for {self.count} gateway{'s' * (self.count != 1)} at {self.name}")
            clients.roster.gather(self.count)
            a_board_for_each_client(setup, len(clients.devices))
            self.on_clients(clients)
            yield clients, DeviceClients(testers, strategy, task)


def a_board_for_each_client(setup: Setup, boards: int) -> None:
    """Raises SpecError if clients need boards of their own, for the state that they keep, and there are more or fewer."""
    clients = setup.task.clients
    if setup.strategy.kept and not setup.experiment.task.boards_are_clients and clients != boards:
        there_are, fewer = f"run.clients = {clients}", f"set run.clients = {boards}, "
        if setup.experiment.task.counts_clients:
            there_are, fewer = f"the data have {clients} training clients", ""
        raise SpecError(
            f"{setup.source}: {' and '.join(setup.strategy.kept)} keeps state on each client's own board, but {there_are} and "
            f"there are {boards} boards; {fewer}give --device for {clients}, or simulate"
        )
