"""Activations in float16: rounded when they are computed, and packed while they wait for the backward pass; no layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .op import Op


@dataclass(frozen=True)
class HalfOp(Op):
    """An op over a float32 tensor whose numbers float16 represents, or will represent."""

    header: ClassVar[str] = "half_tensor.hpp"
    cpp_template: ClassVar[str]  # name of the C++ template of the kernel

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        return f"kernels::{self.cpp_template}</*size=*/{math.prod(self.input_shape)}>"


@dataclass(frozen=True)
class RoundToHalf(HalfOp):
    """Rounds each number of a tensor, in its place, to the nearest that float16 represents; it remains a float32."""

    kind: ClassVar[str] = "round_to_f16"
    flash_bytes: ClassVar[tuple[int, ...]] = (26,)
    cpp_template: ClassVar[str] = "RoundToHalf"


@dataclass(frozen=True)
class PackHalf(HalfOp):
    """Packs rounded numbers into half the memory, without loss."""

    kind: ClassVar[str] = "pack_f16"
    flash_bytes: ClassVar[tuple[int, ...]] = (46,)
    cpp_template: ClassVar[str] = "PackHalf"


@dataclass(frozen=True)
class UnpackHalf(HalfOp):
    """The float32 numbers of a packed tensor."""

    kind: ClassVar[str] = "unpack_f16"
    flash_bytes: ClassVar[tuple[int, ...]] = (38,)
    cpp_template: ClassVar[str] = "UnpackHalf"
