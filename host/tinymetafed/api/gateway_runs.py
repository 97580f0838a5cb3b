"""Runs behind gateways: what a server needs to reach them, and a gateway with boards of its own."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path

from tinymetafed_codegen.errors import UsageError

from ..devices.device_clients import DeviceClients
from ..devices.device_urls import require_secure, some
from ..devices.link import faults
from ..devices.running import running
from ..gateways.backhaul import Backhaul
from ..gateways.flower.superlink_address import SuperLinkAddress, require_flower
from ..gateways.gateway import Gateway
from ..gateways.gateway_progress import GatewayProgress
from ..runs import foreign_parts
from ..runs.device_site import tell_of_audits
from ..runs.gateway_site import BehindGateways, require_single_updates, terms_of
from ..runs.setup import set_up
from .api_defaults import DEFAULT_DEVICES
from .loaded_experiment import Experiment, data_path
from .named_files import named_files, path_of
from .progress import ProgressOption, watching

_NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Gateways:
    """The gateways of a run, and the SuperLink of Flower that they and the server connect to.

    Attributes:
        superlink: Its address, HOST:PORT.
        count: Gateways to wait for before the first round; more may join later, and fewer go on if some are lost.
        root_certificates: PEM file of the authorities that may have signed its certificate; None for those of the system.
        server_secret: File with the secret that it asks of whoever takes its server tasks; None for none.
        insecure: Whether the line to it has no TLS.
    """

    superlink: str
    count: int = 1
    root_certificates: str | Path | None = None
    server_secret: str | Path | None = None
    insecure: bool = False

    def site(self, test_urls: Sequence[str]) -> BehindGateways:
        """Where the run takes place. Raises UsageError, SuperLinkError."""
        if self.count < 1:
            raise UsageError(f"--gateways {self.count}: expected 1 or more")
        address = SuperLinkAddress.parse(
            self.superlink,
            insecure=self.insecure,
            root_certificates=path_of(self.root_certificates),
            server_secret=path_of(self.server_secret),
        )
        require_flower()
        from ..gateways.flower.superlink_server import superlink_server

        @contextmanager
        def way(on_event: Callable[[str], None]) -> Iterator[Backhaul]:
            with superlink_server(address, on_event) as backhaul:
                yield backhaul

        return BehindGateways(str(address), way, self.count, list(test_urls))


def gateway(
    experiment: Experiment,
    devices: Sequence[str] = DEFAULT_DEVICES,
    *,
    superlink: str,
    name: str | None = None,
    root_certificates: str | Path | None = None,
    node_key: str | Path | None = None,
    data: str | Path | None = None,
    fault: str = "",
    record: str | Path | None = None,
    insecure: bool = False,
    stop: threading.Event | None = None,
    progress: ProgressOption = True,
) -> None:
    """Lends the boards of this machine to runs that other machines begin, until it is interrupted.

    Args:
        experiment: The experiment of the runs; a server with another one is refused.
        devices: Device URLs, as for ``train``.
        superlink: Address of Flower's SuperLink, HOST:PORT.
        name: The gateway's name; None for that of this machine.
        root_certificates: PEM file of the authorities that may have signed the SuperLink's certificate; None for those of the
            system.
        node_key: File with the private key by which the SuperLink knows this gateway; None where it knows none.
        data: Folder of the task's data; None for the usual place.
        fault: Faults to inject into the lines.
        record: File to record every byte of the lines in.
        insecure: Whether the line to the SuperLink has no TLS; lines to devices are then accepted as in ``train``, too.
        stop: Ends the gateway when it is set; None for Ctrl-C alone.
        progress: As in ``simulate``.

    Raises:
        Error: SpecError, DataError, BuildError, LinkError, LaunchError; SuperLinkError if the SuperLink cannot be trusted.
        KeyboardInterrupt: The run goes on without this gateway.
    """
    address = SuperLinkAddress.parse(
        superlink, insecure=insecure, root_certificates=path_of(root_certificates), node_key=path_of(node_key)
    )
    require_flower()
    from ..gateways.flower.supernode import SuperNode, client_app

    called = _NAME.sub("-", socket.gethostname())[:64] or "gateway" if name is None else name
    if _NAME.search(called) or not 0 < len(called) <= 64:
        raise UsageError(f"--name {called}: expected up to 64 letters, digits, '.', '-' and '_'")
    urls = some(devices)
    require_secure(urls, experiment.spec.run.security, insecure)
    foreign_parts.remember(foreign_parts.devices_of(urls))
    setup = set_up(experiment.spec, experiment.source, data_path(experiment.spec.task, data))
    require_single_updates(setup)
    # Ids of processes: the same after each start, and others behind another gateway.
    first = int.from_bytes(sha256(called.encode()).digest()[:6], "big") << 16
    with (
        named_files(),
        watching(progress) as observer,
        running(
            setup.design,
            urls,
            observer,
            data_sha256=setup.task.data_sha256,
            faults=faults.parse(fault) if fault else None,
            record=path_of(record),
            ids=count(first + 1),
        ) as fleet,
    ):
        clients = DeviceClients(fleet, setup.strategy, setup.task)
        own = Gateway(called, clients, setup.strategy, terms_of(setup.design, setup.task), observer.event)
        tell_of_audits(setup, len(clients.devices), observer)
        title = f"gateway {called} with {len(clients.devices)} boards for SuperLink {address}"
        shown = GatewayProgress(observer, title, experiment.spec.run.rounds)
        own.on_run, own.on_round = shown.run_begins, shown.round_done
        shown.waiting()
        SuperNode(address, client_app(own), observer.event, stop or threading.Event()).serve()
