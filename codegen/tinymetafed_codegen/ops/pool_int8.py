"""Pools in integer arithmetic: the largest value or the mean of each window over int8 [height, width, channels]."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Self

from .int8 import HIGHEST, LOWEST, Limits, WindowInt8, cpp_axes, cpp_limits, image
from .layer import LayerSpec
from .op import Shape
from .window import Axis, Padding, Pair


class PoolInt8Spec(LayerSpec):
    """The keys of a pool; ``stride`` is ``size`` by default, so that windows do not overlap."""

    size: Pair
    stride: Pair | None = None
    padding: Padding = "valid"
    range: Limits = (LOWEST, HIGHEST)


@dataclass(frozen=True)
class PoolInt8(WindowInt8):
    """One value per window and channel, with the scale and the zero point of the input."""

    spec: ClassVar[type[LayerSpec]] = PoolInt8Spec
    header: ClassVar[str] = "pool_int8.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (220,)
    cpp_template: ClassVar[str]  # name of the C++ template of the kernels

    @classmethod
    def build(cls, spec: PoolInt8Spec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of shape [height, width, channels]. Raises OpError for any other shape."""
        *_, channels = image(input_shape, cls.kind)
        stride = spec.stride or spec.size
        rows, columns = (Axis.build(*axis, spec.padding) for axis in zip(input_shape, spec.size, stride, strict=False))
        shape = (rows.outputs, columns.outputs, channels)
        return cls(name, input_shape, shape, rows=rows, columns=columns, limits=spec.range)

    def reading(self, zero_points: tuple[int | None, ...]) -> Self:
        """This pool on a tensor with this zero point, which its output has too. Raises OpError for float32."""
        read = super().reading(zero_points)
        return dataclasses.replace(read, zero_point=read.input_zero_points[0])

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return (
            f"kernels::{self.cpp_template}<{cpp_axes(self.rows, self.columns)}, /*channels=*/{self.input_shape[-1]}, "
            f"{cpp_limits(self.limits)}>"
        )


@dataclass(frozen=True)
class MaxPoolInt8(PoolInt8):
    """The largest value of each window."""

    kind: ClassVar[str] = "max_pool_int8"
    cpp_template: ClassVar[str] = "MaxPoolInt8"


@dataclass(frozen=True)
class AvgPoolInt8(PoolInt8):
    """The mean of each window, rounded; halves away from zero."""

    kind: ClassVar[str] = "avg_pool_int8"
    cpp_template: ClassVar[str] = "AvgPoolInt8"
