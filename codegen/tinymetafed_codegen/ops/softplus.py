"""Softplus as a layer or an activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .elementwise import Elementwise
from .layer import LayerSpec


class SoftplusSpec(LayerSpec):
    """log(1 + e^x)."""


@dataclass(frozen=True)
class Softplus(Elementwise):
    """log(1 + e^x)."""

    kind: ClassVar[str] = "softplus"
    spec: ClassVar[type[LayerSpec]] = SoftplusSpec
    header: ClassVar[str] = "softplus.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (400, 240)
    function: ClassVar[str] = "Softplus"
