"""ReLU as a layer; directly after a layer with weights it is fused into that layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .elementwise import Elementwise
from .layer import LayerSpec


class ReluSpec(LayerSpec):
    """max(0, x)."""


@dataclass(frozen=True)
class Relu(Elementwise):
    """max(0, x)."""

    kind: ClassVar[str] = "relu"
    spec: ClassVar[type[LayerSpec]] = ReluSpec
    header: ClassVar[str] = "relu.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (60, 60)
    function: ClassVar[str] = "Relu"
