"""One round of presence detection on the Nano 33 BLE: counted bytes and instructions, estimated time and energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tinymetafed_codegen.board import boards
from tinymetafed_codegen.protocol import Variant

from ...bench import BenchError, kernel_cost, line_cost
from ...federation.observer import Observer
from ...learn.strategies import open_strategy
from ...runs.setup import design_of
from .published import NANO_33_BLE

CHIP = "nano33ble"  # the board whose supply current is used


@dataclass(frozen=True)
class Estimate:
    """The figures of one round with given dtypes; ``cycles`` is (low, high)."""

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
        """Duration of training, by the high estimate of cycles."""
        return self.cycles[1] / self.clock_hz

    @property
    def seconds(self) -> float:
        """Duration of the round: on the wire and in training."""
        return self.wire_seconds + self.train_seconds

    @property
    def chip_joules(self) -> float:
        """Energy of the chip only, if its CPU never sleeps."""
        volts, milliamperes = supply()
        return self.seconds * volts * milliamperes / 1000

    @property
    def board_joules(self) -> float:
        """Energy of the board, at the mean power of the paper's board."""
        theirs = NANO_33_BLE[-1]
        return self.seconds * theirs.joules / theirs.seconds


def supply() -> tuple[float, float]:
    """Volts and milliamperes of the chip while its CPU runs; see docs/boards.md."""
    known = boards.load(CHIP).estimates
    assert known is not None  # a test checks this for every real board
    return known.volts, known.milliamperes[1]


def measure(observer: Observer) -> list[Estimate]:
    """Measures the paper's presence detector, P = 50, with several dtypes. Raises BenchError if the emulator is missing."""
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
    """The sum over all training steps of a round; ``work`` is the number of steps by variant."""
    return sum(count * per_step[variant] for variant, count in work.items())
