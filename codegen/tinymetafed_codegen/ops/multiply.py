"""Multiply: the product of two layers, value by value, or with one factor per channel (squeeze and excitation) or per pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from .layer import LayerSpec
from .merge import Derivative, Merge, MergeSpec
from .op import Op, OpError, Shape


class MultiplySpec(MergeSpec):
    """The product of the layer before this one and the layers named in ``with``."""


@dataclass(frozen=True)
class _Walk:
    """How far the factors of neighbouring pixels and of neighbouring channels are apart in memory; 0: one factor for both."""

    pixel: int
    channel: int


def _walk(shape: Shape, whole: Shape) -> _Walk | None:
    """How the factors of ``shape`` lie along the product's values; None if that is neither per channel nor per pixel."""
    padded = (1,) * (len(whole) - len(shape)) + shape
    if padded == whole:
        return _Walk(whole[-1], 1)
    if padded == (*(1,) * (len(whole) - 1), whole[-1]):
        return _Walk(0, 1)
    if padded == (*whole[:-1], 1):
        return _Walk(1, 0)
    return _Walk(0, 0) if math.prod(padded) == 1 and len(padded) == len(whole) else None


@dataclass(frozen=True)
class Multiply(Merge):
    """y = x * other. One of the two may have fewer values: one per channel, one per pixel or a single one."""

    other_shape: Shape = ()

    kind: ClassVar[str] = "multiply"
    spec: ClassVar[type[LayerSpec]] = MultiplySpec
    header: ClassVar[str] = "multiply.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (110,)
    in_place: ClassVar[bool] = True

    @classmethod
    def of(cls, spec: MultiplySpec, name: str, input_shape: Shape, other: str, other_shape: Shape) -> Self:
        """Makes the op. Raises OpError where the shapes do not fit together."""
        for whole in (input_shape, other_shape):
            if _walk(input_shape, whole) and _walk(other_shape, whole):
                return cls(name, input_shape, whole, other=other, other_shape=other_shape)
        raise OpError(
            "multiply expects two equal shapes, or one factor per channel (the last axis) or per pixel, not "
            f"{list(input_shape)} and {list(other_shape)} of '{other}'"
        )

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return _product_type(self.input_shape, self.other_shape, self.output_shape)

    def derivatives(self) -> tuple[Derivative, Derivative]:
        """The product of dy with the other input, summed up where an input has fewer values than dy."""
        y = self.output_shape
        return (
            Derivative(_gradient(self.input_shape, self.other_shape, y), "other"),
            Derivative(_gradient(self.other_shape, self.input_shape, y), "x"),
        )


@dataclass(frozen=True)
class FactorGradient(Op):
    """The gradient of factors per channel or per pixel: the sums of dy * x over all values that a factor applies to."""

    kind: ClassVar[str] = "factor_gradient"
    header: ClassVar[str] = "multiply.hpp"
    template: ClassVar[str] = "merge.hpp.j2"
    flash_bytes: ClassVar[tuple[int, ...]] = (150,)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        walk = _walk(self.output_shape, self.input_shape)
        assert walk is not None
        channels = self.input_shape[-1]
        return (
            f"kernels::FactorGradient</*pixels=*/{math.prod(self.input_shape) // channels}, /*channels=*/{channels}, "
            f"/*factors=*/{math.prod(self.output_shape)}, /*next_pixel=*/{walk.pixel}, /*next_channel=*/{walk.channel}>"
        )


def _gradient(of: Shape, other: Shape, y: Shape) -> Op:
    if math.prod(of) < math.prod(y):
        return FactorGradient("", y, of)
    return Multiply("", y, y, other_shape=other)


def _product_type(a: Shape, b: Shape, y: Shape) -> str:
    walks = [walk for walk in (_walk(a, y), _walk(b, y)) if walk is not None]
    steps = ", ".join(f"{walk.pixel}, {walk.channel}" for walk in walks)
    return f"kernels::Multiply</*pixels=*/{math.prod(y) // y[-1]}, /*channels=*/{y[-1]}, /*next_pixel_and_channel=*/{steps}>"
