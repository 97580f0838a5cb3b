"""Hard swish as a layer or an activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .elementwise import Elementwise
from .layer import LayerSpec


class HardSwishSpec(LayerSpec):
    """x times the hard sigmoid of x."""


@dataclass(frozen=True)
class HardSwish(Elementwise):
    """x times the hard sigmoid of x."""

    kind: ClassVar[str] = "hard_swish"
    spec: ClassVar[type[LayerSpec]] = HardSwishSpec
    header: ClassVar[str] = "hard_swish.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (120, 130)
    function: ClassVar[str] = "HardSwish"

    def backward_reads(self) -> str:
        """The input x: the derivative does not follow from the output."""
        return "x"
