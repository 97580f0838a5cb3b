"""Clipping by norm: what ``model.clip_norm`` puts before the backward of every layer that trains; no layer of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .base import Op, float_bits


@dataclass(frozen=True)
class ClipNorm(Op):
    """A gradient shortened to a norm of at most ``limit``."""

    limit: float = 0.0

    kind: ClassVar[str] = "clip_norm"
    flash_bytes: ClassVar[tuple[int, ...]] = (200,)
    header: ClassVar[str] = "clip_norm.hpp"
    in_place: ClassVar[bool] = True

    def kernel(self) -> str:
        """The C++ type of its kernels."""
        return f"kernels::ClipNorm</*size=*/{math.prod(self.input_shape)}, /*limit=*/{float_bits(self.limit)}>"
