"""Cost of a training step: exact instructions from a board's emulator and estimated cycles, compared with textbook kernels."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.ops import ACTIVATIONS
from tinymetafed_codegen.protocol import Phase, Program, Recipe, SampleSet, Variant
from tinymetafed_codegen.spec import Experiment
from tinymetafed_codegen.temporary import temporary_folder

from ..devices.device_urls import DeviceSpec
from ..devices.firmware import Deviation, Firmware
from ..devices.link.session import Session
from ..devices.running import build_firmware
from ..federation.observer import Observer
from ..learn.codecs import downlink
from ..learn.strategies import open_strategy
from ..learn.weights import Floats, initial
from ..runs.setup import measured_design
from . import BenchError, cycles, in_qemu, keeping_nothing, launched, stack, synthetic_samples
from .cycles import executions
from .cycles.executions import Uncountable

STEPS = 8
REPEATS = 3  # the smallest count is that of the repeat without interrupts
QUIET_SECONDS = 0.3
TOLERANCE = 1  # instructions per step, for rounding of the timer
VARIANTS = (Variant.LOCAL, Variant.GLOBAL, Variant.FULL)  # a gradient step costs as much as a full one
TEXTBOOK = "textbook"  # a folder of firmware/bench; it has no kernels for ops whose core kernels are plain loops already
TEXTBOOK_OPS = {
    "affine", "dense", "conv2d", "conv1d", "depthwise_conv2d", "max_pool", "avg_pool", "global_avg_pool", *ACTIVATIONS, "prelu",
    "add", "subtract", "multiply", "scale", "concatenate",
}  # fmt: skip
_NANOSECONDS = 1024  # of virtual time per instruction at -icount shift=10
MARK = "_ZN3tmf4port5ticksEv"  # tmf::port::ticks(), which the learner calls immediately before and after a training step


@dataclass(frozen=True)
class Counter:
    """The emulator's plugin that counts instructions, and the core's cost model that gives their cycles."""

    plugin: Path
    cost: cycles.Model


@dataclass(frozen=True)
class Cost:
    """One training step by variant, mean of 8 steps; cycles as (low, high), None if they cannot be estimated."""

    instructions: dict[str, int]
    cycles: dict[str, tuple[int, int]] | None
    weights: Floats  # after the 8 steps of the last variant


@dataclass(frozen=True)
class StepCost:
    """A training step by variant, and the memory of its firmware in bytes.

    Cycles are estimated with the cost model of the board's core, microseconds follow from them and its clock; None if they
    cannot be estimated.
    """

    instructions_per_step: dict[str, int]
    cycles_low: dict[str, int] | None
    cycles_high: dict[str, int] | None
    us_low: dict[str, float] | None
    us_high: dict[str, float] | None
    flash_bytes: int
    ram_bytes: int
    stack_bytes: int

    def as_json(self) -> dict[str, Any]:
        """JSON values, without those that are None."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Comparison:
    """Generated and textbook kernels on one board, compiled with ``optimization`` (None: the board's own).

    ``weights_differ_by``: largest difference between the weights that both have trained. It and ``textbook`` are None if an
    op has no textbook version. ``estimate`` says how cycles were estimated, or why they were not.
    """

    board: str
    optimization: str | None
    generated: StepCost
    textbook: StepCost | None
    weights_differ_by: float | None
    clock_hz: int | None
    estimate: str

    def as_json(self) -> dict[str, Any]:
        """The JSON value that ``bench kernels --json`` prints; without ``textbook`` if it is None."""
        plain = {"board": self.board, "optimization": self.optimization, **self.generated.as_json()}
        if self.textbook is not None:
            plain[TEXTBOOK] = {**self.textbook.as_json(), "weights_differ_by": self.weights_differ_by}
        return {**plain, "clock_hz": self.clock_hz, "estimate": self.estimate}


def kernels(experiment: Experiment, source: str, board: str, observer: Observer, optimization: str | None = None) -> Comparison:
    """Measures a training step of each variant with generated and with textbook kernels.

    Args:
        experiment: The experiment.
        source: Its name in errors.
        board: An emulated board.
        observer: Is told of progress.
        optimization: A compiler's level, for instance "-O2"; None for the board's own.

    Returns:
        The costs.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError or LinkError.
    """
    designed = measured_design(keeping_nothing(experiment), source)
    facts = in_qemu(board, designed.boards)
    observer.stage(f"building firmware for {board}")
    ours = build_firmware(designed, board, Deviation(optimization))
    counter, estimate = _counter(facts)
    cost = measure(experiment, facts, ours, observer, counter)
    generated = _step_cost(experiment, cost, ours, facts, observer)
    textbook, difference = None, None
    lacking = {call.op.kind for call in designed.graph.forward} - TEXTBOOK_OPS
    if lacking:
        observer.event(f"no textbook version of {', '.join(sorted(lacking))} to compare with")
    else:
        observer.stage(f"building firmware for {board} with textbook kernels")
        # There is no textbook convolution of bytes.
        theirs = build_firmware(designed.reading_floats(), board, Deviation(optimization, TEXTBOOK))
        plain = measure(experiment, facts, theirs, observer, counter)
        difference = float(np.abs(plain.weights - cost.weights).max())
        textbook = _step_cost(experiment, plain, theirs, facts, observer)
    clock_hz = None if facts.stands_for is None else facts.stands_for.clock_hz
    return Comparison(board, optimization, generated, textbook, difference, clock_hz, estimate)


def instructions(experiment: Experiment, source: str, board: str, observer: Observer) -> dict[str, int]:
    """Exact instructions of one training step by variant. Raises as ``kernels``."""
    designed = measured_design(keeping_nothing(experiment), source)
    facts = in_qemu(board, designed.boards)
    observer.stage(f"building firmware for {board}")
    return measure(experiment, facts, build_firmware(designed, board), observer).instructions


def measure(experiment: Experiment, board: Board, built: Firmware, observer: Observer, counter: Counter | None = None) -> Cost:
    """Runs training steps (forward, backward and update of one sample) of every variant in the board's emulator.

    The board's timer counts the instructions: the emulator advances it by a fixed time per instruction, so the count does
    not depend on the host or its load. The values of a ReLU's mask change it by a few instructions.

    Args:
        experiment: The experiment.
        board: The emulated board.
        built: Its firmware.
        observer: Is told of progress.
        counter: Counts single instructions, for the estimate of cycles; None for no estimate.

    Returns:
        The cost by variant, and the weights after the last steps.

    Raises:
        BenchError: Timer and ``counter`` disagree, or updates are private.
        LinkError: The emulator failed.
    """
    if experiment.privacy.is_private or experiment.privacy.secure_aggregation:
        raise BenchError(
            "firmware of [privacy] does not show the weights after the measured steps; leave [privacy] out: a training step is "
            "the same without it"
        )
    manifest, strategy = built.manifest, experiment.strategy
    start = initial(manifest, experiment.run.seed, experiment.model.init)
    weights = open_strategy(experiment, manifest).download(start)
    spec = DeviceSpec(f"qemu:1@{board.name}", "qemu", board.name)
    counts: dict[str, int] = {}
    estimates: dict[str, tuple[int, int]] = {}
    with temporary_folder("bench") as folder:
        out = folder / "executions"
        listing, options = None, []
        if counter is not None:
            listing = executions.disassemble(built.program, board.toolchain_prefix)
            options = executions.options(counter.plugin, listing, MARK, out)
        observer.stage(f"training steps on {spec.url}", len(VARIANTS) * REPEATS)
        boards = Catalogue(board.project)
        with launched(spec, built, boards=boards, icount=True, options=options) as device:
            for variant in VARIANTS:
                rate, clamp = strategy.global_learning_rate, strategy.output_clamp
                phase = Phase(variant, SampleSet.SUPPORT, STEPS, 1, rate, clamp)
                device.session.configure(Program.ADAPT, Recipe((phase,)))
                repeats = []
                for _ in range(REPEATS):
                    repeats.append(_train(device.session, manifest, weights))
                    observer.advance()
                ticks = np.array(repeats)  # [repeats, stretches]
                counts[variant.name.lower()] = round(executed(int(ticks.min(axis=0).sum()), board) / STEPS)
                if counter is not None and listing is not None:
                    steps = executions.read(out)[-REPEATS * STEPS :]
                    length = STEPS // ticks.shape[1]
                    begins = [int(best) * STEPS + i * length for i, best in enumerate(ticks.argmin(axis=0))]
                    counted = executions.add(step for begin in begins for step in steps[begin : begin + length])
                    _compare(counts[variant.name.lower()], sum(each.executed for each in counted.values()) / STEPS)
                    low, high = counter.cost(listing.instructions, counted)
                    estimates[variant.name.lower()] = (round(low / STEPS), round(high / STEPS))
            trained = device.session.fetch(0, manifest.n_parameters)
    return Cost(counts, estimates if counter is not None else None, trained)


def executed(ticks: int, board: Board) -> int:
    """Number of instructions executed during ``ticks`` of an emulated board's timer."""
    return round(ticks * 1e9 / board.ticks_per_second / _NANOSECONDS)


def _compare(by_timer: int, by_plugin: float) -> None:
    if abs(by_timer - by_plugin) > TOLERANCE:
        raise BenchError(
            f"a training step takes {by_timer:,} instructions by the timer, {by_plugin:,.1f} by the plugin's count"
        )


def _counter(board: Board) -> tuple[Counter | None, str]:
    """The counter for a board's emulator, None if cycles cannot be estimated; and a sentence about the estimate."""
    chip = board.stands_for
    if chip is None or chip.core not in cycles.MODELS or board.emulator is None:
        return None, f"no cycles: there is no cost model for the core of board '{board.name}'"
    try:
        plugin = executions.plugin(board.emulator[0])
    except Uncountable as reason:
        return None, f"no cycles: {reason}"
    return Counter(plugin, cycles.MODELS[chip.core]), (
        f"cycles are estimated from a {chip.core}'s manual, without flash wait states, and time from a {chip.chip}'s "
        f"{chip.clock_hz / 1e6:g} MHz and the slowdown by its flash, {chip.flash_slowdown[0]:g} to "
        f"{chip.flash_slowdown[1]:g}; never checked on silicon"
    )


def _step_cost(experiment: Experiment, cost: Cost, built: Firmware, board: Board, observer: Observer) -> StepCost:
    low = high = us_low = us_high = None
    if cost.cycles is not None and board.stands_for is not None:
        chip = board.stands_for
        low, high = ({variant: both[end] for variant, both in cost.cycles.items()} for end in (0, 1))
        us_low, us_high = (
            {variant: round(count * slowdown * 1e6 / chip.clock_hz, 1) for variant, count in each.items()}
            for each, slowdown in zip((low, high), chip.flash_slowdown, strict=True)
        )
    observer.stage(f"stack on {board.name}")
    depth = stack.deepest(experiment, built, board)
    return StepCost(cost.instructions, low, high, us_low, us_high, built.flash_bytes, built.ram_bytes, depth)


def _train(session: Session, manifest: ModelManifest, weights: list[downlink.Segment]) -> list[int]:
    """Ticks of STEPS training steps: one sum if the board makes its own samples, one value per step for synthetic samples."""
    token = session.next_token()
    session.load(token, weights)
    session.train(token, Program.ADAPT, 1, 0, 0)
    if not manifest.streamed:
        time.sleep(QUIET_SECONDS)  # a request that arrives during a step would add its interrupts
        return [session.await_done(token, STEPS).ticks]
    # One sample at a time, because bytes received or sent during a step add interrupts to it. Ticks are read after each step,
    # because those of all steps of a large model may overflow the counter.
    ticks = [0]
    for step, sample in enumerate(synthetic_samples(manifest, STEPS)):
        ticks.append(session.sample(token, step, sample.targets, sample.inputs, sample.scale).ticks)
    return [(after - before) % (1 << 32) for before, after in pairwise(ticks)]
