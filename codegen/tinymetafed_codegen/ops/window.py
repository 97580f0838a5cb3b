"""Sliding windows of convolutions and pools: the number of outputs and the padding along one axis, as in Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator

from .op import OpError

MAX_EXTENT = 1_024
Extent = Annotated[int, Field(ge=1, le=MAX_EXTENT)]
# One number for both axes, or [height, width].
Pair = Annotated[
    tuple[Extent, Extent],
    Field(strict=False),
    BeforeValidator(lambda given: (given, given) if isinstance(given, int) else given),
]
Padding = Literal["same", "valid"]
Margins = tuple[int, int]  # zeros before the first input and behind the last one


def _margins(given: Any) -> Margins:
    """Reads [before, after]. Raises ValueError if it is something else."""
    whole = isinstance(given, list | tuple) and len(given) == 2 and all(type(each) is int for each in given)
    if not whole or not all(0 <= each < MAX_EXTENT for each in given):
        raise ValueError
    return given[0], given[1]


def _padding_of_sequence(given: Any) -> str | Margins:
    try:
        return given if given in ("same", "valid") else _margins(given)
    except ValueError:
        raise ValueError("expected 'same', 'valid' or [before, after], for instance [1, 0]") from None


def _padding_of_image(given: Any) -> str | tuple[Margins, Margins]:
    try:
        if given in ("same", "valid"):
            return str(given)
        rows, columns = given
        return _margins(rows), _margins(columns)
    except (TypeError, ValueError):
        raise ValueError("expected 'same', 'valid' or [[top, bottom], [left, right]], for instance [[0, 1], [0, 1]]") from None


# As a word or as numbers of zeros: Keras' ZeroPadding1D and ZeroPadding2D before the layer.
SequencePadding = Annotated[str | Margins, PlainValidator(_padding_of_sequence)]
ImagePadding = Annotated[str | tuple[Margins, Margins], PlainValidator(_padding_of_image)]


def margins_of_axes(padding: str | tuple[Margins, Margins]) -> tuple[str | Margins, str | Margins]:
    """The padding of an image's rows and that of its columns."""
    return (padding, padding) if isinstance(padding, str) else padding


@dataclass(frozen=True)
class Axis:
    """One axis: a window of ``size`` moves by ``stride`` over ``length`` inputs and begins ``pad`` before the first one."""

    length: int
    outputs: int
    size: int
    stride: int
    pad: int

    @classmethod
    def build(cls, length: int, size: int, stride: int, padding: str | Margins) -> Self:
        """The axis for a padding of 'same', 'valid' or [before, after]; 'same' pads as Keras does, more at the end.

        Raises:
            OpError: The window is larger than the padded input, or could lie in the padding alone.
        """
        if padding == "same":
            outputs = -(-length // stride)
            return cls(length, outputs, size, stride, max((outputs - 1) * stride + size - length, 0) // 2)
        before, after = (0, 0) if isinstance(padding, str) else padding
        if max(before, after) >= size:
            raise OpError(f"padding = {[before, after]} for a window of {size}: use less than the window's size")
        padded = before + length + after
        if size > padded:
            raise OpError(f"a window of {size} does not fit into {padded} without padding; use padding = 'same'")
        return cls(length, (padded - size) // stride + 1, size, stride, before)

    @property
    def margins(self) -> Margins:
        """The zeros that windows read before the first input and behind the last one."""
        return self.pad, max((self.outputs - 1) * self.stride + self.size - self.length - self.pad, 0)

    def cpp_type(self) -> str:
        """The C++ type."""
        return (
            f"kernels::Axis</*in=*/{self.length}, /*out=*/{self.outputs}, /*kernel=*/{self.size}, "
            f"/*stride=*/{self.stride}, /*pad=*/{self.pad}>"
        )


# The row axis of a sequence: an image of one row.
SINGLE = Axis(1, 1, 1, 1, 0)


def flattened(rows: Axis, columns: Axis) -> tuple[Axis, Axis]:
    """The axes of an image whose windows are single pixels, as one row of all its pixels; other axes as they are."""
    if any((axis.size, axis.stride, axis.pad) != (1, 1, 0) or axis.outputs != axis.length for axis in (rows, columns)):
        return rows, columns
    pixels = rows.length * columns.length
    return SINGLE, Axis(pixels, pixels, 1, 1, 0)
