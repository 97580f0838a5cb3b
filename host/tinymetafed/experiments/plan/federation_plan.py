"""The plan of a federation: what a round of so many boards takes, by formulas from counted and measured figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.section import StrictJson
from tinymetafed_codegen.spec import RunSpec

from .fleet_round import BoardWork, DeviceRound, Range
from .host_cost import HostCost, ServerCost
from .plan_line import Line

FORMS = ("forward", "pre-summed")
SHARPNESS = 2.5  # of `combined`, from fleets on slowed lines; 1 would add times up, infinity would take the longest
MESSAGE_BYTES = 64  # head, round, session and counts of a message between server and gateway
CLIENT_BYTES = 8  # of a client in a message up: which board, what became of it; its number on the way down takes less
SUM_BITS = 20  # the largest weight, as whole numbers of a pre-summed round count
SERVER_BYTES_PER_WEIGHT = 64  # weights, momentum, sums and copies of them
USB_DEVICES = 127  # addresses of one USB host controller, hubs included
MOST_CLIENTS = next(bound.le for bound in RunSpec.model_fields["devices_per_round"].metadata if hasattr(bound, "le"))
UNLIMITED = 10**9  # boards; a plan looks for limits up to here
LEFT_OUT = (
    "boards are all alike and lose nothing; without tests between rounds, without the time to start, without what carries "
    "messages between server and gateways (such as Flower), and before these messages are compressed"
)

RETURNING = (
    "; each download has all weights, and by difference a board that returns gets fewer bytes: `tinymetafed bench downlink` "
    "says how many"
)


@dataclass(frozen=True)
class Fleet(StrictJson):
    """Boards behind gateways; with 0 ``gateways`` all are on the server's own lines. A round trains ``clients`` clients."""

    boards: int
    gateways: int
    clients: int
    form: str

    def require(self) -> None:
        """Raises UsageError if a number is not possible; the text names the option."""
        if self.boards < 1:
            raise UsageError(f"--boards {self.boards}: expected at least 1")
        if not 0 <= self.gateways <= self.boards:
            raise UsageError(
                f"--gateways {self.gateways}: expected 0 (all boards at the server) to {self.boards}, a board for each at least"
            )
        if self.clients < 1:
            raise UsageError(f"--clients {self.clients}: expected at least 1")
        if self.form not in FORMS:
            raise UsageError(f"--form {self.form}: expected {' or '.join(FORMS)}")

    @property
    def hosts(self) -> int:
        """Machines with boards."""
        return max(1, self.gateways)

    @property
    def busy_gateways(self) -> int:
        """Gateways with something to do in a round."""
        return min(self.gateways, self.clients)

    @property
    def clients_per_host(self) -> int:
        """Clients of a round on the busiest machine."""
        return math.ceil(self.clients / self.hosts)

    @property
    def boards_per_host(self) -> int:
        """Boards of the machine with most of them."""
        return math.ceil(self.boards / self.hosts)


@dataclass(frozen=True)
class Rates(StrictJson):
    """What a plan starts from: the boards' round and training, lines, and processors of host and server.

    ``measured_on``: the machine of these processors, and when they were measured. ``takes_differences``: whether boards that
    return get what differs from the weights that they hold, which the counted rounds do not have.
    """

    device: DeviceRound
    work: BoardWork
    line: Line
    backhaul: Line
    server_line: Line
    host: HostCost
    server: ServerCost
    measured_on: str
    takes_differences: bool = False


@dataclass(frozen=True)
class Resource(StrictJson):
    """A resource, and for how many seconds a round needs it; (low, high)."""

    name: str
    seconds: Range


@dataclass(frozen=True)
class Limit(StrictJson):
    """What gives way from so many boards on, with the other numbers as they are, and what to do."""

    boards: int
    what: str
    remedy: str


@dataclass(frozen=True)
class FederationPlan(StrictJson):
    """What a round takes. Bytes of boards, gateways and server are (down, up) of a round; a gateway's are its backhaul's.

    ``seconds``, ``run_seconds``, ``joules`` (of a board that takes part) and ``joules_of_all`` are (low, high). ``bound``: the
    resource that takes longest. ``gateway_processor`` and ``server_processor``: seconds of one core. ``limits``: from few
    boards to many.
    """

    fleet: Fleet
    rates: Rates
    seconds: Range
    bound: str
    resources: tuple[Resource, ...]
    board_bytes: Range
    gateway_bytes: Range
    server_bytes: Range
    joules: Range
    joules_of_all: Range
    gateway_processor: float
    server_processor: float
    server_memory: float
    rounds: int
    run_seconds: Range
    limits: tuple[Limit, ...]
    left_out: str


def combined(*seconds: float) -> float:
    """The time of work that several resources do at once: the longest, and more where another takes nearly as long."""
    longest = max(seconds)
    return longest * sum((each / longest) ** SHARPNESS for each in seconds) ** (1 / SHARPNESS) if longest > 0 else 0.0


def backhaul_bytes(device: DeviceRound, clients: int, form: str) -> Range:
    """Bytes down and up of a gateway with so many clients, in a round: one message each way, not compressed."""
    down = MESSAGE_BYTES + device.weights * device.weight_bytes + 3 * clients
    if form == "pre-summed":
        width = math.ceil((SUM_BITS + 1 + math.log2(max(1, clients))) / 8)
        return float(down), float(MESSAGE_BYTES + CLIENT_BYTES * clients + width * device.weights)
    return float(down), float(MESSAGE_BYTES + clients * (CLIENT_BYTES + update_bytes(device)))


def update_bytes(device: DeviceRound) -> int:
    """Bytes of an update as a gateway hands it on: its indices as a list or bitmap, whichever is shorter, scale and values."""
    listed = device.entries * (2 if device.weights <= 1 << 16 else 4)
    indices = 0 if device.entries == device.weights else min(listed, math.ceil(device.weights / 8))
    return 2 + indices + 4 * (device.entry_bytes == 1) + device.entries * device.entry_bytes


def host_seconds(clients: int, path: float, processor: float) -> float:
    """Time of a machine's part: ``path`` of a board, in turns, and ``processor`` seconds of the machine by client."""
    return combined(path, clients * processor)


def planned(fleet: Fleet, rates: Rates, rounds: int, memory: float) -> FederationPlan:
    """Plans a federation.

    Args:
        fleet: Boards and gateways.
        rates: What the plan starts from.
        rounds: Of the whole run.
        memory: Bytes that the server has.

    Raises:
        UsageError: A number is not possible.
    """
    fleet.require()
    priced = _priced(fleet, rates, rounds)
    return replace(priced, limits=tuple(sorted(_limits(priced, memory), key=lambda limit: limit.boards)))


def _priced(fleet: Fleet, rates: Rates, rounds: int) -> FederationPlan:
    """The plan without its limits."""
    device, work, server = rates.device, rates.work, rates.server
    turns = math.ceil(fleet.clients_per_host / fleet.boards_per_host)
    low, high = device.seconds(rates.line, work.seconds)
    host = rates.host.seconds(device.requests)
    is_summed = fleet.gateways > 0 and fleet.form == "pre-summed"
    gateway_bytes = backhaul_bytes(device, fleet.clients_per_host, fleet.form) if fleet.gateways else (0.0, 0.0)
    server_bytes = gateway_bytes[0] * fleet.busy_gateways, gateway_bytes[1] * fleet.busy_gateways
    updates = fleet.busy_gateways if is_summed else fleet.clients
    entries = device.weights if is_summed else device.entries
    # Without gateways the measured processor time of a client contains its update.
    processor = updates * (server.per_update + server.per_entry * entries) + server_bytes[1] * server.unpacking
    gateway = fleet.clients_per_host * host + gateway_bytes[1] * server.packing
    server_processor = processor if fleet.gateways else 0.0
    parts = [
        Resource("the boards, their lines and training", (turns * low, turns * high)),
        Resource("a gateway's processor" if fleet.gateways else "the host's processor", (gateway, gateway)),
    ]
    if fleet.gateways:
        sent = [rates.backhaul.seconds(size) for size in gateway_bytes]
        shared = sum(server_bytes) / rates.server_line.bytes_per_second
        parts += [
            Resource("a gateway's line to the server", (sum(sent), sum(sent))),
            Resource("the server's line", (shared, shared)),
            Resource("the server's processor", (server_processor, server_processor)),
        ]
    # Messages come and go while boards train elsewhere, but the server waits for the last one, and then averages.
    after = [max(part.seconds[0] for part in parts[2:4]) + parts[4].seconds[0]] if fleet.gateways else [0.0]
    seconds = tuple(host_seconds(1, parts[0].seconds[end], gateway) + after[0] for end in (0, 1))
    # The chip's processor waits for the line with its clock on.
    joules = low * work.watts[0], high * work.watts[1]
    return FederationPlan(
        fleet=fleet,
        rates=rates,
        seconds=(seconds[0], seconds[1]),
        bound=max(parts, key=lambda part: part.seconds[1]).name,
        resources=tuple(parts),
        board_bytes=(device.bytes_down, device.bytes_up),
        gateway_bytes=gateway_bytes,
        server_bytes=server_bytes if fleet.gateways else (device.bytes_down * fleet.clients, device.bytes_up * fleet.clients),
        joules=joules,
        joules_of_all=(joules[0] * fleet.clients, joules[1] * fleet.clients),
        gateway_processor=gateway,
        server_processor=server_processor if fleet.gateways else gateway,
        server_memory=updates * entries * server.memory_per_entry + device.weights * SERVER_BYTES_PER_WEIGHT,
        rounds=rounds,
        run_seconds=(rounds * seconds[0], rounds * seconds[1]),
        limits=(),
        left_out=LEFT_OUT + RETURNING * rates.takes_differences,
    )


def _limits(plan: FederationPlan, memory: float) -> list[Limit]:
    """What gives way as boards grow: the share of boards that a round trains, gateways and rates stay as they are."""
    fleet = plan.fleet

    def grown(boards: int) -> FederationPlan:
        clients = max(1, round(boards * fleet.clients / fleet.boards))
        return _priced(replace(fleet, boards=boards, clients=clients), plan.rates, plan.rounds)

    def slower(name: str) -> Callable[[int], bool]:
        def exceeds(boards: int) -> bool:
            by_name = {part.name: part.seconds[1] for part in grown(boards).resources}
            return by_name[name] > plan.resources[0].seconds[1]

        return exceeds

    behind = "a gateway" if fleet.gateways else "the host"
    more = "more gateways, each with fewer boards" if fleet.gateways else "gateways, each with a share of the boards"
    summed = (
        "gateways that add up (--form pre-summed)" if fleet.form == "forward" else "a server for a part of the gateways each"
    )
    remedies = {
        "a gateway's processor": more,
        "the host's processor": more,
        "a gateway's line to the server": f"{summed}; or fewer clients in a round",
        "the server's line": f"{summed}; or fewer clients in a round",
        "the server's processor": f"{summed}; or fewer clients in a round",
    }
    least = fleet.hosts
    found = [
        Limit(_first(slower(part.name), least), f"{part.name} needs longer than the boards", remedies[part.name])
        for part in plan.resources[1:]
    ]
    found += [
        Limit(
            _first(lambda boards: grown(boards).fleet.boards_per_host > USB_DEVICES, least),
            f"{behind} has more boards than the {USB_DEVICES} addresses of one USB controller",
            f"a second controller, or {more}",
        ),
        Limit(
            _first(lambda boards: grown(boards).fleet.clients > MOST_CLIENTS, least),
            f"a round would train more than {MOST_CLIENTS:,} clients, the most for run.devices_per_round",
            f"--clients {MOST_CLIENTS}: each board takes part in fewer rounds",
        ),
        Limit(
            _first(lambda boards: grown(boards).server_memory > memory, least),
            f"the server needs more than {memory / 1e9:.3g} GB of memory",
            f"{summed}; or fewer clients in a round",
        ),
    ]
    return [limit for limit in found if limit.boards < UNLIMITED]


def _first(exceeds: Callable[[int], bool], least: int) -> int:
    """The smallest number of boards, ``least`` or more, that exceeds a limit which more boards exceed as well."""
    low, high = least, UNLIMITED
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if exceeds(middle) else (middle + 1, high)
    return low
