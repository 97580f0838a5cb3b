"""Measures fleets of boards that run on this machine, and what host and server take; compares with the plan's formulas."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, partial
from itertools import islice
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from tinymetafed_codegen import __version__, spec
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.section import StrictJson
from tinymetafed_codegen.spec import Experiment

from ...devices.device import Device
from ...devices.device_clients import DeviceClients
from ...devices.fleet import Fleet
from ...devices.launch import processor_cores
from ...devices.link.faults import paced
from ...devices.running import running
from ...federation.observer import Observer
from ...federation.rounds import rounds
from ...learn.weights import initial
from ...runs.estimate import BITS_PER_BYTE
from ...runs.setup import Setup, set_up
from .federation_plan import combined
from .host_cost import HostCost, ServerCost
from .plan_line import Line
from .round_count import simulated
from .server_bench import server_cost

COMMITTED = Path(__file__).with_name("measured.json")
KINDS = ("qemu", "native")
WARM_UP = 2  # rounds
LARGER = '[{op = "dense", units = 96, activation = "relu"}, {op = "dense", units = 96, activation = "relu"}, '
COUNTED_ROUNDS = 3
CALIBRATING = 3  # times as many rounds of the fleets that others are predicted from
BUSY = 0.5  # load average by core from which other work disturbs


@dataclass(frozen=True)
class FleetReading(StrictJson):
    """Rounds of a fleet in which every board trains a client: seconds, measured (median) and predicted.

    ``host`` and ``board``: processor seconds of the host and of the board's process, by client and round; those of a board are
    0 where its process may sleep instead of compute (on a paced line). ``load``: the machine's load average afterwards.
    """

    boards: int
    rounds: int
    seconds: float
    predicted: float
    host: float
    board: float
    load: float

    @property
    def deviation(self) -> float:
        """By what share the prediction is too high."""
        return self.predicted / self.seconds - 1


@dataclass(frozen=True)
class FleetMeasurement(StrictJson):
    """What `bench fleet` has measured on a machine, of which `plan` takes the costs.

    ``host``: on lines as fast as this machine; ``host_at_serial``: on lines at 115,200 baud, whose bytes come one by one.
    ``kind`` and ``line`` are those of the ``fleets``. They are predicted from the fleet ``calibrated_on``: its processor times
    by client, and ``factor``, from the formula to its time. ``load``: the machine's load average before all that, which is
    other work.
    """

    machine: str
    cores: int
    versions: dict[str, str]
    date: str
    command: str
    experiment: str
    host: HostCost
    host_at_serial: HostCost
    server: ServerCost
    kind: str
    line: Line | None
    calibrated_on: FleetReading
    factor: float
    load: float
    fleets: tuple[FleetReading, ...]

    @property
    def basis(self) -> str:
        """On which machine, when and by which command the figures were measured."""
        return f"{self.machine}, {self.cores} cores, {self.date}, {self.command}"

    def host_on(self, line: Line) -> HostCost:
        """What a host takes whose boards have this line."""
        return self.host_at_serial if line.bytes_per_second < SLOW_BYTES_PER_SECOND else self.host


SERIAL = Line("serial", 11520.0, 0.016, "paced", False)
SLOW_BYTES_PER_SECOND = 50_000.0  # slower lines hand over bytes in many small pieces


def predicted(boards: int, on_line: float, host: float, board: float, cores: int) -> float:
    """Seconds of a round of a fleet whose boards are processes of one machine.

    Args:
        boards: Each trains one client.
        on_line: Seconds that a board waits for its line, whatever else there is.
        host: Processor seconds of the host by client, which one core at a time can do.
        board: Processor seconds of a board by client.
        cores: Of the machine.
    """
    # The last board may end alone: then what it does comes after an equal share of the rest for every core (Graham 1969).
    alone = (host + board) * (1 - 1 / cores)
    return combined(on_line, boards * host, boards * (host + board) / cores) + alone


def measure(
    boards: Sequence[int],
    kind: str,
    line: Line | None,
    calibrate: int,
    count: int,
    command: str,
    observer: Observer,
) -> FleetMeasurement:
    """Measures host, server and fleets.

    Args:
        boards: Sizes of the fleets.
        kind: "qemu" or "native".
        line: The line that every board is slowed down to; None for none.
        calibrate: Boards of the fleet that the others are predicted from.
        count: Rounds of each fleet.
        command: The command that asked for it.
        observer: Is told of each fleet.

    Raises:
        Error: UsageError, BuildError, LaunchError, LinkError.
    """
    _check(boards, kind, calibrate, count)
    load = os.getloadavg()[0]
    if load > BUSY * processor_cores():
        observer.event(
            f"load average {load:.1f}: other work makes times longer; measure when this machine has nothing else to do"
        )
    small, large = example(), example(larger=True)
    rounds_of = {name: simulated(_setup(each, 2), COUNTED_ROUNDS)[0] for name, each in (("small", small), ("large", large))}
    observer.stage("measuring fleets", 5 + len(boards))

    def cost(paced_by: Line | None) -> HostCost:
        points = []
        for name, each in (("small", small), ("large", large)):
            reading = _fleet(each, "native", calibrate, paced_by, count, observer)
            observer.advance()
            points.append((rounds_of[name].requests, reading.host))
        return HostCost.through(points[0], points[1])

    host, at_serial = cost(None), cost(SERIAL)
    server = server_cost(partial(_setup, small), partial(_setup, large))
    base = _fleet(small, kind, calibrate, line, CALIBRATING * count, observer)
    observer.advance()
    on_line = sum(rounds_of["small"].on_line(line)) if line else 0.0
    factor = base.seconds / predicted(calibrate, on_line, base.host, base.board, processor_cores())
    readings = []
    for size in boards:
        found = base if size == calibrate else _fleet(small, kind, size, line, count, observer)
        forecast = factor * predicted(size, on_line, base.host, base.board, processor_cores())
        readings.append(replace(found, predicted=forecast))
        observer.advance()
    return FleetMeasurement(
        machine=machine(),
        cores=processor_cores(),
        versions={"tinymetafed": __version__, "python": platform.python_version(), "numpy": np.__version__},
        date=date.today().isoformat(),
        command=command,
        experiment="examples/sine.toml",
        host=host,
        host_at_serial=at_serial,
        server=server,
        kind=kind,
        line=line,
        calibrated_on=base,
        factor=factor,
        load=load,
        fleets=tuple(readings),
    )


def _check(boards: Sequence[int], kind: str, calibrate: int, count: int) -> None:
    if kind not in KINDS:
        raise UsageError(f"--kind {kind}: expected {' or '.join(KINDS)}; boards on ports are not processes of this machine")
    for option, number in (*(("--boards", each) for each in boards), ("--calibrate", calibrate), ("--rounds", count)):
        if number < 1:
            raise UsageError(f"{option} {number}: expected at least 1")
    if not boards:
        raise UsageError("--boards: expected numbers of boards, such as 4,16,64,100")
    if not Path("/proc/self/stat").exists():
        raise UsageError(
            "bench fleet reads processor times of boards from /proc, which only Linux has; `plan` does not need it"
        )


def example(*, larger: bool = False) -> Experiment:
    """The example with sine waves; ``larger`` with nine times as many weights, so with more messages in a round."""
    changes = [f'model.layers={LARGER}{{op = "dense", units = 1, local = true}}]'] if larger else []
    return spec.load(find("examples") / "sine.toml", changes)


def _setup(experiment: Experiment, clients: int) -> Setup:
    run = experiment.run.model_copy(update={"devices_per_round": clients, "rounds": 1_000_000})
    return set_up(experiment.model_copy(update={"run": run}), "examples/sine.toml", None)


def _fleet(experiment: Experiment, kind: str, boards: int, line: Line | None, count: int, observer: Observer) -> FleetReading:
    """Starts a fleet and trains some rounds."""
    setup = _setup(experiment, boards)
    faults = None if line is None else paced(round(line.bytes_per_second * BITS_PER_BYTE), line.turn_around_seconds)
    with running(setup.design, [f"{kind}:{boards}"], _Quieter(observer), faults=faults) as fleet:
        clients = DeviceClients(fleet, setup.strategy, setup.task)
        first = initial(setup.design.manifest, setup.experiment.run.seed, setup.experiment.model.init)
        running_rounds = rounds(setup.strategy, setup.task, clients, first)
        for _ in islice(running_rounds, WARM_UP):
            pass
        host, board = time.process_time(), _processor(fleet)
        seconds = [each.seconds for each in islice(running_rounds, count)]
        host, board = time.process_time() - host, _processor(fleet) - board
    typical = statistics.median(seconds)
    each = count * boards
    return FleetReading(boards, count, typical, typical, host / each, board / each, os.getloadavg()[0])


class _Quieter:
    """Hands on events alone, so that the stage of the whole measurement stays."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def event(self, text: str) -> None:
        """As the observer."""
        self._observer.event(text)

    def stage(self, text: str, total: int = 0) -> None:
        """Nothing."""

    def advance(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


def _processor(fleet: Fleet) -> float:
    """Processor seconds of all boards' processes so far."""
    return sum(_of_process(device) for device in fleet.devices)


def _of_process(device: Device) -> float:
    assert device.process is not None
    fields = Path(f"/proc/{device.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime


def machine() -> str:
    """This machine's processor."""
    facts = Path("/proc/cpuinfo")
    models = [line for line in facts.read_text().splitlines() if line.startswith("model name")] if facts.exists() else []
    return models[0].partition(":")[2].strip() if models else f"{platform.machine()}, {sys.platform}"


def read(path: Path) -> FleetMeasurement:
    """Figures that `bench fleet` wrote. Raises UsageError."""
    try:
        return TypeAdapter(FleetMeasurement).validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--measured {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"--measured {path}: {where}: {first['msg']}; write it with `tinymetafed bench fleet --json > FILE`"
        ) from None


@cache
def committed() -> FleetMeasurement:
    """The figures of the machine of the project."""
    return read(COMMITTED)
