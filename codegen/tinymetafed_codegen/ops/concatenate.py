"""Concatenate: the layer before and named earlier layers one after the other along an axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import Field

from .layer import LayerSpec
from .merge import Derivative, Merge, MergeSpec
from .op import Op, OpError, Shape


class ConcatenateSpec(MergeSpec):
    """The layer before this one, then the layers named in ``with``, along ``axis``: by default the last one, the channels."""

    axis: Annotated[int, Field(ge=-3, le=2)] = -1


@dataclass(frozen=True)
class Concatenate(Merge):
    """The values of x, then those of other along ``axis``, which is counted from the last one, -1."""

    other_shape: Shape = ()
    axis: int = -1

    kind: ClassVar[str] = "concatenate"
    spec: ClassVar[type[LayerSpec]] = ConcatenateSpec
    header: ClassVar[str] = "concatenate.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (100,)

    @classmethod
    def of(cls, spec: ConcatenateSpec, name: str, input_shape: Shape, other: str, other_shape: Shape) -> Self:
        """Makes the op. Raises OpError where another axis differs, or there is no such axis."""
        rank = len(input_shape)
        axis = spec.axis - rank if spec.axis >= 0 else spec.axis
        if not -rank <= axis < 0:
            raise OpError(f"axis = {spec.axis}: {list(input_shape)} has no such axis")
        place = rank + axis
        if len(other_shape) != rank or any(
            own != given for k, (own, given) in enumerate(zip(input_shape, other_shape, strict=True)) if k != place
        ):
            raise OpError(
                f"concatenate expects shapes that are equal but for axis {spec.axis}, not {list(input_shape)} and "
                f"{list(other_shape)} of '{other}'"
            )
        output = (*input_shape[:place], input_shape[place] + other_shape[place], *input_shape[place + 1 :])
        return cls(name, input_shape, output, other=other, other_shape=other_shape, axis=axis)

    @property
    def _sizes(self) -> tuple[int, int]:
        """The neighbouring values that come from x, and those that come from other."""
        return math.prod(self.input_shape[self.axis :]), math.prod(self.other_shape[self.axis :])

    @property
    def _times(self) -> int:
        return math.prod(self.output_shape) // sum(self._sizes)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        first, second = self._sizes
        return f"kernels::Concatenate</*times=*/{self._times}, /*first=*/{first}, /*second=*/{second}>"

    def derivatives(self) -> tuple[Derivative, Derivative]:
        """The parts of dy."""
        first, second = self._sizes
        whole = first + second
        return (
            Derivative(Slice("", self.output_shape, self.input_shape, whole=whole, start=0, size=first)),
            Derivative(Slice("", self.output_shape, self.other_shape, whole=whole, start=first, size=second)),
        )


@dataclass(frozen=True)
class Slice(Op):
    """The gradient of one input of a concatenation: ``size`` values, from ``start`` on, of each ``whole`` of dy."""

    whole: int = 0
    start: int = 0
    size: int = 0

    kind: ClassVar[str] = "slice"
    header: ClassVar[str] = "concatenate.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (80,)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        times = math.prod(self.output_shape) // self.size
        return f"kernels::Slice</*times=*/{times}, /*whole=*/{self.whole}, /*start=*/{self.start}, /*size=*/{self.size}>"
