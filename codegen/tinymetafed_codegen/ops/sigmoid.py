"""Sigmoid as a layer or an activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .elementwise import Elementwise
from .layer import LayerSpec


class SigmoidSpec(LayerSpec):
    """1 / (1 + e^-x)."""


@dataclass(frozen=True)
class Sigmoid(Elementwise):
    """1 / (1 + e^-x)."""

    kind: ClassVar[str] = "sigmoid"
    spec: ClassVar[type[LayerSpec]] = SigmoidSpec
    header: ClassVar[str] = "sigmoid.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (120, 60)
    function: ClassVar[str] = "Sigmoid"
