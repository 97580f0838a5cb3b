"""A soak test: many boards of mixed kinds that restart and are replugged, on damaged lines; nothing may be lost or grow."""

from __future__ import annotations

import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tinymetafed_codegen.board import boards
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.spec import Experiment
from tinymetafed_codegen.temporary import temporary_folder

from ..devices.device import Device
from ..devices.device_clients import DeviceClients
from ..devices.device_urls import DEFAULT_BOARDS, parse
from ..devices.launch import launch
from ..devices.link.faults import FaultPlan, Rates
from ..devices.link.link_errors import LaunchError, LinkError
from ..devices.running import build_firmware, running
from ..devices.serial_port import UsbBus
from ..federation.observer import Observer
from ..federation.rounds import Round, rounds
from ..learn.weights import Floats, initial, sha256
from ..runs.setup import Setup, design_of, set_up
from ..simulation.kernels import open_kernels
from ..simulation.simulated_clients import SimulatedClients
from .cables import Cable, Cables

DAMAGED = 0.01  # share of frames, in both directions
DISTURBED_SECONDS = 120.0  # on average between two disturbances of one board
UNPLUGGED_SECONDS = 2.0
READINGS = 60  # of memory and descriptors, over the whole time
START_SECONDS = 60.0
MOST_ROUNDS = 10_000_000  # more than a test ever reaches
# What may grow from the first third of the time to the last. Some memory is filled once: each thread's stack to its depth, each
# thread's cache of freed blocks, and in each of the C library's arenas room for what is done at once when boards come back. A
# leak has no end: in half an hour with 100 boards, of which each is disturbed every two minutes, 7 KB for each lost line, or
# 800 bytes for each of 6,700 rounds, are more.
FILLED_BYTES = 1_000_000
FILLED_BYTES_PER_BOARD = 20_000
GROWTH_BYTES_PER_HOUR = 1_000_000  # the heap's fragments; so a week of training takes less than 200 MB
MORE_DESCRIPTORS = 10  # those of two boards that are on their way back


@dataclass(frozen=True)
class Reading:
    """The state of this process at a time: resident memory in bytes, open descriptors, threads, and rounds so far."""

    seconds: float
    rounds: int
    memory: int
    descriptors: int
    threads: int

    @property
    def in_short(self) -> str:
        """It as a note of progress."""
        return f"{self.seconds:,.0f} s, {self.rounds:,} rounds: {self.memory / 1e6:.1f} MB, {self.descriptors:,} descriptors"


@dataclass(frozen=True)
class Soak:
    """What a soak test has shown.

    ``skipped``: contributions that were lost. ``redone``: those that another attempt brought. ``repeats``: frames sent
    again. ``weights_sha256``: after the last round; ``undisturbed_sha256``: the same of a simulation of so many rounds.
    """

    devices: tuple[str, ...]
    boards: int
    seconds: float
    rounds: int
    skipped: int
    redone: int
    repeats: int
    restarts: int
    replugs: int
    weights_sha256: str
    undisturbed_sha256: str
    readings: tuple[Reading, ...]

    @property
    def nothing_lost(self) -> bool:
        """Whether no contribution was lost, and the weights are those of the undisturbed simulation."""
        return not self.skipped and self.weights_sha256 == self.undisturbed_sha256

    @property
    def memory_growth(self) -> int:
        """Bytes by which memory grew from the first third of the time to the last, by medians."""
        return round(self._growth(lambda each: each.memory))

    @property
    def memory_growth_per_hour(self) -> int:
        """The same in bytes per hour; in a short test mostly what is filled once."""
        hours = self._growth_seconds / 3600
        return round(self.memory_growth / hours) if hours else 0

    @property
    def most_memory_growth(self) -> int:
        """Bytes by which memory may grow: what is filled once, and a little per hour."""
        hours = self._growth_seconds / 3600
        return round(FILLED_BYTES + FILLED_BYTES_PER_BOARD * self.boards + GROWTH_BYTES_PER_HOUR * hours)

    @property
    def descriptor_growth(self) -> int:
        """Open descriptors more in the last third of the time than in the first, by medians."""
        return round(self._growth(lambda each: each.descriptors))

    @property
    def is_flat(self) -> bool:
        """Whether memory and descriptors did not grow beyond what they may."""
        return self.memory_growth <= self.most_memory_growth and self.descriptor_growth <= MORE_DESCRIPTORS

    @property
    def _growth_seconds(self) -> float:
        """Seconds between the middles of the first third and the last."""
        return self._growth(lambda each: each.seconds)

    def _growth(self, of: Callable[[Reading], float]) -> float:
        """By how much something grew from the first third of the readings to the last, by medians; 0 without readings."""
        third = len(self.readings) // 3
        early, late = ([of(each) for each in part] for part in (self.readings[:third], self.readings[-third:]))
        return statistics.median(late) - statistics.median(early) if third else 0.0


def soak(
    experiment: Experiment,
    source: str,
    urls: Sequence[str],
    seconds: float,
    observer: Observer,
    *,
    disturbed_seconds: float = DISTURBED_SECONDS,
    seed: int = 1,
) -> Soak:
    """Trains on boards behind USB cables of which each is now and then pulled, or its board restarted.

    A board that is plugged in again has another port name. Each board is a process; its cable is a pseudo-terminal.

    Args:
        experiment: What is trained, whatever its ``run.rounds``.
        source: Its name.
        urls: Processes to start, such as "native:90" and "qemu:10".
        seconds: How long.
        observer: Is told of each reading.
        disturbed_seconds: On average between two disturbances of one board.
        seed: Of the disturbances and of the faults on the lines.

    Returns:
        What was lost, and how memory and descriptors developed.

    Raises:
        Error: UsageError for other devices; BuildError, LaunchError or LinkError.
    """
    endless = experiment.run.model_copy(update={"rounds": MOST_ROUNDS})
    experiment = experiment.model_copy(update={"run": endless})
    _require_comparable(experiment, source)
    setup = set_up(experiment, source, None)
    design = design_of(experiment, source)
    specs = parse(urls)
    if any(spec.kind not in DEFAULT_BOARDS for spec in specs):
        raise UsageError(f"{', '.join(urls)}: a soak test restarts its boards; give processes such as native:90 or qemu:10")
    programs = {spec.board: build_firmware(design, spec.board).program for spec in specs if spec.board is not None}
    faults = FaultPlan(Rates(flip=DAMAGED), Rates(flip=DAMAGED), seed=seed)
    with (
        temporary_folder("bench") as folder,
        Cables() as cables,
        launch(specs, programs.__getitem__) as devices,
    ):
        plugs = [_Plug(device, cables.add(), folder / f"ttyACM{n}") for n, device in enumerate(devices)]
        names = [str(plug.name) for plug in plugs]
        with running(design, names, observer, faults=faults, bus=UsbBus(cables.ports)) as fleet:
            clients = DeviceClients(fleet, setup.strategy, setup.task)
            with _disturbing(plugs, disturbed_seconds, seed) as counts:
                done, readings, tally = _train(setup, clients, seconds, observer)
    return Soak(
        devices=tuple(urls),
        boards=len(devices),
        seconds=readings[-1].seconds,
        rounds=done.index + 1,
        skipped=tally["skipped"],
        redone=tally["redone"],
        repeats=tally["repeats"],
        restarts=counts["restarts"],
        replugs=counts["replugs"],
        weights_sha256=sha256(done.weights),
        undisturbed_sha256=sha256(_undisturbed(setup, done.index + 1).weights),
        readings=tuple(readings),
    )


def _require_comparable(experiment: Experiment, source: str) -> None:
    """Raises UsageError for an experiment whose boards cannot be asked by their ports alone, or whose weights differ anyway."""
    if experiment.run.is_authenticated:
        raise UsageError(
            f"{source}: run.security = 'authenticated': the boards of a soak test have no keys; --set run.security=none"
        )
    if experiment.privacy.is_private and experiment.privacy.public_seed is None:
        raise UsageError(
            f"{source}: privacy.noise is secret, so the weights are never those of a simulation; --set privacy.public_seed=1"
        )


class _Plug:
    """A board's process, its cable, and the name that its port had first."""

    def __init__(self, device: Device, cable: Cable, name: Path) -> None:
        self.device, self.cable, self.name = device, cable, name
        device.close()
        cable.connect(device.line)
        name.symlink_to(cable.plug_in())

    def restart(self) -> None:
        """Switches the board off and on; its port stays."""
        self.cable.disconnect()
        if (process := self.device.process) is not None:
            process.kill()
            process.wait()
        self.device.rejoin(START_SECONDS)
        self.device.close()
        self.cable.connect(self.device.line)

    def replug(self, unplugged: threading.Event) -> None:
        """Pulls the cable and plugs it in again; its port has another name then, as a later one has taken the old one."""
        self.cable.unplug()
        self.name.unlink(missing_ok=True)
        unplugged.wait(UNPLUGGED_SECONDS)
        self.cable.plug_in()


@contextmanager
def _disturbing(plugs: Sequence[_Plug], seconds: float, seed: int) -> Iterator[dict[str, int]]:
    """Restarts and replugs boards, each every so many seconds, in a thread; yields how often."""
    counts = {"restarts": 0, "replugs": 0}
    draw, ending = random.Random(seed), threading.Event()
    failures: list[Exception] = []

    def work() -> None:
        while not ending.wait(draw.expovariate(len(plugs) / seconds)):
            plug, restarts = draw.choice(plugs), draw.random() < 0.5
            try:
                if restarts:
                    plug.restart()
                else:
                    plug.replug(ending)
            except (LinkError, LaunchError) as error:
                failures.append(error)
                return
            counts["restarts" if restarts else "replugs"] += 1

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield counts
    finally:
        ending.set()
        thread.join()
    if failures:
        raise failures[0]


def _train(
    setup: Setup, clients: DeviceClients, seconds: float, observer: Observer
) -> tuple[Round, list[Reading], dict[str, int]]:
    """Rounds for so many seconds: the last one, readings, and counts of what happened to contributions."""
    tally = {"skipped": 0, "redone": 0, "accepted": 0, "repeats": 0}
    readings: list[Reading] = []
    began = time.monotonic()
    observer.stage("soaking", READINGS)
    for each in rounds(setup.strategy, setup.task, clients, _first(setup)):
        for part in each.contributions:
            tally[part.status] += 1
        tally["repeats"] += each.traffic.retries
        elapsed = time.monotonic() - began
        if elapsed >= len(readings) * seconds / READINGS:
            readings.append(_reading(elapsed, each.index + 1))
            observer.advance()
            observer.note(readings[-1].in_short)
        if elapsed >= seconds:
            break
    readings.append(_reading(time.monotonic() - began, each.index + 1))
    return each, readings, tally


def _undisturbed(setup: Setup, count: int) -> Round:
    """The last of so many rounds in a simulation."""
    simulated = SimulatedClients(open_kernels(setup.design, 1), setup.strategy, setup.task)
    *_, last = islice(rounds(setup.strategy, setup.task, simulated, _first(setup)), count)
    return last


def _first(setup: Setup) -> Floats:
    experiment = setup.strategy.experiment
    return initial(setup.design.manifest, experiment.run.seed, experiment.model.init)


def _reading(seconds: float, done: int) -> Reading:
    return Reading(round(seconds, 1), done, _memory(), _descriptors(), threading.active_count())


def _memory() -> int:
    """This process's resident memory in bytes; where the system does not tell, the most that it has had."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource  # on POSIX only

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def usual_devices(count: int) -> list[str]:
    """Devices for a test of ``count`` boards: a tenth emulated where that is possible here, the others native."""
    emulated = 0 if boards.missing_tools(DEFAULT_BOARDS["qemu"]) else max(1, count // 10)
    return [url for kind, n in (("native", count - emulated), ("qemu", emulated)) if n > 0 for url in (f"{kind}:{n}",)]
