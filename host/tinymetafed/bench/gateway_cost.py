"""What a round behind gateways costs: bytes between them and the server, processor time, Flower's share."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import tomli_w

from tinymetafed_codegen.spec import dump
from tinymetafed_codegen.temporary import temporary_folder

from ..federation.clients import Trainers
from ..federation.observer import Observer
from ..federation.rounds import rounds
from ..gateways.flower.superlink_address import SuperLinkAddress, SuperLinkError, require_flower
from ..gateways.gateway_clients import GatewayClients, RoundCost
from ..learn.weights import Floats, initial, sha256
from ..runs.gateway_site import terms_of
from ..runs.setup import Setup
from ..simulation.kernels import open_kernels
from ..simulation.simulated_clients import SimulatedClients
from . import BenchError

START_TRIES = 600  # each after a tenth of a second


@dataclass(frozen=True)
class GatewayFigures:
    """Figures of a form, means over all rounds but the first.

    ``down``, ``up``: bytes of messages to and from gateways, in a round. ``seconds``: of a round. ``training``: of them those
    of the slowest gateway's own work; the rest is Flower and the server. ``processor``: milliseconds of gateways' processors
    per client of a round, without the boards. ``weights_sha256``: after the last round. ``equals_simulation``: whether one
    simulation ends on the same weights.
    """

    form: str
    gateways: int
    boards: int
    rounds: int
    clients: int
    down: float
    up: float
    seconds: float
    training: float
    processor: float
    weights_sha256: str
    equals_simulation: bool

    @property
    def flower_share(self) -> float:
        """Flower's and the server's share of a round's time."""
        return 1 - self.training / self.seconds


def measure(setup: Setup, gateways: int, boards: int, observer: Observer) -> GatewayFigures:
    """Trains an experiment behind gateways on this machine, and again in a simulation.

    Args:
        setup: The experiment's set-up; all of its rounds are trained.
        gateways: Number of gateways, each a process.
        boards: Native boards of each.
        observer: Is told of progress.

    Returns:
        The figures.

    Raises:
        BenchError: There are fewer than two rounds, or the processes do not start.
        SuperLinkError: Flower is not installed.
    """
    require_flower()
    from ..gateways.flower.superlink_server import superlink_server

    experiment, spec = setup.experiment, setup.strategy.spec
    if experiment.run.rounds < 2:
        raise BenchError(f"{setup.source}: run.rounds = {experiment.run.rounds}; set 2 or more, the first one is not counted")
    first = initial(setup.design.manifest, experiment.run.seed, experiment.model.init)
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder("gateways"))
        address = stack.enter_context(_superlink(folder))
        file = folder / "experiment.toml"
        file.write_text(tomli_w.dumps(dump(experiment)), encoding="utf-8")
        for place in range(1, gateways + 1):
            stack.enter_context(_gateway(folder, file, f"gateway-{place}", boards, address))
        backhaul = stack.enter_context(superlink_server(address, observer.event))
        clients = GatewayClients(backhaul, setup.strategy, terms_of(setup.design, setup.task), observer.event)
        observer.stage(f"waiting for {gateways} gateways with {boards} boards")
        clients.roster.gather(gateways)
        observer.stage("training behind gateways", experiment.run.rounds)
        weights = _trained(setup, clients, first, observer)
    observer.stage("training in a simulation", experiment.run.rounds)
    simulated = SimulatedClients(open_kernels(setup.design, os.cpu_count() or 1), setup.strategy, setup.task)
    alone = _trained(setup, simulated, first, observer)
    counted, per_round = clients.costs[1:], experiment.run.devices_per_round

    def mean(of: Callable[[RoundCost], float]) -> float:
        return fmean(map(of, counted))

    return GatewayFigures(
        form=spec.gateways,
        gateways=gateways,
        boards=boards,
        rounds=experiment.run.rounds,
        clients=per_round,
        down=mean(lambda cost: cost.backhaul.down),
        up=mean(lambda cost: cost.backhaul.up),
        seconds=mean(lambda cost: cost.seconds),
        training=mean(lambda cost: cost.longest),
        processor=1000 * mean(lambda cost: cost.processor) / per_round,
        weights_sha256=sha256(weights),
        equals_simulation=sha256(weights) == sha256(alone),
    )


def _trained(setup: Setup, clients: Trainers, weights: Floats, observer: Observer) -> Floats:
    """The weights after all rounds."""
    for done in rounds(setup.strategy, setup.task, clients, weights):
        weights = done.weights
        observer.advance()
    return weights


@contextmanager
def _superlink(folder: Path) -> Iterator[SuperLinkAddress]:
    """A SuperLink on a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("flower-superlink")
    words = [str(program), "--insecure", "--isolation", "process", "--host", "127.0.0.1", "--port", str(port)]
    address = SuperLinkAddress("127.0.0.1", port, insecure=True)
    with _process(folder, "superlink", words) as process:
        for _ in range(START_TRIES):
            try:
                address.check()
            except OSError:
                try:
                    process.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
                raise SuperLinkError(f"{shlex.join(words)} ended: {_last_line(folder, 'superlink')}") from None
            break
        yield address


@contextmanager
def _gateway(folder: Path, experiment: Path, name: str, boards: int, address: SuperLinkAddress) -> Iterator[None]:
    words = [sys.executable, "-m", "tinymetafed", "gateway", str(experiment), "--device", f"native:{boards}"]
    with _process(folder, name, [*words, "--superlink", str(address), "--insecure", "--name", name]):
        yield


@contextmanager
def _process(folder: Path, name: str, words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this measurement, which is ended with it."""
    quiet = os.environ | {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    with (folder / f"{name}.log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log, env=quiet) as process:
        try:
            yield process
        finally:
            process.terminate()


def _last_line(folder: Path, name: str) -> str:
    return (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
