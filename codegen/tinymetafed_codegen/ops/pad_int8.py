"""Zeros around an int8 image: the layer PAD of a quantised TensorFlow Lite file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import Field

from .int8 import Int8Op, image
from .layer import LayerSpec
from .op import Shape

_Count = Annotated[int, Field(ge=0, le=1_024)]
_Margins = Annotated[tuple[_Count, _Count], Field(strict=False)]


class PadInt8Spec(LayerSpec):
    """``margins`` are the zeros around the image: [[top, bottom], [left, right]]."""

    margins: Annotated[tuple[_Margins, _Margins], Field(strict=False)]


@dataclass(frozen=True)
class PadInt8(Int8Op):
    """A larger image with the scale and the zero point of the input."""

    margins: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))

    kind: ClassVar[str] = "pad_int8"
    spec: ClassVar[type[LayerSpec]] = PadInt8Spec
    header: ClassVar[str] = "pad_int8.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (140,)

    @classmethod
    def build(cls, spec: PadInt8Spec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of shape [height, width, channels]. Raises OpError for any other shape."""
        height, width, channels = image(input_shape, cls.kind)
        rows, columns = spec.margins
        shape = (height + sum(rows), width + sum(columns), channels)
        return cls(name, input_shape, shape, margins=spec.margins)

    def reading(self, zero_points: tuple[int | None, ...]) -> Self:
        """This layer on a tensor with this zero point, which its output has too. Raises OpError for float32."""
        read = super().reading(zero_points)
        return dataclasses.replace(read, zero_point=read.input_zero_points[0])

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        height, width, channels = self.input_shape
        (top, bottom), (left, right) = self.margins
        return (
            f"kernels::PadInt8</*height=*/{height}, /*width=*/{width}, /*channels=*/{channels}, /*top=*/{top}, "
            f"/*bottom=*/{bottom}, /*left=*/{left}, /*right=*/{right}, /*zero=*/{self.zero_point}>"
        )
