"""A round of presence detection on the Nano 33 BLE's chip: bytes and instructions counted, time and energy estimated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tinymetafed_codegen import boards
from tinymetafed_codegen.protocol import Variant

from ...bench import BenchError, kernel_cost, line_cost
from ...federation.observer import Observer
from ...learn.strategies import open_strategy
from ...runs.setup import design_of
from .published import NANO_33_BLE

CHIP = "nano33ble"  # whose supply current, a fact of the board, is taken


@dataclass(frozen=True)
class Estimate:
    """One round's figures by wire types; ``cycles`` low and high."""

    types: str
    bytes_down: int
    bytes_up: int
    wire_seconds: float
    instructions: int
    cycles: tuple[int, int]
    clock_hz: int
    ram_bytes: int

    @property
    def train_seconds(self) -> float:
        """By the higher count of cycles."""
        return self.cycles[1] / self.clock_hz

    @property
    def seconds(self) -> float:
        """On the wire and in training."""
        return self.wire_seconds + self.train_seconds

    @property
    def chip_joules(self) -> float:
        """The chip alone, its CPU never asleep."""
        volts, milliamperes = supply()
        return self.seconds * volts * milliamperes / 1000

    @property
    def board_joules(self) -> float:
        """At the mean power that the paper's board took."""
        theirs = NANO_33_BLE[-1]
        return self.seconds * theirs.joules / theirs.seconds


def supply() -> tuple[float, float]:
    """Volts and milliamperes of the chip while its CPU runs; see docs/boards.md."""
    known = boards.load(CHIP).estimates
    assert known is not None  # a test sees to it for every real board
    return known.volts, known.milliamperes[1]


def measure(observer: Observer) -> list[Estimate]:
    """Measures the paper's presence detector, P = 50, by wire types. Raises BenchError where the emulator is missing."""
    if lacking := boards.missing_tools(line_cost.BOARD):
        raise BenchError(f"{', '.join(tool.name for tool in lacking)} not installed; `tinymetafed doctor` says how to")
    experiment = line_cost.presence()
    measured = kernel_cost.kernels(experiment, "presence", line_cost.BOARD, observer)
    steps = measured.generated
    if steps.cycles_low is None or steps.cycles_high is None or measured.clock_hz is None:
        raise BenchError(measured.estimate)
    phases = open_strategy(experiment, design_of(experiment, "presence", line_cost.BOARD).manifest).training()
    work = {Variant(phase.variant).name.lower(): phase.count * phase.passes for phase in phases}
    cycles = _whole(work, steps.cycles_low), _whole(work, steps.cycles_high)
    return [
        Estimate(
            types=each.types,
            bytes_down=each.bytes_down,
            bytes_up=each.bytes_up,
            wire_seconds=each.wire_seconds,
            instructions=_whole(work, steps.instructions_per_step),
            cycles=cycles,
            clock_hz=measured.clock_hz,
            ram_bytes=steps.ram_bytes + steps.stack_bytes,
        )
        for each in line_cost.wire(None, "", observer).rounds
    ]


def _whole(work: Mapping[str, int], per_step: Mapping[str, int]) -> int:
    """What all training steps of a round take, by how many there are of each variant."""
    return sum(count * per_step[variant] for variant, count in work.items())
