"""PReLU: a ReLU whose slope below 0 is trained, one slope per channel, the last axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from .layer import LayerSpec
from .op import Op, Parameter, Shape


class PReluSpec(LayerSpec):
    """x where x > 0, slope x elsewhere; the slopes are global unless ``local`` or ``frozen``."""

    local: bool = False
    frozen: bool = False


@dataclass(frozen=True)
class PRelu(Op):
    """x where x > 0, slope x elsewhere. Source: He et al. 2015, section 2.1."""

    kind: ClassVar[str] = "prelu"
    spec: ClassVar[type[LayerSpec]] = PReluSpec
    header: ClassVar[str] = "prelu.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (90, 130, 130)
    fuses_backward: ClassVar[bool] = True
    template: ClassVar[str] = "weighted.hpp.j2"
    in_place: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: PReluSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of any shape."""
        slope = Parameter("slope", input_shape[-1:], fan_in=1, fan_out=1, starts_at=0.25)
        return cls(name, input_shape, input_shape, (slope,), spec.local, spec.frozen)

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        channels = self.input_shape[-1]
        return f"kernels::PRelu</*pixels=*/{math.prod(self.input_shape) // channels}, /*channels=*/{channels}>"
