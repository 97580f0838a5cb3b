"""Hyperbolic tangent as a layer or an activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .elementwise import Elementwise
from .layer import LayerSpec


class TanhSpec(LayerSpec):
    """Hyperbolic tangent."""


@dataclass(frozen=True)
class Tanh(Elementwise):
    """tanh x."""

    kind: ClassVar[str] = "tanh"
    spec: ClassVar[type[LayerSpec]] = TanhSpec
    header: ClassVar[str] = "tanh.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (220, 60)
    function: ClassVar[str] = "Tanh"
