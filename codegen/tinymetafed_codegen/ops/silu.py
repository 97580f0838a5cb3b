"""SiLU, also called swish, as a layer or an activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .elementwise import Elementwise
from .layer import LayerSpec


class SiluSpec(LayerSpec):
    """x / (1 + e^-x)."""


@dataclass(frozen=True)
class Silu(Elementwise):
    """x / (1 + e^-x)."""

    kind: ClassVar[str] = "silu"
    spec: ClassVar[type[LayerSpec]] = SiluSpec
    header: ClassVar[str] = "silu.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (190, 210)
    function: ClassVar[str] = "Silu"

    def backward_reads(self) -> str:
        """The input x: the derivative does not follow from the output."""
        return "x"
