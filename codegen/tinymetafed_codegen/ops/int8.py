"""The base of ops in integer arithmetic: frozen layers over int8 tensors, as in a quantised TensorFlow Lite file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field

from .layer import LayerSpec
from .op import Op, OpError, Parameter, Shape
from .window import SINGLE, Axis, ImagePadding, Pair, margins_of_axes

LOWEST, HIGHEST = -128, 127
Int8 = Annotated[int, Field(ge=LOWEST, le=HIGHEST)]


def _ordered(limits: tuple[int, int]) -> tuple[int, int]:
    if limits[0] > limits[1]:
        raise ValueError(f"{list(limits)}: expected [lowest, highest]")
    return limits


Limits = Annotated[tuple[Int8, Int8], Field(strict=False), AfterValidator(_ordered)]
# A positive number as multiplier / 2^31 * 2^shift, with multiplier from 2^30 on; 0 is [0, 0].
Factor = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=1 << 31)], Annotated[int, Field(ge=-31, le=30)]],
    Field(strict=False),
]
_MOST_TERMS = 65_000  # of a sum of products of a 9-bit and an 8-bit number, so that it fits into 32 bits


class Int8OutputSpec(LayerSpec):
    """Adds ``zero_point``, the number that means 0 in the layer's output, and ``range``, which a fused activation limits."""

    zero_point: Int8
    range: Limits = (LOWEST, HIGHEST)


class ConvolutionSpec(Int8OutputSpec):
    """The keys of a convolution of either kind."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: ImagePadding = "same"


@dataclass(frozen=True)
class Int8Op(Op):
    """A frozen layer that reads or writes int8.

    ``zero_point``: the number that means 0 in the output. ``input_zero_points``: that of each tensor that it reads, which the
    graph knows.
    """

    frozen: bool = True
    zero_point: int = 0
    input_zero_points: tuple[int, ...] = ()

    template: ClassVar[str] = "int8.hpp.j2"
    reads_int8: ClassVar[bool] = True
    writes_int8: ClassVar[bool] = True

    def reading(self, zero_points: tuple[int | None, ...]) -> Self:
        """This op on tensors with these zero points; None is a tensor of float32.

        Raises:
            OpError: A tensor has the wrong type.
        """
        if self.reads_int8 and None in zero_points:
            raise OpError(f"{self.kind} computes in int8 and would read float32; put {{ op = 'quantize' }} between them")
        if not self.reads_int8 and zero_points != (None,):
            raise OpError(f"{self.kind} would read int8; leave it out")
        return dataclasses.replace(self, input_zero_points=tuple(point for point in zero_points if point is not None))

    def backward_reads(self) -> str:
        """Nothing: a frozen layer over int8 has no backward."""
        return ""

    def cpp_zero_points(self) -> str:
        """Zero points of the inputs and of the output as C++ template arguments."""
        inputs = ", ".join(f"/*input_zero=*/{point}" for point in self.input_zero_points)
        return f"{inputs}, /*zero=*/{self.zero_point}"


@dataclass(frozen=True)
class WindowInt8(Int8Op):
    """An op that makes an output of each window of an image; ``limits``: the lowest and the highest one."""

    rows: Axis = SINGLE
    columns: Axis = SINGLE
    limits: Limits = (LOWEST, HIGHEST)

    @staticmethod
    def axes(spec: ConvolutionSpec, input_shape: Shape) -> tuple[Axis, Axis]:
        """Rows and columns of a convolution's windows. Raises OpError where the kernel does not fit on the image."""
        of_axes = zip(input_shape, spec.kernel, spec.stride, margins_of_axes(spec.padding), strict=False)
        rows, columns = (Axis.build(*axis) for axis in of_axes)
        return rows, columns


def cpp_limits(limits: tuple[int, int]) -> str:
    """The limits of an output as C++ template arguments."""
    return f"/*low=*/{limits[0]}, /*high=*/{limits[1]}"


def weights(kernel: Shape, outputs: int, terms: int, scale: tuple[str, ...] = ("multiplier",)) -> tuple[Parameter, ...]:
    """The constants of a layer with weights: its kernel, and a bias and a scale for each output channel.

    ``terms``: products that are added for one output. ``scale``: the int32 parts of an output's scale, beside its shift. Raises
    OpError if the sum may not fit into 32 bits.
    """
    if terms > _MOST_TERMS:
        raise OpError(f"{terms} products per output, whose sum may not fit into 32 bits; at most {_MOST_TERMS} are supported")
    return (
        Parameter("kernel", kernel, terms, terms, dtype="int8"),
        *(Parameter(name, (outputs,), terms, terms, dtype="int32") for name in ("bias", *scale)),
        Parameter("shift", (outputs,), terms, terms, dtype="int8"),
    )


def image(input_shape: Shape, kind: str) -> Shape:
    """The shape itself if it is [height, width, channels]. Raises OpError for any other shape."""
    if len(input_shape) != 3:
        raise OpError(f"{kind} expects [height, width, channels], not {list(input_shape)}")
    return input_shape


def cpp_axes(rows: Axis, columns: Axis) -> str:
    """Both axes as C++ template arguments."""
    return f"{rows.cpp_type()}, {columns.cpp_type()}"
