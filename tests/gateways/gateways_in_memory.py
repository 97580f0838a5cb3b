"""Gateways in this process, whose boards are simulated, and a backhaul that calls them; a test may break any of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from small_runs import SINE, sine

from tinymetafed.federation.clients import DeviceFacts, Served, Traffic, Trainers
from tinymetafed.federation.rounds import Round, rounds
from tinymetafed.gateways.backhaul import BackhaulTraffic, Reply
from tinymetafed.gateways.gateway import Gateway
from tinymetafed.gateways.gateway_clients import GatewayClients
from tinymetafed.gateways.terms import Terms
from tinymetafed.learn.codecs.delta import Sparse
from tinymetafed.learn.codecs.downlink import Segment
from tinymetafed.learn.weights import Floats, initial
from tinymetafed.runs.setup import Setup, set_up
from tinymetafed.simulation.kernels import ClientKernels, open_kernels
from tinymetafed.simulation.simulated_clients import SimulatedClients

ROUNDS, CLIENTS = 4, 12


@cache
def setup(*overrides: str) -> Setup:
    """The sine example, short and with ``overrides``."""
    return set_up(sine(f"run.rounds={ROUNDS}", f"run.devices_per_round={CLIENTS}", *overrides), str(SINE), None)


@cache
def kernels() -> ClientKernels:
    return open_kernels(setup().design, 1)


def first(made: Setup) -> Floats:
    return initial(made.design.manifest, made.experiment.run.seed, made.experiment.model.init)


def trained(made: Setup, clients: Trainers, boards: Sequence[bytes] | None = None) -> list[Round]:
    """All rounds of a set-up."""
    return list(rounds(made.strategy, made.task, clients, first(made), boards=boards))


def simulated(made: Setup) -> list[Round]:
    """All rounds in one simulation."""
    return trained(made, SimulatedClients(kernels(), made.strategy, made.task))


class SimulatedBoards:
    """Boards (gateway.Boards) with unique ids; the simulation does their work. ``alter`` may change what comes of it."""

    def __init__(self, made: Setup, ids: Iterable[int]) -> None:
        self._clients = SimulatedClients(kernels(), made.strategy, made.task)
        self.devices = [DeviceFacts(f"native#{place}", "native", f"{id_:016x}", 512) for place, id_ in enumerate(ids, 1)]
        self.alter: Callable[[list[Served[Sparse]]], list[Served[Sparse]]] = lambda served: served
        self.excluded: dict[str, str] = {}
        self.dropped: set[str] = set()
        self.orders: list[list[int]] = []

    @property
    def traffic(self) -> Traffic:
        return self._clients.traffic

    def exclude(self, board: str, why: str) -> None:
        self.excluded[board] = why

    def readmit(self, board: str) -> None:
        del self.excluded[board]

    def readmit_all(self) -> None:
        self.excluded.clear()
        self.dropped.clear()

    def train_some(
        self,
        download: list[Segment],
        weights: Floats,
        clients: Sequence[int],
        round_: int,
        boards: Mapping[int, bytes] | None,
        of: int,
    ) -> list[Served[Sparse]]:
        self.orders.append(list(clients))
        served = self._clients.train(weights, clients, round_)
        unused = self.excluded.keys() | self.dropped
        usable = [device for device in self.devices if device.unique_id not in unused]
        by_id = {bytes.fromhex(device.unique_id): device for device in self.devices}
        at = [usable[i % len(usable)] if boards is None else by_id[boards[client]] for i, client in enumerate(clients)]
        return self.alter([Served(each.outcome, device.url, False, "") for each, device in zip(served, at, strict=True)])


@dataclass
class InMemory:
    """A backhaul (backhaul.Backhaul) whose clock advances when it is waited for.

    ``silent``: gateways that take messages and never answer. ``dies``: gateways that are gone once they have taken so many
    messages, of which the first asks them to join. ``unreachable``: gateways that seem to be there, to which no message gets
    through. ``change``: what becomes of an answer on its way.
    """

    gateways: dict[int, Gateway]
    silent: set[int] = field(default_factory=set)
    dies: dict[int, int] = field(default_factory=dict)
    unreachable: set[int] = field(default_factory=set)
    change: Callable[[int, bytes], bytes] = lambda number, content: content
    clock: float = 0.0
    traffic: BackhaulTraffic = field(default_factory=BackhaulTraffic)
    sent: list[tuple[int, bytes]] = field(default_factory=list)
    _answers: dict[str, bytes] = field(default_factory=dict)

    def present(self) -> frozenset[int]:
        return frozenset(self.gateways)

    def send(self, gateway: int, content: bytes) -> str:
        message = str(len(self.sent))
        self.sent.append((gateway, content))
        before = self.traffic
        self.traffic = BackhaulTraffic(before.down + len(content), before.up, before.messages + 1)
        if [each for each, _ in self.sent].count(gateway) == self.dies.get(gateway):
            self.gateways.pop(gateway)
        if gateway in self.gateways and gateway not in self.silent:
            self._answers[message] = self.change(gateway, self.gateways[gateway].answer(content))
        return message

    def replies(self, waiting: Collection[str]) -> list[Reply]:
        lost = [message for message in waiting if self.sent[int(message)][0] in self.unreachable]
        if lost:
            return [Reply(message, None, "node unavailable") for message in lost]
        found = [Reply(message, self._answers.pop(message)) for message in waiting if message in self._answers]
        up = sum(len(reply.content or b"") for reply in found)
        self.traffic = BackhaulTraffic(self.traffic.down, self.traffic.up + up, self.traffic.messages)
        return found

    def wait(self, waited: float) -> None:
        self.clock += 0.5

    def now(self) -> float:
        return self.clock


def terms(made: Setup) -> Terms:
    return Terms.of(made.design, made.task, "1.0")


def gateway(made: Setup, name: str, boards: int = 4, ids_from: int = 0, said: list[str] | None = None) -> Gateway:
    """A gateway with so many boards; their ids begin at ``ids_from``, by default one for each name."""
    begin = ids_from or int.from_bytes(name.encode()[-4:]) << 8
    on_event = (lambda line: None) if said is None else said.append
    boards_ = SimulatedBoards(made, range(begin, begin + boards))
    return Gateway(name, boards_, made.strategy, terms(made), on_event)


@dataclass
class Site:
    """A server and its gateways; ``said`` are the server's events."""

    made: Setup
    backhaul: InMemory
    clients: GatewayClients
    said: list[str]

    @classmethod
    def of(cls, made: Setup, *gateways: Gateway) -> Site:
        backhaul, said = InMemory(dict(enumerate(gateways, 1))), list[str]()
        return cls(made, backhaul, GatewayClients(backhaul, made.strategy, terms(made), said.append), said)

    def boards(self, number: int) -> SimulatedBoards:
        boards = self.backhaul.gateways[number].clients
        assert isinstance(boards, SimulatedBoards)
        return boards


def site(*boards: int, keys: tuple[str, ...] = ()) -> Site:
    """A server, and gateways lab0, lab1 … with so many boards."""
    made = setup(*keys)
    return Site.of(made, *(gateway(made, f"lab{place}", count) for place, count in enumerate(boards)))
