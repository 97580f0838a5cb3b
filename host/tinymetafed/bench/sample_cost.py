"""Cost of a sample on its way to the first layer: RAM as code generation states it, bytes on the line, instructions."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from tinymetafed_codegen import protocol, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.optional_messages.part_messages import SamplePart, SampleTaken
from tinymetafed_codegen.options.sample_parts import is_whole, part_bytes
from tinymetafed_codegen.section import TomlValue
from tinymetafed_codegen.spec import Experiment

from ..federation.observer import Observer
from ..runs.setup import design_of
from . import kernel_cost

Shape = tuple[int, int, int]
SHAPES: tuple[Shape, ...] = ((28, 28, 1), (64, 64, 3), (96, 96, 3))
COUNTED: Shape = (64, 64, 3)  # whose training step is counted: both dtypes fit the board
DTYPES: tuple[Literal["float32", "uint8"], ...] = ("float32", "uint8")
STEP = "full"
_RAM_BYTES = 1 << 24  # of a board that no model is too large for


@dataclass(frozen=True)
class SampleCost:
    """One input shape in one dtype. Bytes of RAM; of a sample on the line with all answers; instructions of a full step.

    ``line_ram``: the receive window and the two buffers of its size. ``instructions``: 0 where they are not counted.
    """

    shape: Shape
    dtype: str
    line_ram: int
    arena: int
    ram: int
    values: int
    wire_bytes: int
    instructions: int


def network(shape: Shape, dtype: str) -> Experiment:
    """Three convolutions over images of a folder, which is not read."""
    convolutions: list[TomlValue] = [
        {"op": "conv2d", "filters": filters, "kernel": 3, "stride": 2, "activation": "relu"} for filters in (8, 8, 16)
    ]
    return spec.parse(
        {
            "task": {"kind": "folder", "path": "images", "held_out": ["one"], "dtype": dtype},
            "data": {"normalise": "none"},
            "board": {"keep_activations": False},
            "model": {
                "input": list(shape),
                "loss": "softmax_cross_entropy",
                "layers": [*convolutions, {"op": "global_avg_pool"}, {"op": "dense", "units": 2, "local": True}],
            },
        },
        "bench",
    )


def measure(board: str, observer: Observer) -> tuple[SampleCost, ...]:
    """Measures every shape in every dtype.

    Args:
        board: An emulated board.
        observer: Is told of progress.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError or LinkError.
    """
    return tuple(_cost(shape, dtype, board, observer) for shape in SHAPES for dtype in DTYPES)


def _cost(shape: Shape, dtype: str, board: str, observer: Observer) -> SampleCost:
    experiment = network(shape, dtype)
    room = dataclasses.replace(boards.load(board), ram_bytes=_RAM_BYTES)
    manifest = design_of(experiment, "bench", board="native").on(room).manifest
    counted = kernel_cost.instructions(experiment, "bench", board, observer) if shape == COUNTED else {STEP: 0}
    values = math.prod(shape)
    size = experiment.task.bytes_per_input * values + 4 * manifest.target_size
    return SampleCost(
        shape,
        dtype,
        line_ram=3 * manifest.receive_window,
        arena=4 * manifest.arena.floats,
        ram=manifest.memory.ram_total,
        values=values,
        wire_bytes=wire_bytes(size, manifest),
        instructions=counted[STEP],
    )


def wire_bytes(size: int, manifest: ModelManifest) -> int:
    """Bytes on the line of a sample of ``size`` bytes and the answers to it, at most: bytes of 0 take one less per 254."""
    window = manifest.receive_window
    if is_whole(size, window, manifest.mac_bytes):
        sent = protocol.wire_size(protocol.Sample.fixed_size() + size)
        return sent + protocol.wire_size(protocol.Progress.fixed_size())
    most = part_bytes(SamplePart, window, manifest.mac_bytes)
    parts = [min(most, size - at) for at in range(0, size, most)]
    sent = sum(protocol.wire_size(SamplePart.fixed_size() + part) for part in parts)
    return sent + len(parts) * protocol.wire_size(SampleTaken.fixed_size())
