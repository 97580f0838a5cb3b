"""What `bench board` measures on a connected board: time per training step, rates of the line, round trips, predictions."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.memory import work
from tinymetafed_codegen.optional_messages.store_messages import StoreState
from tinymetafed_codegen.protocol import Hello, Phase, Program, Progress, Recipe, SampleSet
from tinymetafed_codegen.spec import Experiment

from ..devices.device import Device
from ..devices.device_urls import parse
from ..devices.link.session import Session
from ..devices.running import running
from ..federation.observer import Observer
from ..learn.codecs.downlink import Segment
from ..learn.strategies import open_strategy
from ..learn.weights import initial
from ..runs.run_figures import versions
from ..runs.setup import design_of
from . import BenchError, synthetic_samples
from .kernel_cost import VARIANTS

FIRST_STEPS = 8  # from which the number of steps that take STEP_SECONDS is computed
MOST_STEPS = 20_000
STEP_SECONDS = 1.0  # of training in one measurement
LINE_BYTES = 16_384  # sent in each direction, at least
ROUND_TRIPS = 30
LEARNING_RATE = 1e-6  # so small that no model diverges in MOST_STEPS steps on the same few samples
REPEATS = 3
BOARD_CLOCK = "the board's clock"
EMULATOR_CLOCK = "the emulator's clock, which shows the speed of this machine and not of a chip"
PROCESS_CLOCK = "this machine's clock, in a process of this machine"
HOST_CLOCK = "the host's clock, because the board's does not run; streamed samples add their time on the line"
NO_MEASUREMENTS = "the firmware does not measure it: set board.measures = true in the experiment, and flash it again"
NO_STORE = "the firmware writes no flash: set board.store = true in the experiment, and flash it again"
STORE_IN_USE = "the board's store is in use, and a measurement would replace what it holds"
NO_FIGURE = "this board cannot measure it"


@dataclass(frozen=True)
class StepTime:
    """Microseconds per training step of one variant: the median and the extremes of several measurements of ``steps`` steps.

    ``cycles_per_mac`` is the median in cycles of the chip for each multiply-accumulate; None unless the board is real and its
    file has the clock.
    """

    us: float
    us_least: float
    us_most: float
    steps: int
    cycles_per_mac: float | None


@dataclass(frozen=True)
class BoardSpeed:
    """What was measured on one board, without what identifies it.

    ``clock`` says whose clock the times per step are from. ``line_down`` and ``line_up`` are bytes per second on the wire while
    weights are sent and read, ``round_trip_ms`` is the median of the shortest request, ``predict_ms`` that of one prediction;
    these times are the host's and include the line. The board says the rest of itself: ``ram_high_water_bytes`` are static data
    and the deepest stack since the start, ``flash_write_us`` is the mean time of writing four bytes of flash,
    ``flash_erase_ms`` that of erasing a page, ``volts`` the chip's supply. ``not_measured`` has a reason for each that is None.
    """

    board: str
    real: bool
    model: str
    model_hash: str
    clock: str
    steps: dict[str, StepTime]
    line_down: float
    line_up: float
    round_trip_ms: float
    predict_ms: float
    retries: int
    ram_high_water_bytes: int | None
    flash_write_us: float | None
    flash_erase_ms: float | None
    volts: float | None
    not_measured: dict[str, str]
    versions: dict[str, str]

    def write(self, file: Path) -> None:
        """Writes the figures as JSON. Raises BenchError if the file cannot be written."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise BenchError(f"{file}: cannot be written: {error.strerror or error}; name another file") from None


def measure(experiment: Experiment, source: str, url: str, observer: Observer) -> BoardSpeed:
    """Measures the board at a device URL, which holds the firmware of the experiment; an emulated board gets it.

    Args:
        experiment: The experiment.
        source: Its name.
        url: One device: a port, ``native:1``, ``qemu:1``, ``qemu:1@rv32``.
        observer: Is told of progress.

    Returns:
        The figures.

    Raises:
        UsageError: The URL names several devices.
        Error: BuildError, SpecError, LaunchError or LinkError; WrongFirmware has the command that flashes the right one.
    """
    designed = design_of(experiment, source)
    (spec,) = parse([url], designed.boards)
    if spec.board is not None and designed.boards.load(spec.board).measures:  # a process, whose firmware is built now
        measuring = experiment.board.model_copy(update={"measures": True})
        designed = design_of(experiment.model_copy(update={"board": measuring}), source)
    if spec.count != 1:
        raise UsageError(f"device '{url}': {spec.count} devices; measure one at a time, for instance {spec.kind}:1")
    with running(designed, [url], observer) as fleet:
        (device,) = fleet.devices
        return of_device(designed.on(designed.boards.named(device.board)), source, device, observer)


def of_device(design: Design, source: str, device: Device, observer: Observer) -> BoardSpeed:
    """Like ``measure``, for a device that is connected and holds the firmware of ``design``."""
    session, manifest, experiment = device.session, design.manifest, design.experiment
    strategy = open_strategy(experiment, manifest)
    weights = strategy.download(initial(manifest, experiment.run.seed, experiment.model.init))
    observer.stage(f"training steps on {device.url}", len(VARIANTS))
    steps: dict[str, StepTime] = {}
    runs_clock = True
    for variant in VARIANTS:
        phase = Phase(variant, SampleSet.SUPPORT, FIRST_STEPS, 1, LEARNING_RATE, experiment.strategy.output_clamp)
        times, count, by_board = _step_times(session, manifest, weights, phase, device.hello.ticks_per_second)
        runs_clock = runs_clock and by_board
        macs = work.multiply_accumulates(design.graph, variant)
        steps[variant.name.lower()] = _step_time(times, count, _cycles_per_mac(design.board, macs))
        observer.advance()
    observer.stage(f"the line of {device.url}")
    before = session.traffic.retries
    down = _rate(session, lambda: session.load(session.next_token(), weights), lambda: session.traffic.down)
    up = _rate(session, lambda: session.fetch(0, manifest.n_parameters), lambda: session.traffic.up)
    trip = _median(session, lambda: session.request(Hello()))
    inputs = np.zeros((1, *manifest.input_shape), np.float32)
    if manifest.streamed:
        inputs = np.zeros((1, *manifest.input_shape), np.uint8)  # as most streamed samples are sent
    predict = _median(session, lambda: session.predict(inputs, manifest.output_size))
    own, not_measured = _own_figures(session, manifest, device.hello.ticks_per_second)
    return BoardSpeed(
        board=device.board,
        real=design.board.real,
        model=Path(source).name,
        model_hash=manifest.model_hash,
        clock=_clock(design.board) if runs_clock else HOST_CLOCK,
        steps=steps,
        line_down=round(down),
        line_up=round(up),
        round_trip_ms=round(1000 * trip, 3),
        predict_ms=round(1000 * predict, 3),
        retries=session.traffic.retries - before,
        ram_high_water_bytes=own.ram_high_water_bytes,
        flash_write_us=own.flash_write_us,
        flash_erase_ms=own.flash_erase_ms,
        volts=own.volts,
        not_measured=not_measured,
        versions=versions(),
    )


@dataclass(frozen=True)
class _OwnFigures:
    """What the board says of itself; None where it is not known. The names are those of ``BoardSpeed``."""

    ram_high_water_bytes: int | None = None
    flash_write_us: float | None = None
    flash_erase_ms: float | None = None
    volts: float | None = None


def _own_figures(session: Session, manifest: ModelManifest, ticks_per_second: int) -> tuple[_OwnFigures, dict[str, str]]:
    """The board's own figures, and a reason for each that is missing."""
    names = [field.name for field in dataclasses.fields(_OwnFigures)]
    if session.measurements() is None:
        return _OwnFigures(), dict.fromkeys(names, NO_MEASUREMENTS)
    reason = NO_STORE
    if (contents := session.look()) is not None:
        reason = NO_FIGURE if contents.state in (StoreState.EMPTY, StoreState.MISSING) else STORE_IN_USE
        if contents.state == StoreState.EMPTY:
            session.keep()
    told = session.measurements()
    assert told is not None
    figures = _OwnFigures(
        ram_high_water_bytes=manifest.memory.ram_static + told.stack_bytes if told.stack_bytes else None,
        flash_write_us=_each(told.program_ticks, 4e6, ticks_per_second, told.programmed),
        flash_erase_ms=_each(told.erase_ticks, 1e3, ticks_per_second, told.erased),
        volts=told.millivolts / 1000 if told.millivolts else None,
    )
    missing = [name for name in names if getattr(figures, name) is None]
    return figures, {name: reason if name.startswith("flash") else NO_FIGURE for name in missing}


def _each(ticks: int, units: float, ticks_per_second: int, count: int) -> float | None:
    """The time of each of ``count``, in units of which a second has ``units``; None without any, or without a clock."""
    return round(units * (ticks / ticks_per_second) / count, 3) if count and ticks_per_second else None


def _clock(board: Board) -> str:
    return BOARD_CLOCK if board.real else PROCESS_CLOCK if board.emulator is None else EMULATOR_CLOCK


def _cycles_per_mac(board: Board, macs: int) -> float | None:
    """Cycles per multiply-accumulate for each microsecond of a training step; None without a real chip's clock."""
    return None if board.estimates is None or not macs else board.estimates.clock_hz / 1e6 / macs


def _step_time(times: list[float], count: int, cycles: float | None) -> StepTime:
    middle = statistics.median(times)
    per_mac = None if cycles is None else round(middle * cycles, 2)
    return StepTime(round(middle, 2), round(min(times), 2), round(max(times), 2), count, per_mac)


def _step_times(
    session: Session, manifest: ModelManifest, weights: list[Segment], phase: Phase, ticks_per_second: int
) -> tuple[list[float], int, bool]:
    """Microseconds per step in each measurement, steps of one, and whether the board's own clock gave them."""
    first = _timed(session, manifest, weights, phase, ticks_per_second)
    each = (first.by_board or first.by_host) / FIRST_STEPS
    count = int(min(max(STEP_SECONDS / max(each, 1e-9), FIRST_STEPS), MOST_STEPS))
    longer = dataclasses.replace(phase, count=count)
    timed = [_timed(session, manifest, weights, longer, ticks_per_second) for _ in range(REPEATS)]
    # The first steps may be shorter than a tick; of so many, none is counted only where the clock does not run.
    if all(times.by_board > 0 for times in timed):
        return [1e6 * times.by_board / count for times in timed], count, True
    return [_us_by_host(first.by_host, times.by_host, count) for times in timed], count, False


def _us_by_host(first: float, longer: float, count: int) -> float:
    """Microseconds per step from the host's times of FIRST_STEPS and of ``count`` steps.

    The time of the messages is in both, and not in their difference. Where the host was so busy that there is none, it is the
    longer time alone, which is rather too high.
    """
    if longer > first and count > FIRST_STEPS:
        return 1e6 * (longer - first) / (count - FIRST_STEPS)
    return 1e6 * longer / count


@dataclass(frozen=True)
class _Timed:
    """Seconds of one program by the board's clock, 0 if it does not run, and by the host's."""

    by_board: float
    by_host: float


def _timed(session: Session, manifest: ModelManifest, weights: list[Segment], phase: Phase, ticks_per_second: int) -> _Timed:
    session.configure(Program.ADAPT, Recipe((phase,)))
    token = session.next_token()
    session.load(token, weights)
    began = session.clock.monotonic()
    session.train(token, Program.ADAPT, 1, 0, 0)
    progress = _finish(session, manifest, token, phase.count)
    by_board = progress.ticks / ticks_per_second if ticks_per_second else 0.0
    return _Timed(by_board, session.clock.monotonic() - began)


def _finish(session: Session, manifest: ModelManifest, token: int, count: int) -> Progress:
    if not manifest.streamed:
        return session.await_done(token, count)
    few = synthetic_samples(manifest, min(count, FIRST_STEPS))
    return session.stream(token, (few[step % len(few)] for step in range(count)))


def _rate(session: Session, transfer: Callable[[], object], moved: Callable[[], int]) -> float:
    """Bytes per second on the wire of a transfer that is repeated until LINE_BYTES have moved."""
    transfer()  # the first one measures how long the device takes to answer
    began, before = session.clock.monotonic(), moved()
    while moved() - before < LINE_BYTES:
        transfer()
    return (moved() - before) / max(session.clock.monotonic() - began, 1e-9)


def _median(session: Session, ask: Callable[[], object]) -> float:
    """Median of the seconds that a request takes."""
    found = []
    for _ in range(ROUND_TRIPS):
        began = session.clock.monotonic()
        ask()
        found.append(session.clock.monotonic() - began)
    return statistics.median(found)
