"""Affine layer: y = x * kernel + bias, one kernel value and one bias per channel, the last axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from .layer import LayerSpec
from .op import Op, Parameter, Shape, tile
from .weighted import WeightedSpec


class AffineSpec(WeightedSpec):
    """x * kernel + bias per channel; without given weights the layer starts as the identity."""


@dataclass(frozen=True)
class Affine(Op):
    """Scales and shifts each channel; for instance a batch normalisation with fixed statistics, or that of the input."""

    kind: ClassVar[str] = "affine"
    spec: ClassVar[type[LayerSpec]] = AffineSpec
    header: ClassVar[str] = "affine.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (140, 330, 520)
    tiled: ClassVar[bool] = True
    fuses_backward: ClassVar[bool] = True
    template: ClassVar[str] = "weighted.hpp.j2"
    can_fuse_relu: ClassVar[bool] = True
    can_mask_input: ClassVar[bool] = True
    in_place: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: AffineSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of any shape."""
        channels = input_shape[-1]
        parameters = (
            Parameter("kernel", (channels,), fan_in=1, fan_out=1, starts_at=1.0),
            Parameter("bias", (channels,), fan_in=1, fan_out=1),
        )
        return cls(name, input_shape, input_shape, parameters, spec.local, spec.frozen, spec.activation == "relu")

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        channels = self.input_shape[-1]
        pixels = math.prod(self.input_shape) // channels
        return (
            f"kernels::Affine</*pixels=*/{pixels}, /*channels=*/{channels}, /*relu=*/{str(self.relu).lower()}, "
            f"/*tile=*/{tile(channels)}>"
        )
