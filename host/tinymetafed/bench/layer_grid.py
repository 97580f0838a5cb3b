"""Cost of single layers of many shapes: exact instructions and estimated cycles per multiplication, and textbook ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from tinymetafed_codegen import emit, ops, spec
from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.ops import Op
from tinymetafed_codegen.ops.max_pool import MaxPool
from tinymetafed_codegen.temporary import temporary_folder
from tinymetafed_codegen.toolchain import build_root

from ..devices import firmware
from ..devices.firmware import Deviation
from ..devices.firmware_project import writing_project
from ..federation.observer import Observer
from ..runs.setup import measured_design
from . import BenchError, cycles, in_qemu, layer_limit
from .board_answer import ask
from .cycles import executions
from .cycles.executions import Uncountable
from .kernel_cost import MARK, TEXTBOOK

PASSES = ("forward", "gradient", "update")
_PROGRAM = "layer_program"
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Shape:
    """A layer of the grid: its keys as in an experiment, and the shape of its input."""

    keys: tuple[tuple[str, Any], ...]
    input: tuple[int, ...]

    @property
    def title(self) -> str:
        """For instance "conv2d 12x12x8, filters 16, kernel 3"."""
        kind, *more = self.keys
        return ", ".join([f"{kind[1]} {'x'.join(map(str, self.input))}", *(f"{key} {value}" for key, value in more)])


def layer(op: str, *extents: int, **keys: Any) -> Shape:
    """A layer by its op, the shape of its input and further keys."""
    return Shape((("op", op), *keys.items()), extents)


GRID = (
    # First layers of images: a single channel, or three.
    *(layer("conv2d", 16, 16, 1, filters=f, kernel=3, stride=s) for f in (1, 4, 8, 16) for s in (1, 2)),
    *(layer("conv2d", 16, 16, 3, filters=8, kernel=3, stride=s) for s in (1, 2)),
    layer("conv2d", 16, 16, 1, filters=8, kernel=5),
    # Layers inside.
    *(layer("conv2d", 8, 8, c, filters=f, kernel=3) for c, f in ((8, 8), (8, 1), (16, 16), (7, 9))),
    *(layer("conv2d", 8, 8, c, filters=f, kernel=3, stride=2) for c, f in ((8, 16), (7, 9))),
    *(layer("conv2d", 8, 8, c, filters=f, kernel=1) for c, f in ((8, 16), (16, 32), (1, 8), (2, 8), (3, 8), (7, 9), (8, 1))),
    # Depthwise layers, each beside that of stride 2.
    *(
        layer("depthwise_conv2d", n, n, c, kernel=3, stride=s)
        for n, c in ((24, 8), (16, 8), (12, 32), (6, 64), (9, 3))
        for s in (1, 2)
    ),
    layer("depthwise_conv2d", 25, 5, 16, kernel=3),
    layer("depthwise_conv2d", 14, 14, 10, kernel=5),
    *(layer("dense", n, units=u) for n, u in ((32, 32), (64, 32), (128, 10), (17, 5), (8, 1))),
    # Layers without weights.
    *(layer("max_pool", *of) for of in ((24, 24, 8), (12, 12, 10))),
    layer("max_pool", 13, 13, 8, size=3, stride=2),
    layer("avg_pool", 24, 24, 8),
    layer("global_avg_pool", 12, 12, 16),
    layer("add", 12, 12, 16),
)


@dataclass(frozen=True)
class Cell:
    """One pass of a layer, per multiplication, or per input value of a layer without weights; cycles as (low, high).

    ``limit``: the fewest instructions that the shape allows (``layer_limit``); None of a layer without weights.
    """

    instructions: float
    textbook: float
    cycles: tuple[float, float]
    limit: float | None

    @property
    def ratio(self) -> float | None:
        """How many times the limit the pass takes; None if there is no limit."""
        return None if self.limit is None else self.instructions / self.limit


@dataclass(frozen=True)
class Row:
    """A layer. ``products``: multiplications of each pass."""

    title: str
    products: int
    passes: dict[str, Cell]

    @property
    def faster(self) -> float:
        """How many times the instructions of all passes the textbook kernels take."""
        cells = self.passes.values()
        return sum(cell.textbook for cell in cells) / sum(cell.instructions for cell in cells)


@dataclass(frozen=True)
class Grid:
    """The layers' costs on a board."""

    board: str
    rows: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        """The JSON value that ``bench kernels --grid --json`` prints."""
        return asdict(self)


def measure(board: str, observer: Observer, shapes: Sequence[Shape] = GRID) -> Grid:
    """Counts the instructions of every pass of every layer, with the core's and with textbook kernels.

    Args:
        board: An emulated board whose core has a cost model.
        observer: Is told of progress.
        shapes: The layers.

    Returns:
        The grid.

    Raises:
        Error: BoardError, BenchError or BuildError.
    """
    on = in_qemu(board)
    layers = [_op(shape) for shape in shapes]
    ours, theirs = (_counted(layers, on, kernels, observer) for kernels in (None, TEXTBOOK))
    rows, at = [], 0
    for shape, op in zip(shapes, layers, strict=True):
        products, limits, passes = layer_limit.products(op), layer_limit.limits(op), {}
        for name in _calls(op, 0):
            (count, low, high), plain = ours[at], theirs[at][0]
            passes[name] = Cell(count / products, plain / products, (low / products, high / products), limits.get(name))
            at += 1
        rows.append(Row(shape.title, products, passes))
    return Grid(board, tuple(rows))


def code_bytes() -> dict[str, int]:
    """Bytes of flash of all passes of each layer of the grid by its title, as codegen estimates them."""
    return {shape.title: sum(_op(shape).code_bytes()) for shape in GRID}


def _op(shape: Shape) -> Op:
    kind = str(dict(shape.keys)["op"])
    if kind == "add":
        return ops.Add("layer", shape.input, shape.input)
    made = ops.find(kind)
    return made.build(made.spec.model_validate({**dict(shape.keys), **_ACTIVATED.get(kind, {})}), "layer", shape.input)


# Layers between others: with a ReLU, and above another one.
_ACTIVATED: dict[str, dict[str, Any]] = {kind: {"activation": "relu"} for kind in ("conv2d", "depthwise_conv2d", "dense")}


def _calls(op: Op, index: int) -> dict[str, str]:
    """The C++ statement of each pass."""
    layer = f"Layer{index}"
    if op.parameters:
        backward = "backward<{}>(x, dy, dx, kernel, bias, 0.0078125f)"
        return {
            "forward": f"{layer}::forward(x, kernel, bias, y)",
            "gradient": f"{layer}::{backward.format('kernels::Hold, true, true')}",
            "update": f"{layer}::{backward.format('Update, false, false')}",
        }
    if isinstance(op, ops.Add):
        return {"forward": f"{layer}::forward(x, dx, y)"}
    masked = "<true>" if isinstance(op, MaxPool) else ""
    return {"forward": f"{layer}::forward{masked}(x, y, mask)", "gradient": f"{layer}::backward(mask, dy, dx)"}


def _counted(layers: Sequence[Op], board: Board, kernels: str | None, observer: Observer) -> list[tuple[int, int, int]]:
    """Instructions, and cycles (low, high), of each call."""
    observer.stage(f"building {kernels or 'generated'} kernels of {len(layers)} layers for {board.name}")
    if board.stands_for is None or board.stands_for.core not in cycles.MODELS or board.emulator is None:
        raise BenchError(f"board '{board.name}': there is no cost model for its core; choose mps2")
    try:
        plugin = executions.plugin(board.emulator[0])
    except Uncountable as reason:
        raise BenchError(f"the emulator cannot count instructions: {reason}") from None
    deviation = Deviation(kernels=kernels, program=_PROGRAM)
    designed = measured_design(spec.load(find("examples/sine.toml")), "sine")
    with writing_project(designed) as written:
        key = f"{written.parent.name}-grid"
        generated = build_root() / deviation.folder(key) / f"generated-{board.name}"
        emit.write(designed.on(board), generated, "tinymetafed bench kernels --grid")
        headers = sorted({op.header for op in layers} | {"dense.hpp"})
        (generated / "op_headers.hpp").write_text(
            "#pragma once\n" + "".join(f"#include <kernels/{header}>\n" for header in headers), encoding="utf-8"
        )
        (generated / "layer_calls.hpp").write_text(_header(layers), encoding="utf-8")
        built = firmware.build(written, board, key=key, deviation=deviation, generated=generated)
    observer.stage(f"running them on {board.name}")
    listing = executions.disassemble(built.program, board.toolchain_prefix)
    with temporary_folder("bench") as folder:
        out = folder / "executions"
        if ask(built.program, board, executions.options(plugin, listing, MARK, out)) != b"done\n":
            raise BenchError(f"board '{board.name}': the benchmark of its layers did not finish")
        counts = executions.read(out)
    model = cycles.MODELS[board.stands_for.core]
    return [(sum(each.executed for each in call.values()), *model(listing.instructions, call)) for call in counts]


def _header(layers: Sequence[Op]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    weighted = [op for op in layers if op.parameters]
    return environment.get_template("layer_calls.hpp.j2").render(
        inputs=max(math.prod(op.input_shape) for op in layers),
        outputs=max(math.prod(op.output_shape) for op in layers),
        weights=max((op.parameters[0].size for op in weighted), default=1),
        biases=max((op.parameters[1].size for op in weighted), default=1),
        layers=[op.cpp_type() for op in layers],
        calls=[statement for index, op in enumerate(layers) for statement in _calls(op, index).values()],
    )
