"""The tiles of a row of a small depthwise kernel: in every pass the fastest of those whose code is short enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from .window import Axis

MOST_BYTES = 3_072  # of flash, for all passes of a layer
_MOST_WEIGHTS = 9  # of a kernel that stays in registers
_REGISTERS = 29  # for weights, sums and values; the other three are for products and what a sum begins with
_WIDEST = 8
_WIDEST_SUMMED = 12  # a single tile of the update, whose pixels have no sums of their own


@dataclass(frozen=True)
class Tiling:
    """A first tile of ``first`` pixels, if any, and others of ``width``; the last of them may begin inside the one before.

    ``code_bytes``: of flash, at most. ``instructions``: in each row, beside products and outputs that every tiling has.
    """

    first: int
    width: int
    code_bytes: int
    instructions: int


@dataclass(frozen=True)
class RowTiles:
    """The tiles of each pass."""

    forward: Tiling
    gradient: Tiling
    update: Tiling

    @property
    def code_bytes(self) -> tuple[int, int, int]:
        """Bytes of flash of each pass, at most."""
        return self.forward.code_bytes, self.gradient.code_bytes, self.update.code_bytes

    @property
    def instructions(self) -> int:
        """As of a tiling."""
        return self.forward.instructions + self.gradient.instructions + self.update.instructions

    def cpp_type(self) -> str:
        """The C++ type."""
        passes = {"forward": self.forward, "gradient": self.gradient, "update": self.update}
        numbers = ", ".join(f"/*{name}=*/{tiling.first}, {tiling.width}" for name, tiling in passes.items())
        return f"kernels::RowTiles<{numbers}>"


@dataclass(frozen=True)
class _Row:
    """A row of ``pixels`` in a pass.

    ``low``, ``high``: how many at its borders lack a neighbour. ``apart``: of how many pixels a tile's width is a multiple.
    ``widest``: of a tile, ``widest_of_several`` of several with one code. ``bytes_apart``: partners of neighbours.
    Bytes of code: of a tile, a pixel, a first tile beside others, conditions at borders, and addresses of far pixels.
    ``tile_instructions``: of a tile in each row, beside products and outputs: loops, addresses and the values at its ends.
    ``pixel_instructions``: of a pixel that is computed again, None if none may be.
    """

    pixels: int
    bytes_apart: int
    low: int
    high: int
    apart: int
    widest: int
    widest_of_several: int
    tile_bytes: int
    pixel_bytes: int
    first_bytes: int
    border_bytes: int
    far_bytes: int
    tile_instructions: int
    pixel_instructions: int | None

    def tilings(self) -> Iterator[Tiling]:
        """All that cover the row, as RunningTiles in firmware/core/kernels/column_tiles.hpp has it."""
        for width in range(1, min(self.widest, self.pixels) + 1):
            for first in range(min(self.widest, self.pixels - width) + 1):
                others = self.pixels - first
                if others == width or self._is_alike(first, width, others % width):
                    yield self._tiling(first, width, -(-others // width))

    def _is_alike(self, first: int, width: int, rest: int) -> bool:
        """Whether several tiles can have one code: only the first and the last lack something, each at one border."""
        fills = rest == 0 or (self.pixel_instructions is not None and rest % self.apart == 0 and rest >= self.high)
        within = self.low <= min(first or width, self.pixels - width) and self.high <= width
        return fills and within and width % self.apart == 0 and width <= self.widest_of_several

    def _tiling(self, first: int, width: int, count: int) -> Tiling:
        borders = (self.high > 0) + (self.low > 0 and first == 0) if count > 1 else 0
        code = self.tile_bytes + self.pixel_bytes * (first + width)
        code += self.first_bytes * (first > 0) + self.border_bytes * (borders > 0)
        code += self.far_bytes * (self.bytes_apart * width // _OFFSET)
        again = (first + count * width - self.pixels) * (self.pixel_instructions or 0)
        instructions = self.tile_instructions * (count + (first > 0)) + _BORDER_INSTRUCTIONS * borders * count + again
        return Tiling(first, width, code, instructions)


_OFFSET = 1_020  # bytes that a load of a float reaches
_BORDER_INSTRUCTIONS = 4  # conditions at a border, of each of several tiles


def _is_held(rows: Axis, columns: Axis) -> bool:
    """Whether the kernel stays in registers, as is_held in firmware/core/kernels/held_kernel.hpp has it."""
    walked = all(
        axis.stride <= min(2, axis.size) and (axis.outputs - 1) * axis.stride - axis.pad < axis.length
        for axis in (rows, columns)
    )
    return rows.size * columns.size <= _MOST_WEIGHTS and walked


def chosen(rows: Axis, columns: Axis, channels: int) -> RowTiles | None:
    """The fastest tiles whose code takes at most MOST_BYTES in all; where none does, those of the shortest code.

    Args:
        rows: The rows of the image.
        columns: Its columns, along which tiles lie.
        channels: How many values a pixel has.

    Returns:
        The tiles; None if the kernel does not stay in registers.
    """
    if not _is_held(rows, columns):
        return None
    passes = (make(rows, columns, 4 * channels) for make in (_forward, _gradient, _update))
    found = [RowTiles(*each) for each in product(*map(_unbeaten, passes))]
    return min(found, key=_price, default=None)


def _price(tiles: RowTiles) -> tuple[int, int, int]:
    code = sum(tiles.code_bytes)
    return max(code - MOST_BYTES, 0), tiles.instructions, code


def _unbeaten(row: _Row) -> list[Tiling]:
    """Tilings than which no other one is better in both instructions and bytes."""
    best: list[Tiling] = []
    for tiling in sorted(row.tilings(), key=lambda each: (each.instructions, each.code_bytes, each.first)):
        if not best or tiling.code_bytes < best[-1].code_bytes:
            best.append(tiling)
    return best


def _widest(rows: Axis, columns: Axis, carried: int, partners: float) -> int:
    """How many pixels' sums fit into the registers, beside the weights and ``partners`` values of each pixel.

    ``carried``: rows whose sums are not complete at the same time.
    """
    free = _REGISTERS - rows.size * columns.size - columns.size + 1
    return max(1, min(_WIDEST, int(free / (carried + partners))))


# Bytes of code: measured with arm-none-eabi-g++ 12.2.1, of kernels of 3x3 in rows of 3 to 40 pixels, and rounded up.
def _forward(rows: Axis, columns: Axis, bytes_apart: int) -> _Row:
    weights, stride = rows.size * columns.size, columns.stride
    carried = max((rows.size - 1) // rows.stride, 1)
    widest = _widest(rows, columns, carried, stride)
    starts = [out * stride - columns.pad for out in range(columns.outputs)]
    return _Row(
        pixels=columns.outputs,
        bytes_apart=bytes_apart * stride,
        low=sum(start < 0 for start in starts),
        high=sum(start + columns.size > columns.length for start in starts),
        apart=1,
        widest=widest,
        widest_of_several=widest,
        tile_bytes=4 * weights + 44 + 24 * (stride - 1),
        pixel_bytes=8 * weights + 48,
        first_bytes=120,
        border_bytes=120 + 55 * (stride - 1),
        far_bytes=55,
        tile_instructions=14,
        pixel_instructions=2 * weights + 6,
    )


def _gradient(rows: Axis, columns: Axis, bytes_apart: int) -> _Row:
    weights, stride = rows.size * columns.size, columns.stride
    widest = _widest(rows, columns, max(rows.size - rows.stride, 1), 1 / stride)
    return _Row(
        pixels=columns.length,
        bytes_apart=bytes_apart,
        low=max(columns.size - 1 - columns.pad, 0),
        high=max(columns.length + columns.pad - columns.outputs * stride, 0),
        apart=stride,
        widest=widest,
        widest_of_several=widest,
        tile_bytes=4 * weights + 44 + 30 * (rows.stride - 1),
        pixel_bytes=8 * weights // stride + 48 + 11 * (rows.stride - 1),
        first_bytes=120 + 56 * (stride - 1),
        border_bytes=176,
        far_bytes=55,
        tile_instructions=14,
        pixel_instructions=2 * weights // stride + 6 * rows.stride,
    )


def _update(rows: Axis, columns: Axis, bytes_apart: int) -> _Row:
    weights = rows.size * columns.size
    return replace(
        _forward(rows, columns, bytes_apart),
        widest=_WIDEST_SUMMED,
        widest_of_several=_WIDEST,
        tile_bytes=110 + 15 * weights,
        pixel_bytes=8 * weights + 20 + 16 * (columns.stride - 1),
        border_bytes=190,
        far_bytes=45,
        tile_instructions=24,
        pixel_instructions=None,
    )
