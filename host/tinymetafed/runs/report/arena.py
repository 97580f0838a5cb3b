"""Pictures of a model's memory on its board: RAM by purpose, and the tensors in the arena at each step."""

from __future__ import annotations

from dataclasses import dataclass

from tinymetafed_codegen.manifest import ModelManifest

from .wording import count

MAP_COLUMN, MAP_LEAST_WIDTH, MAP_HEIGHT, MAP_TOP = 82, 900, 330, 34


@dataclass(frozen=True)
class Bar:
    """A bar whose length is ``share`` (0 to 1) of the longest."""

    label: str
    value: str
    share: float


@dataclass(frozen=True)
class Box:
    """A tensor in the arena map, in SVG units: steps go from left to right, bytes from top to bottom."""

    label: str
    title: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class MemoryPicture:
    """A board's memory as text and shapes: RAM by purpose, its total, and the arena map of size ``width`` × ``height``.

    ``steps``: for each step the middle of its column and the words of its label.
    """

    ram: list[Bar]
    total: str
    available: str
    share: str
    flash: str
    flash_available: str
    board: str
    arena_bytes: str
    arena_used: str
    boxes: list[Box]
    steps: list[tuple[float, list[str]]]
    width: int
    height: int


@dataclass(frozen=True)
class ParameterRow:
    """A tensor of weights in a table, as text."""

    name: str
    shape: str
    size: str
    part: str


def memory_picture(manifest: ModelManifest) -> MemoryPicture:
    """Draws RAM by purpose, and which tensor has which bytes of the arena at each step of training on a sample."""
    ram = sorted(manifest.memory.ram, key=lambda use: -use.size)
    available = manifest.memory.ram_available
    arena = manifest.arena
    steps = arena.steps
    width = max(MAP_LEAST_WIDTH, MAP_COLUMN * len(steps))
    column = width / len(steps)
    used = max(tensor.offset + tensor.size for tensor in arena.tensors)
    row = (MAP_HEIGHT - MAP_TOP - 2) / used
    boxes = [
        Box(
            label=tensor.name,
            title=f"{tensor.name} {list(tensor.shape)}, {count(4 * tensor.size)} bytes",
            x=round(tensor.first * column + 1, 1),
            y=round(MAP_TOP + tensor.offset * row, 1),
            width=round((tensor.last - tensor.first + 1) * column - 2, 1),
            height=round(tensor.size * row, 1),
        )
        for tensor in arena.tensors
    ]
    return MemoryPicture(
        ram=[Bar(use.purpose, count(use.size), round(use.size / ram[0].size, 4)) for use in ram],
        total=count(manifest.memory.ram_total),
        available=count(available),
        share=f"{manifest.memory.ram_total / available:.1%}".replace("%", " %"),
        flash=count(manifest.memory.flash),
        flash_available=count(manifest.memory.flash_available),
        board=manifest.board,
        arena_bytes=count(4 * arena.floats),
        arena_used=count(4 * used),
        boxes=boxes,
        steps=[(round((i + 0.5) * column, 1), step.split()) for i, step in enumerate(steps)],
        width=width,
        height=MAP_HEIGHT,
    )


def parameters(manifest: ModelManifest) -> list[ParameterRow]:
    """The model's tensors of weights, as text."""
    return [
        ParameterRow(parameter.name, " × ".join(map(str, parameter.shape)), count(parameter.size), parameter.part)
        for parameter in manifest.parameters
    ]
