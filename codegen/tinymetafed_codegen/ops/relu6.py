"""ReLU6 as a layer or an activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .elementwise import Elementwise
from .layer import LayerSpec


class Relu6Spec(LayerSpec):
    """min(max(0, x), 6)."""


@dataclass(frozen=True)
class Relu6(Elementwise):
    """min(max(0, x), 6)."""

    kind: ClassVar[str] = "relu6"
    spec: ClassVar[type[LayerSpec]] = Relu6Spec
    header: ClassVar[str] = "relu6.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (60, 60)
    function: ClassVar[str] = "Relu6"
