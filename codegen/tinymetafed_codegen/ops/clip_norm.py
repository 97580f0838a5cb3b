"""Clipping by norm: ``model.clip_norm`` inserts it before the backward of every layer that trains; it cannot be a layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .op import Op, float_bits


@dataclass(frozen=True)
class ClipNorm(Op):
    """Scales a gradient down to an L2 norm of at most ``limit``."""

    limit: float = 0.0

    kind: ClassVar[str] = "clip_norm"
    flash_bytes: ClassVar[tuple[int, ...]] = (200,)
    header: ClassVar[str] = "clip_norm.hpp"
    in_place: ClassVar[bool] = True

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return f"kernels::ClipNorm</*size=*/{math.prod(self.input_shape)}, /*limit=*/{float_bits(self.limit)}>"
