"""Devices as the place where a session of a run trains: native processes, emulators and boards on lines of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tinymetafed_codegen.design import design
from tinymetafed_codegen.optional_messages.secure_messages import LEAST_PARTICIPANTS
from tinymetafed_codegen.spec import SpecError

from ..devices.device_clients import DeviceClients
from ..devices.device_urls import DeviceUrlError, parse
from ..devices.launch import require
from ..devices.link.faults import FaultPlan
from ..devices.running import Programs, running
from ..federation.clients import Clients
from ..federation.observer import Observer
from .gateway_site import a_board_for_each_client
from .setup import Setup

LEAST_AUDITED = 3  # boards of which one that lies is found


@dataclass(frozen=True)
class OnDevices:
    """Device URLs to train and to test on; faults and recording are for the training devices."""

    hold_seconds: ClassVar[float] = 0.0  # a round cannot be repeated if the samples exist on the board only
    urls: Sequence[str]
    test_urls: Sequence[str]
    faults: FaultPlan | None = None
    record: Path | None = None

    def has_stores(self, setup: Setup) -> bool:
        """Boards with a store do; those that run as processes, if their files are kept."""
        specs = parse(self.urls, setup.design.boards)
        return setup.experiment.board.store and all(spec.board is None or spec.store is not None for spec in specs)

    @contextmanager
    def open(self, setup: Setup, observer: Observer) -> Iterator[tuple[Clients, Clients]]:
        """Builds, starts and checks the devices; stops them at the end. Raises SpecError if their number is wrong."""
        boards = setup.design.boards
        specs, test_specs = parse(self.urls, boards), parse(self.test_urls, boards)
        count = sum(spec.count for spec in specs)
        _a_board_for_each_client(setup, count)
        tell_of_audits(setup, count, observer)
        require([*specs, *test_specs], boards)
        if shared := {spec.url for spec in specs if spec.kind == "serial"} & set(self.test_urls):
            raise DeviceUrlError(f"{', '.join(sorted(shared))}: given both to train and to test on; use it for one only")
        strategy, task = setup.strategy, setup.task
        tested = design(setup.experiment.streamed, setup.design.board, setup.source, boards)
        programs = Programs()
        with (
            running(
                setup.design,
                self.urls,
                observer,
                data_sha256=task.data_sha256,
                programs=programs,
                faults=self.faults,
                record=self.record,
            ) as fleet,
            running(
                tested, self.test_urls, observer, data_sha256=task.data_sha256, programs=programs, purpose="for the test"
            ) as testers,
        ):
            yield DeviceClients(fleet, strategy, task), DeviceClients(testers, strategy, task)


def tell_of_audits(setup: Setup, boards: int, observer: Observer) -> None:
    """Says so where boards are too few for audits to find one that lies."""
    if (share := setup.strategy.spec.audit) and boards < LEAST_AUDITED:
        observer.event(
            f"{setup.source}: strategy.audit = {share:g} lets a second board repeat a client and a third one decide; with "
            f"{boards} it finds no board that lies; give --device for {LEAST_AUDITED}"
        )


def _a_board_for_each_client(setup: Setup, boards: int) -> None:
    """Raises SpecError if clients need boards of their own, for the state that they keep or to mask updates, and lack them."""
    per_round = setup.experiment.run.devices_per_round
    if setup.strategy.secure_sum is not None and boards < per_round:
        raise SpecError(
            f"{setup.source}: privacy.secure_aggregation = true needs a board of its own for each client of a round, as they "
            f"mask their updates together: {setup.experiment.per_round}, and there are {boards} boards; give --device for "
            f"{per_round}, lower run.devices_per_round, to {LEAST_PARTICIPANTS} at least, or simulate"
        )
    a_board_for_each_client(setup, boards)
